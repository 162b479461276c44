//! Wake-up calls: a JetStream schedule on `timer.<kind>.<id>` that becomes a message on `due.<kind>.<id>`, with or
//! without a living worker. A call is a hint; the truth is the time that the history records.
//!
//! Calls that are set in the same moment for almost the same time are one: `timer.group.<id>`, whose body names the
//! workflows. No call is ever taken back. One that nobody needs any more finds a workflow that is done, which costs less than
//! taking back does: with `sync_interval: always` a call that was set and taken back took three synced writes at the server,
//! and one that goes off for a hundred workflows takes three for all of them.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, header};
use bytes::Bytes;
use common::{
    contracts::wake_up::WakeUpCalls,
    headers,
    ids::WorkflowRef,
    nats::{AppendError, Journal, Nats, Outgoing, Publish, journal::Folded},
    streams::{DUE_TTL, SWEEP_DUE_TTL, StreamName},
    subject::Subject,
    time::{Timestamp, after},
};
use uuid::Uuid;

/// As for appends to the history.
const PATIENCE: Duration = Duration::from_secs(15);

/// A call may come so much later than it was set for: nobody who waits for minutes notices, and a worker that is busy sets
/// hundreds of calls in that time.
const SLACK: Duration = Duration::from_millis(250);

/// The namespace of the names of calls for many; made once, at random.
const GROUPS: Uuid = uuid::uuid!("8f0a4b52-6f0e-4d0c-9a4d-3c1c1f0b6e57");

/// Sets wake-up calls; clones share the journal.
#[derive(Debug, Clone)]
pub struct Timers {
    journal: Arc<dyn Publish>,
}

impl Timers {
    /// Open the journal of the wake-up calls.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        Self::over(Arc::new(Journal::folding(nats, StreamName::Timers, PATIENCE, in_groups)))
    }

    /// Wake-up calls that are stored elsewhere, such as in a simulation.
    #[must_use]
    pub fn over(journal: Arc<dyn Publish>) -> Self {
        Self { journal }
    }

    /// Make sure that a workflow is woken at a time, or a quarter of a second later. Gives that time: the call that is known
    /// to be set.
    ///
    /// # Errors
    /// [`AppendError`] when it could not be stored: the workflow must not be left without it.
    pub async fn set(
        &self,
        workflow: WorkflowRef,
        until: Timestamp,
        known: Option<Timestamp>,
    ) -> Result<Timestamp, AppendError> {
        if known != Some(until) {
            let headers = schedule(until, &Subject::Due(workflow), DUE_TTL);
            self.store(Subject::Timer(workflow), headers, Bytes::new()).await?;
        }
        Ok(until)
    }

    /// Set the time of the next sweep, replacing the one that was set before.
    ///
    /// # Errors
    /// [`AppendError`] when it could not be stored.
    pub async fn set_sweep(&self, at: Timestamp, mark: Bytes) -> Result<(), AppendError> {
        self.store(Subject::SweepTimer, schedule(at, &Subject::SweepDue, SWEEP_DUE_TTL), mark).await
    }

    async fn store(&self, subject: Subject, headers: HeaderMap, payload: Bytes) -> Result<(), AppendError> {
        common::crash_point!("worker.timer.before_set");
        self.journal.append(Outgoing { subject, headers, payload, expected: None }).await?;
        common::crash_point!("worker.timer.after_set");
        Ok(())
    }
}

/// Publish to a subject of `TIMERS` at a time; a schedule replaces the one before it on its subject.
fn schedule(at: Timestamp, due: &Subject, ttl: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_SCHEDULE, format!("@at {at}"));
    headers.insert(header::NATS_SCHEDULE_TARGET, due.to_string());
    headers.insert(header::NATS_SCHEDULE_TTL, format!("{}s", ttl.as_secs()));
    headers.insert(headers::SENDER, crate::SERVICE);
    headers
}

/// A workflow's call in a unit of the journal.
struct Call {
    place: usize,
    workflow: WorkflowRef,
    at: Timestamp,
}

impl Call {
    fn read(place: usize, message: &Outgoing) -> Option<Self> {
        let Subject::Timer(workflow) = message.subject else { return None };
        let at = message.headers.get(header::NATS_SCHEDULE)?.as_str().strip_prefix("@at ")?.parse().ok()?;
        Some(Self { place, workflow, at })
    }
}

/// Calls for almost the same time become one, at the latest of their times.
fn in_groups(unit: Vec<Outgoing>) -> Vec<Folded> {
    let alone = |place: usize| Folded { message: unit[place].clone(), places: vec![place] };
    let (mut calls, mut folded) = (Vec::with_capacity(unit.len()), Vec::new());
    for (place, message) in unit.iter().enumerate() {
        match Call::read(place, message) {
            Some(call) => calls.push(call),
            None => folded.push(alone(place)),
        }
    }
    calls.sort_by_key(|call| call.at);
    let mut rest = calls.as_slice();
    while let Some(first) = rest.first() {
        let together = rest.partition_point(|call| call.at <= after(first.at, SLACK));
        let (group, later) = rest.split_at(together);
        rest = later;
        match one_call(group) {
            Some(message) => {
                folded.push(Folded { message, places: group.iter().map(|call| call.place).collect() });
            }
            None => folded.extend(group.iter().map(|call| alone(call.place))),
        }
    }
    folded
}

/// One call for all of these; none for a single one, which stays as it is.
fn one_call(group: &[Call]) -> Option<Outgoing> {
    let latest = group.last().filter(|_| group.len() > 1)?.at;
    let calls = WakeUpCalls { workflows: group.iter().map(|call| call.workflow).collect() };
    let payload = Bytes::from(serde_json::to_vec(&calls).ok()?);
    // A call replaces the one before it on its subject, so no other group and no other time may have the same name.
    let id = Uuid::new_v5(&Uuid::new_v5(&GROUPS, &payload), latest.to_string().as_bytes());
    let headers = schedule(latest, &Subject::DueGroup(id), DUE_TTL);
    Some(Outgoing { subject: Subject::TimerGroup(id), headers, payload, expected: None })
}

#[cfg(test)]
mod tests {
    use common::ids::{WorkflowId, WorkflowKind};

    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).expect("a small number")
    }

    fn call(until: Timestamp) -> Outgoing {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
        let headers = schedule(until, &Subject::Due(workflow), DUE_TTL);
        Outgoing { subject: Subject::Timer(workflow), headers, payload: Bytes::new(), expected: None }
    }

    /// The same workflows, to be woken at another time.
    fn woken_at(unit: &[Outgoing], places: &[usize], until: Timestamp) -> Vec<Outgoing> {
        let of_place = |place: &usize| {
            let Subject::Timer(workflow) = unit[*place].subject else { panic!("a call for one") };
            let headers = schedule(until, &Subject::Due(workflow), DUE_TTL);
            Outgoing { headers, ..unit[*place].clone() }
        };
        places.iter().map(of_place).collect()
    }

    fn schedule_of(message: &Outgoing) -> &str {
        message.headers.get(header::NATS_SCHEDULE).expect("a schedule").as_str()
    }

    #[test]
    fn calls_for_almost_the_same_time_are_one_at_the_latest_of_them() {
        let unit = vec![call(at(1_000)), call(at(9_000)), call(at(1_250)), call(at(1_100))];
        let folded = in_groups(unit.clone());
        let places: Vec<_> = folded.iter().map(|group| group.places.clone()).collect();
        assert_eq!(places, [vec![0, 3, 2], vec![1]]);
        assert_eq!(schedule_of(&folded[0].message), format!("@at {}", at(1_250)));
        let woken: WakeUpCalls = serde_json::from_slice(&folded[0].message.payload).expect("a group");
        let named: Vec<_> = woken.workflows.into_iter().map(Subject::Timer).collect();
        assert_eq!(named, [0, 3, 2].map(|place: usize| unit[place].subject.clone()));
        assert_eq!(folded[1].message.subject, unit[1].subject, "one that stands alone stays as it is");
        let later: Vec<Outgoing> = woken_at(&unit, &[0, 3, 2], at(20_000));
        assert_ne!(
            in_groups(later)[0].message.subject,
            folded[0].message.subject,
            "it does not replace the earlier call"
        );
    }

    #[test]
    fn the_sweep_s_call_is_its_own_and_everything_stands_in_one_place() {
        let sweep = Outgoing {
            subject: Subject::SweepTimer,
            headers: schedule(at(1_000), &Subject::SweepDue, SWEEP_DUE_TTL),
            payload: Bytes::new(),
            expected: None,
        };
        let folded = in_groups(vec![call(at(1_000)), sweep, call(at(1_000))]);
        let mut places: Vec<_> = folded.iter().flat_map(|group| group.places.clone()).collect();
        places.sort_unstable();
        assert_eq!((folded.len(), places), (2, vec![0, 1, 2]));
        assert!(folded.iter().any(|group| group.message.subject == Subject::SweepTimer && group.places == [1]));
    }
}
