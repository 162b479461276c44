//! The safety net: slowly, by one worker at a time, look for undecided workflows that have been forgotten, and nudge
//! them. Every nudge is a defect to look into; with sound mechanisms there are none.
//!
//! The sweep is itself a wake-up call: whoever takes `due.sweep` is the one, sets the next call and acks. What is known
//! from the last pass of this worker is kept, so that a pass reads only what is new.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::HeaderMap;
use bytes::Bytes;
use common::{
    headers,
    ids::WorkflowRef,
    nats::{Journal, Nats, Outgoing, read},
    streams::StreamName,
    subject::Subject,
    time::{self, Timestamp, after},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::timers::Timers;

/// A nudge that did not help is repeated after twice as long, so many times: a workflow that no nudge can help, such as
/// one in quarantine, is then nudged every day and a half, and does not fill the dead letters.
const MOST_DOUBLINGS: u32 = 10;

/// Looks in a row, one every interval, that find no new call for the next sweep before it is set anew: there is none while a
/// sweep runs, and one too many only sweeps twice.
const LOOKS_WITHOUT_A_NEW_CALL: u32 = 3;

/// Records that one request of a pass reads.
const STRETCH: usize = 1_000;

const PATIENCE: Duration = Duration::from_secs(15);

/// The sweep of one worker.
#[derive(Debug, Clone)]
pub struct Sweep {
    timers: Timers,
    commands: Journal,
    interval: Duration,
    forgotten_after: Duration,
    known: Arc<Mutex<Known>>,
}

/// What the passes so far have found.
#[derive(Debug, Default)]
struct Known {
    /// In each part of the histories; nothing before the first pass.
    read_up_to: Vec<u64>,
    open: HashMap<WorkflowRef, Open>,
}

/// A workflow that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    /// The place of the part that it is in.
    part: usize,
    last_sequence: u64,
    last_record_at: Timestamp,
    wait_until: Option<Timestamp>,
    waits_for_a_message: bool,
    /// How often it was nudged since its last record.
    nudges: u32,
}

/// The body of the next call: where a worker without knowledge may begin to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// No workflow that is open has its last record below this sequence.
    open_from: u64,
    /// The same for the further parts of the histories, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further_open_from: Vec<u64>,
}

impl Mark {
    const NOTHING_KNOWN: Self = Self { open_from: 1, further_open_from: Vec::new() };

    fn of(open_from: &[u64]) -> Self {
        match open_from {
            [first, further @ ..] => Self { open_from: *first, further_open_from: further.to_vec() },
            [] => Self::NOTHING_KNOWN,
        }
    }

    /// Where to begin in so many parts.
    fn open_from(&self, parts: usize) -> Vec<u64> {
        let known = std::iter::once(self.open_from).chain(self.further_open_from.iter().copied());
        known.chain(std::iter::repeat(1)).take(parts).collect()
    }
}

/// Who has sent a nudge: a worker whose wake-up call cannot be told now sends one, too, and there nobody was forgotten.
pub const SWEEPER: &str = "sweep";

/// The command that has a workflow look at itself; every kind knows it.
const NUDGE: &str = r#"{"type":"nudge"}"#;

impl Sweep {
    /// A sweep that begins anew every `interval`, and nudges what is late by more than `forgotten_after`.
    #[must_use]
    pub fn new(nats: &Nats, timers: Timers, interval: Duration, forgotten_after: Duration) -> Self {
        let commands = Journal::start(nats.clone(), StreamName::Commands, PATIENCE);
        Self { timers, commands, interval, forgotten_after, known: Arc::default() }
    }

    /// See to it that there is a next sweep, when a worker starts. An earlier call is only moved.
    ///
    /// # Errors
    /// When the call cannot be read or set.
    pub async fn arm(&self, nats: &Nats) -> anyhow::Result<()> {
        let mark = last_mark(nats).await?;
        // Nobody has told the time yet; a call that goes off too early or too late only moves the first sweep.
        self.set_next(&mark, time::now()).await
    }

    /// See to it that there is a next sweep for as long as this worker lives: whoever purges `TIMERS` takes its call away
    /// with all the others, and then nothing but the sweep would find their workflows. A call that is there and does not go off
    /// is no better.
    pub async fn keep_armed(&self, nats: &Nats) -> std::convert::Infallible {
        let (mut known, mut without_a_new_one) = (None, 0);
        loop {
            tokio::time::sleep(self.interval).await;
            // When the server cannot say, nothing is known.
            let Ok(call) = read::last(nats, StreamName::Timers, &Subject::SweepTimer).await else { continue };
            let call = call.map(|call| call.sequence);
            without_a_new_one = if call.is_none() || call == known { without_a_new_one + 1 } else { 0 };
            known = call;
            if without_a_new_one < LOOKS_WITHOUT_A_NEW_CALL {
                continue;
            }
            without_a_new_one = 0;
            tracing::warn!(call, "the next sweep's call is gone from TIMERS or does not go off; setting it again");
            if let Err(error) = self.arm(nats).await {
                tracing::warn!(error = format!("{error:#}"), "could not set the next sweep's call; trying again later");
            }
        }
    }

    /// One pass for the call that has gone off `at`; then the next is set.
    ///
    /// The server's time counts, not this worker's: with a clock that runs ahead, everything would look forgotten, and with
    /// one that is behind, the next call would go off at once, again and again.
    ///
    /// # Errors
    /// When the histories cannot be read or a nudge cannot be sent; the pass is tried again.
    pub async fn run(&self, nats: &Nats, at: Timestamp) -> anyhow::Result<()> {
        let mut known = self.known.lock().await;
        if known.read_up_to.is_empty() {
            let parts = nats.shards.streams(StreamName::History).count();
            let open_from = last_mark(nats).await?.open_from(parts);
            known.read_up_to = open_from.into_iter().map(|from| from.saturating_sub(1)).collect();
        }
        let read = read_on(nats, &mut known).await?;
        let forgotten = forgotten(&known.open, at, self.forgotten_after);
        for (workflow, open) in &forgotten {
            tracing::error!(
                kind = workflow.kind.as_str(),
                id = %workflow.id,
                last_record = %open.last_record_at,
                nudges_before = open.nudges,
                "a workflow was forgotten: nudged it; please report this with its history"
            );
            metrics::counter!("sweep_nudges_total", "kind" => workflow.kind.as_str()).increment(1);
            self.nudge(*workflow).await?;
            if let Some(open) = known.open.get_mut(workflow) {
                open.nudges = open.nudges.saturating_add(1);
            }
        }
        gauge_open(&known.open);
        tracing::debug!(read, open = known.open.len(), nudged = forgotten.len(), "swept");
        self.set_next(&known.mark(), at).await
    }

    async fn nudge(&self, workflow: WorkflowRef) -> anyhow::Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, "nudge");
        headers.insert(headers::SENDER, SWEEPER);
        let outgoing = Outgoing {
            subject: Subject::Command(workflow),
            headers,
            payload: Bytes::from_static(NUDGE.as_bytes()),
            expected: None,
        };
        common::crash_point!("worker.sweep.before_nudge");
        self.commands.append(outgoing).await.with_context(|| format!("nudge {workflow}"))?;
        common::crash_point!("worker.sweep.after_nudge");
        Ok(())
    }

    async fn set_next(&self, mark: &Mark, now: Timestamp) -> anyhow::Result<()> {
        let payload = serde_json::to_vec(mark)?.into();
        let at = after(now, self.interval);
        self.timers.set_sweep(at, payload).await.context("set the next sweep")
    }
}

impl Known {
    /// Where whoever knows nothing may begin.
    fn mark(&self) -> Mark {
        let mut open_from: Vec<u64> = self.read_up_to.iter().map(|sequence| sequence + 1).collect();
        for open in self.open.values() {
            if let Some(from) = open_from.get_mut(open.part) {
                *from = open.last_sequence.min(*from);
            }
        }
        Mark::of(&open_from)
    }
}

/// The mark of the newest call, set or gone off.
async fn last_mark(nats: &Nats) -> anyhow::Result<Mark> {
    for subject in [Subject::SweepTimer, Subject::SweepDue] {
        let call = read::last(nats, StreamName::Timers, &subject).await.context("read the last sweep's mark")?;
        if let Some(mark) = call.and_then(|call| serde_json::from_slice::<Mark>(&call.payload).ok()) {
            return Ok(mark);
        }
    }
    Ok(Mark::NOTHING_KNOWN)
}

/// Read the records that are new, and keep what is open.
async fn read_on(nats: &Nats, known: &mut Known) -> anyhow::Result<usize> {
    let Known { read_up_to, open } = known;
    let mut read = 0;
    for (part, (stream, read_up_to)) in nats.shards.streams(StreamName::History).zip(read_up_to).enumerate() {
        let mut more = true;
        while more {
            let stretch = read::stretch(nats, stream, *read_up_to + 1, STRETCH, "history.>");
            let stretch = stretch.await.context("read the histories")?;
            read += stretch.messages.len();
            for record in &stretch.messages {
                *read_up_to = record.sequence;
                let Ok(Subject::History(workflow)) = record.subject.parse() else { continue };
                match opened(record, part) {
                    Some(still_open) => open.insert(workflow, still_open),
                    None => open.remove(&workflow),
                };
            }
            more = stretch.more;
        }
    }
    Ok(read)
}

/// What a record's headers say of its workflow; `None` when it is done.
fn opened(record: &read::Stored, part: usize) -> Option<Open> {
    let header = |name: async_nats::HeaderName| record.headers.get(name).map(async_nats::HeaderValue::as_str);
    let next = header(headers::NEXT).unwrap_or("run");
    (next != "done").then(|| Open {
        part,
        last_sequence: record.sequence,
        last_record_at: record.time,
        wait_until: header(headers::WAIT_UNTIL).and_then(|until| until.parse().ok()),
        waits_for_a_message: next == "wait",
        nudges: 0,
    })
}

/// What should have moved long ago, and was not nudged lately.
fn forgotten(open: &HashMap<WorkflowRef, Open>, now: Timestamp, forgotten_after: Duration) -> Vec<(WorkflowRef, Open)> {
    let is_forgotten = |open: &Open| {
        let patience = forgotten_after.saturating_mul(1 << open.nudges.min(MOST_DOUBLINGS));
        match open.wait_until {
            Some(until) => after(until.max(open.last_record_at), patience) < now,
            None => !open.waits_for_a_message && after(open.last_record_at, patience) < now,
        }
    };
    open.iter().filter(|(_, open)| is_forgotten(open)).map(|(workflow, open)| (*workflow, *open)).collect()
}

fn gauge_open(open: &HashMap<WorkflowRef, Open>) {
    for kind in common::ids::WorkflowKind::ALL {
        let count = open.keys().filter(|workflow| workflow.kind == kind).count();
        metrics::gauge!("workflows_open", "kind" => kind.as_str()).set(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{WorkflowId, WorkflowKind};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number")
    }

    fn one(wait_until: Option<i64>, waits_for_a_message: bool, nudges: u32) -> HashMap<WorkflowRef, Open> {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
        let (part, last_sequence, last_record_at, wait_until) = (0, 1, at(1_000), wait_until.map(at));
        let open = Open { part, last_sequence, last_record_at, wait_until, waits_for_a_message, nudges };
        HashMap::from([(workflow, open)])
    }

    fn is_forgotten(open: &HashMap<WorkflowRef, Open>, second: i64) -> bool {
        !forgotten(open, at(second), Duration::from_secs(120)).is_empty()
    }

    #[test]
    fn only_what_is_late_by_more_than_the_patience_is_forgotten() {
        assert!(!is_forgotten(&one(Some(2_000), true, 0), 2_120));
        assert!(is_forgotten(&one(Some(2_000), true, 0), 2_121));
        assert!(!is_forgotten(&one(None, false, 0), 1_120));
        assert!(is_forgotten(&one(None, false, 0), 1_121));
    }

    #[test]
    fn what_waits_for_a_message_without_a_deadline_is_not_forgotten() {
        assert!(!is_forgotten(&one(None, true, 0), 1_000_000));
    }

    #[test]
    fn the_next_worker_begins_at_the_oldest_that_is_open_in_each_part() {
        let mut known = Known { read_up_to: vec![70, 80], open: one(None, true, 0) };
        assert_eq!(known.mark(), Mark { open_from: 1, further_open_from: vec![81] });
        known.open.clear();
        let mark = known.mark();
        assert_eq!(mark.open_from(2), [71, 81]);
        assert_eq!(mark.open_from(3), [71, 81, 1], "of a part that is new nothing is known");
        assert_eq!(Mark::NOTHING_KNOWN.open_from(1), [1]);
        let of_before: Mark = serde_json::from_str(r#"{"open_from":7}"#).expect("a mark");
        assert_eq!(of_before.open_from(1), [7]);
    }

    #[test]
    fn a_nudge_that_did_not_help_is_repeated_ever_more_rarely() {
        assert!(!is_forgotten(&one(None, false, 1), 1_240));
        assert!(is_forgotten(&one(None, false, 1), 1_241));
        assert!(!is_forgotten(&one(None, false, 3), 1_960));
        assert!(is_forgotten(&one(None, false, 3), 1_961));
        assert!(is_forgotten(&one(None, false, u32::MAX), 1_001 + 120 * 1_024));
    }
}
