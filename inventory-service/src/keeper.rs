//! The loop: take a group, decide it, store it as one message, which is the answer to whoever's goods moved, and answer the
//! others.
//!
//! Nothing is answered that the ledger does not prove: a group's entry is stored before its answers go out, even when nothing
//! moved. So an instance that was paused, or believes to be the active one and is not, can neither move stock nor tell anybody
//! what used to be true. To ask the ledger's leader for the last sequence would not do: a server that led it, was parted from
//! the others and has not heard of the new leader yet tells what used to be true, too (seen when its links were mended, one
//! after another: commands were refused for goods that another instance had reserved meanwhile).

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use common::{
    contracts::inventory::StockLevel,
    crash_point,
    ids::{Sku, WorkflowRef},
    nats::{Nats, append::AppendError},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answers::{Answers, Handled},
    inbox::{Inbox, Incoming},
    journal::{Current, LastUnknown, NotAppended},
    ledger::{Answer, Decision, GroupDecision, Request, movement_name},
    projection::Projection,
    snapshots::Snapshots,
};

/// Half of what a server accepts in one message (1 MiB), so that no reckoning has to be exact.
const MAX_ENTRY_BYTES: usize = 512 * 1024;

/// While nothing comes, the ledger is read on this often, so that a stand-by can take over at once.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Between tries while the server cannot be asked.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(500);

/// How long a stop waits for the group in hand. What is not acked then comes again.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a stop may take after that, all of it together. Whoever stops services kills them after 30 s or less, and with
/// NATS away none of it can be done: commands come again, stock levels are compared at the next start, and the snapshot
/// only makes that start quicker.
const FINISH_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Keeper {
    nats: Nats,
    current: Current,
    inbox: Inbox,
    answers: Answers,
    projection: Projection,
    snapshots: Snapshots,
    /// Articles that another instance's entries have touched and whose projection we have not looked at since: that
    /// instance may have died before it wrote them.
    touched_by_others: BTreeSet<Sku>,
}

impl Keeper {
    pub(crate) fn new(
        nats: Nats,
        current: Current,
        inbox: Inbox,
        answers: Answers,
        projection: Projection,
        snapshots: Snapshots,
    ) -> Self {
        let touched_by_others = current.ledger.levels().map(|level| level.sku).collect();
        Self { nats, current, inbox, answers, projection, snapshots, touched_by_others }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        self.check_projection();
        let outcome = self.keep(&stop).await;
        let Self { current, answers, projection, snapshots, .. } = self;
        let finish = async {
            answers.finish().await;
            projection.finish().await;
            // After an error the state may be half booked: only the ledger is to be trusted then.
            if outcome.is_ok() {
                snapshots.write_at_stop(&current).await;
            }
        };
        if tokio::time::timeout(FINISH_PATIENCE, finish).await.is_err() {
            tracing::warn!(
                "stopped before every answer, stock level and snapshot was stored; the next start makes up for it"
            );
        }
        outcome
    }

    async fn keep(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        loop {
            let group = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                group = self.inbox.next_group() => Some(group),
                () = tokio::time::sleep(FOLLOW_INTERVAL) => None,
            };
            let work = async {
                match group {
                    Some(group) => self.handle(group).await,
                    None => self.idle().await,
                }
            };
            tokio::select! {
                biased;
                outcome = work => outcome?,
                // Safe in the middle of an append: whether it is stored or not, the commands come again.
                () = stop_is_overdue(stop) => return Ok(()),
            }
        }
    }

    /// Nothing waits: read on what another instance may have written, and see that the consumer is well.
    async fn idle(&mut self) -> anyhow::Result<()> {
        match self.current.last_sequence(&self.nats).await {
            Ok(last) if last > self.current.sequence => self.catch_up(last).await?,
            // Quiet: whoever wrote has had its time to tell the readers, too.
            Ok(_) => self.check_projection(),
            Err(LastUnknown::Unavailable(reason)) => tracing::debug!(reason, "the ledger cannot be asked just now"),
            Err(lost @ LastUnknown::EntriesLost { .. }) => return Err(lost.into()),
        }
        self.inbox.watch().await
    }

    async fn handle(&mut self, group: Vec<Incoming>) -> anyhow::Result<()> {
        metrics::histogram!("inventory_group_commands").record(count_as_f64(group.len()));
        let mut handled = Vec::with_capacity(group.len());
        let mut readable = Vec::with_capacity(group.len());
        let mut requests = Vec::with_capacity(group.len());
        for incoming in group {
            match &incoming.request {
                Ok(request) => {
                    requests.push(request.clone());
                    readable.push(incoming);
                }
                Err(reason) => {
                    let reason = reason.clone();
                    handled.push(Handled::Unreadable(incoming, reason));
                }
            }
        }
        let in_person = readable.iter().filter_map(Incoming::answered_in_person).collect();
        let (mut readable, mut rest) = (readable.into_iter(), requests.as_slice());
        while !rest.is_empty() {
            let group = self.decide_and_store(rest, &in_person).await?;
            rest = &rest[group.decisions.len()..];
            // Zipped this way round, no command is taken without its decision.
            handled.extend(
                group
                    .decisions
                    .into_iter()
                    .zip(&mut readable)
                    .map(|(decision, incoming)| Handled::Decided(incoming, decision)),
            );
            self.answers.give(std::mem::take(&mut handled)).await;
        }
        if !handled.is_empty() {
            self.answers.give(handled).await;
        }
        Ok(())
    }

    /// Decide as many of these as fit into one entry, and come back when the ledger holds their entry.
    async fn decide_and_store(
        &mut self,
        requests: &[Request],
        in_person: &BTreeSet<WorkflowRef>,
    ) -> anyhow::Result<GroupDecision> {
        loop {
            let group =
                self.current.ledger.decide_group(requests, MAX_ENTRY_BYTES).context("decide a group of commands")?;
            let entry = group.entry(&self.current.end);
            crash_point!("inventory.before_append");
            let appended = self.current.append(&self.nats, &entry, in_person).await;
            crash_point!("inventory.after_append");
            if self.is_stored(appended).await? {
                self.tell(&group);
                self.snapshots.write_if_due(&self.current).await;
                return Ok(group);
            }
        }
    }

    /// Whether the entry is stored; if not, the state is the newest one afterwards, and the group is to be decided again.
    async fn is_stored(&mut self, appended: Result<u64, NotAppended>) -> anyhow::Result<bool> {
        match appended {
            Ok(bytes) => {
                self.snapshots.grown(1, bytes);
                Ok(true)
            }
            Err(NotAppended::Append(AppendError::Conflict { expected, found, .. })) => {
                metrics::counter!("inventory_conflicts_total").increment(1);
                tracing::warn!(
                    expected,
                    found,
                    "another instance has written to the ledger: reading on and deciding again"
                );
                self.catch_up(found).await?;
                Ok(false)
            }
            Err(NotAppended::Append(unavailable @ AppendError::Unavailable { .. })) => {
                tracing::warn!(error = %unavailable, "the ledger cannot be written just now; trying again");
                // It may be stored after all: then the next try meets a conflict and reads it.
                Ok(false)
            }
            Err(NotAppended::Append(refused @ AppendError::Refused { .. })) => Err(refused).context("write the ledger"),
            Err(NotAppended::Defect(defect)) => Err(defect),
        }
    }

    /// The ledger's last sequence, asked for until somebody answers.
    async fn last_sequence(&self) -> anyhow::Result<u64> {
        loop {
            match self.current.last_sequence(&self.nats).await {
                Ok(last) => return Ok(last),
                Err(LastUnknown::Unavailable(reason)) => {
                    tracing::warn!(reason, "the ledger cannot be asked just now; trying again");
                    tokio::time::sleep(UNAVAILABLE_PAUSE).await;
                }
                Err(lost @ LastUnknown::EntriesLost { .. }) => return Err(lost.into()),
            }
        }
    }

    /// Read on what another instance has written, up to `last` at least.
    async fn catch_up(&mut self, last: u64) -> anyhow::Result<()> {
        // A server that led the stream, hung and has not heard yet that another one leads now, tells what used to be the last:
        // it is asked again before entries are called lost.
        let last = if last < self.current.sequence { self.last_sequence().await? } else { last };
        let read = self.current.read_on_to(&self.nats, last).await?;
        tracing::debug!(entries = read.entries, last, "read on in the ledger");
        self.touched_by_others.extend(read.touched);
        Ok(())
    }

    /// The group has happened: tell readers of stock, metrics and the log.
    fn tell(&mut self, group: &GroupDecision) {
        let last_index = self.current.end.next_index.saturating_sub(1);
        self.check_projection();
        self.projection.mark(group.balances.iter().cloned(), last_index);
        count(group);
        metrics::gauge!("inventory_remembered").set(count_as_f64(self.current.ledger.remembered()));
        let refused = group.decisions.iter().filter(|decision| decision.refusal.is_some()).count();
        tracing::info!(
            commands = group.decisions.len(),
            movements = group.movements.len(),
            refused,
            articles = group.balances.len(),
            entry = last_index,
            "decided a group of inventory commands"
        );
        group.decisions.iter().for_each(log_alert);
    }

    /// Look at the projection of what others have touched, and write it where it is behind.
    fn check_projection(&mut self) {
        if self.touched_by_others.is_empty() {
            return;
        }
        let touched = std::mem::take(&mut self.touched_by_others);
        let levels: Vec<StockLevel> = touched.iter().map(|sku| self.current.ledger.level(sku)).collect();
        self.projection.mark_unsure(levels, self.current.end.next_index.saturating_sub(1));
    }
}

async fn stop_is_overdue(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_PATIENCE).await;
    tracing::warn!("stopped in the middle of a group of inventory commands; they come again");
}

fn count(group: &GroupDecision) {
    metrics::counter!("inventory_groups_total").increment(1);
    for movement in &group.movements {
        metrics::counter!("inventory_movements_total", "type" => movement_name(movement)).increment(1);
    }
    for refusal in group.decisions.iter().filter_map(|decision| decision.refusal) {
        metrics::counter!("inventory_refusals_total", "reason" => refusal.as_str()).increment(1);
    }
}

/// What no sound workflow asks for: a person must look.
fn log_alert(decision: &Decision) {
    let Some(refusal) = decision.refusal.filter(|refusal| refusal.is_alert()) else { return };
    let about = match &decision.answer {
        Answer::Stock { workflow, .. } => workflow.to_string(),
        Answer::Restock { restock_id, .. } => format!("restock {restock_id}"),
    };
    tracing::error!(about, reason = %refusal, "refused an inventory command that should never have been sent");
}

/// For metrics; every float holds what a `u32` holds exactly.
fn count_as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
