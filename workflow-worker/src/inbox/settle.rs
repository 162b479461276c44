//! What becomes of a message after its turn: used up, handed back for later, or parked with the reason.

use std::{any::Any, time::Duration};

use async_nats::jetstream::AckKind;
use common::{
    ids::WorkflowRef,
    nats::{AppendError, Nats, dead_letters},
    record::BrokenHistory,
    streams::ConsumerName,
    subject::DeadLetterArea,
};

use super::{Taken, TurnError};
use crate::{advance::AdvanceError, history::HistoryError, workflow::Rejection};

/// Deliveries of a message about a workflow that does not exist (yet): with the waits below, about a minute.
const MOST_DELIVERIES_UNKNOWN: i64 = 10;

type Outcome = Result<Result<(), TurnError>, Box<dyn Any + Send>>;

/// What is done with a message.
enum Fate {
    UsedUp,
    Later(String),
    Park(DeadLetterArea, String),
}

pub(super) async fn turn(nats: &Nats, workflow: WorkflowRef, message: &Taken, outcome: Outcome, most_failures: i64) {
    match fate(workflow, area_of(message.consumer), message.deliveries, outcome, most_failures) {
        Fate::UsedUp => ack(message).await,
        Fate::Later(why) => hand_back(message, &format!("{workflow}: {why}")).await,
        Fate::Park(area, reason) => park_in(nats, area, message, &reason).await,
    }
}

/// A workflow's part of a message for many; an error says why it is not used up.
pub(super) fn part(workflow: WorkflowRef, outcome: Outcome) -> Result<(), String> {
    // It is tried again as a command, where failures are counted.
    match fate(workflow, DeadLetterArea::Command, 0, outcome, i64::MAX) {
        Fate::UsedUp => Ok(()),
        Fate::Later(why) | Fate::Park(_, why) => Err(why),
    }
}

fn fate(workflow: WorkflowRef, area: DeadLetterArea, deliveries: i64, outcome: Outcome, most_failures: i64) -> Fate {
    let later_unless = |most: i64, why: String| {
        if deliveries >= most {
            Fate::Park(area, format!("{why} (tried {deliveries} times)"))
        } else {
            Fate::Later(why)
        }
    };
    let error = match outcome {
        Ok(Ok(())) => return Fate::UsedUp,
        Err(panic) => {
            metrics::counter!("worker_panics_total").increment(1);
            return later_unless(most_failures, format!("the turn panicked: {}", panic_text(&*panic)));
        }
        Ok(Err(TurnError::Unreadable(error))) => return Fate::Park(area, error.reason),
        Ok(Err(TurnError::Advance(error))) => error,
    };
    match error {
        AdvanceError::Rejected(Rejection::No(why)) => {
            tracing::info!(kind = workflow.kind.as_str(), id = %workflow.id, why, "declined");
            Fate::UsedUp
        }
        AdvanceError::Rejected(Rejection::NotStarted(why)) => later_unless(MOST_DELIVERIES_UNKNOWN, why),
        AdvanceError::Rejected(Rejection::NotYet(why)) => Fate::Later(why),
        AdvanceError::Rejected(Rejection::Contradiction(why)) => Fate::Park(area, why),
        // Nothing is wrong with it, it is only not for this worker: a newer one takes it, or this one after its update.
        AdvanceError::History(error @ HistoryError::Broken { source: BrokenHistory::NeedsNewerVersion { .. }, .. }) => {
            Fate::Later(error.to_string())
        }
        AdvanceError::History(error @ HistoryError::Broken { .. }) => {
            Fate::Park(DeadLetterArea::History, error.to_string())
        }
        error @ AdvanceError::Append(AppendError::Refused { .. }) => later_unless(most_failures, error.to_string()),
        error @ AdvanceError::TooManyConflicts(_) => later_unless(most_failures, error.to_string()),
        // The server is in trouble, not the message: it comes again for as long as it takes.
        error @ (AdvanceError::History(HistoryError::Read(_)) | AdvanceError::Append(_) | AdvanceError::Step(_)) => {
            Fate::Later(error.to_string())
        }
    }
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn area_of(consumer: ConsumerName) -> DeadLetterArea {
    match consumer {
        ConsumerName::WorkerCommands | ConsumerName::WorkerCommandsPart(_) => DeadLetterArea::Command,
        ConsumerName::WorkerWebhooks => DeadLetterArea::Webhook,
        ConsumerName::WorkerDue => DeadLetterArea::Due,
        ConsumerName::Inventory | ConsumerName::WorkerLedger => DeadLetterArea::Inventory,
    }
}

/// A message that decides nothing is used up.
pub(super) async fn nothing_to_do(message: &Taken, why: String) {
    tracing::info!(subject = %message.message.subject, why, "nothing to do");
    ack(message).await;
}

/// A message for many after the turns of all of them.
pub(super) async fn many(message: &Taken, is_used_up: bool) {
    if is_used_up {
        ack(message).await;
    } else {
        hand_back(message, "not every workflow could be told").await;
    }
}

/// A message that this worker cannot read, and another may.
pub(super) async fn later(message: &Taken, why: &str) {
    hand_back(message, why).await;
}

/// A sweep that failed is tried again.
pub(super) async fn sweep(message: &Taken, outcome: anyhow::Result<()>) {
    match outcome {
        Ok(()) => ack(message).await,
        Err(error) => hand_back(message, &format!("the sweep failed: {error:#}")).await,
    }
}

/// Park a message that cannot be given to any workflow.
pub(super) async fn park(nats: &Nats, message: &Taken, reason: &str) {
    park_in(nats, area_of(message.consumer), message, reason).await;
}

async fn park_in(nats: &Nats, area: DeadLetterArea, message: &Taken, reason: &str) {
    match dead_letters::park(nats, area, &message.message, reason).await {
        Ok(_) => ack(message).await,
        Err(error) => hand_back(message, &format!("{reason}; and it could not be parked: {error}")).await,
    }
}

async fn ack(message: &Taken) {
    common::crash_point!("worker.before_ack");
    if let Err(error) = message.message.ack().await {
        // It comes again and changes nothing.
        tracing::debug!(%error, subject = %message.message.subject, "could not ack");
    }
    common::crash_point!("worker.after_ack");
}

async fn hand_back(message: &Taken, why: &str) {
    let wait = wait_before_delivery(message.deliveries + 1);
    tracing::warn!(subject = %message.message.subject, deliveries = message.deliveries, why, wait_ms = wait.as_millis(), "handed back");
    metrics::counter!("worker_handed_back_total").increment(1);
    common::crash_point!("worker.before_hand_back");
    if let Err(error) = message.message.ack_with(AckKind::Nak(Some(wait))).await {
        tracing::debug!(%error, "could not hand back; it comes again after the ack wait");
    }
    common::crash_point!("worker.after_hand_back");
}

/// Before the second delivery 100 ms, then twice as long each time, at most 30 s.
fn wait_before_delivery(delivery: i64) -> Duration {
    let doublings = u32::try_from(delivery.saturating_sub(2)).unwrap_or(0).min(20);
    Duration::from_millis(100 * 2_u64.pow(doublings)).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let waits: Vec<u128> = (2..13).map(|delivery| wait_before_delivery(delivery).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }
}
