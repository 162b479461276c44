//! One message that tells many workflows: an entry of the ledger, a wake-up call that was set for many. Each of them gets a
//! turn of its own, and the message is used up after the last one.
//!
//! A turn that does not use its part up (the history cannot be read, the workflow is not known) must not make all the others
//! come again: its part becomes a command of its own, which is handed back or parked like any other.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_nats::{HeaderMap, jetstream::Message};
use common::{
    contracts::{
        TypeName as _,
        checkout::CheckoutCommand,
        inventory::{LedgerEntry, Movement, StockAnswer},
        wake_up::WakeUpCalls,
    },
    headers,
    ids::{WorkflowId, WorkflowRef},
    nats::{Outgoing, append::append},
    streams::StreamName,
    subject::Subject,
    time::Timestamp,
};
use futures_util::{FutureExt as _, future::join_all};
use tokio::sync::oneshot;

use super::{Inbox, Taken, route::Input, settle};

/// As for appends to the history.
const PATIENCE: Duration = Duration::from_secs(15);

/// What one workflow is told.
#[derive(Debug)]
pub(super) struct Part {
    workflow: WorkflowRef,
    input: Input,
    /// What tells it the same.
    command: CheckoutCommand,
}

/// Everything that an entry of the ledger tells workflows, but for those that somebody answers in person.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn booked(message: &Message, at: Timestamp) -> serde_json::Result<Vec<Part>> {
    let entry: LedgerEntry = serde_json::from_slice(&message.payload)?;
    let in_person = answered_in_person(message.headers.as_ref());
    let told = entry.movements.iter().filter_map(Movement::answer);
    let part = |(workflow, answer): (WorkflowRef, StockAnswer)| Part {
        workflow,
        input: Input::stock_booked(answer.clone(), at),
        command: CheckoutCommand::StockAnswer { answer },
    };
    Ok(told.filter(|(workflow, _)| !in_person.contains(&workflow.id)).map(part).collect())
}

fn answered_in_person(headers: Option<&HeaderMap>) -> HashSet<WorkflowId> {
    let listed = headers.and_then(|headers| headers.get(headers::ANSWERED_IN_PERSON));
    listed.map(|listed| listed.as_str().split(' ').filter_map(|id| id.parse().ok()).collect()).unwrap_or_default()
}

/// Everybody whom a call wakes.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn woken(message: &Message, at: Timestamp) -> serde_json::Result<Vec<Part>> {
    let calls: WakeUpCalls = serde_json::from_slice(&message.payload)?;
    let part = |workflow| Part {
        workflow,
        input: Input::time_has_come(at),
        // Every kind knows a nudge, and by the same word.
        command: CheckoutCommand::Nudge,
    };
    Ok(calls.workflows.into_iter().map(part).collect())
}

impl Inbox {
    /// Give every workflow its turn.
    pub(super) async fn accept_many(self: &Arc<Self>, message: Taken, parts: Vec<Part>) {
        let mut turns = Vec::with_capacity(parts.len());
        for part in parts {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
            let (tell, told) = oneshot::channel();
            let inbox = Arc::clone(self);
            self.order.submit(&self.turns, part.workflow, async move {
                let _permit = permit;
                // Nobody listens any more when the process ends.
                let _ = tell.send(inbox.take_part(part).await);
            });
            turns.push(told);
        }
        self.turns.spawn(async move {
            let used_up = message.with_progress(join_all(turns)).await;
            settle::many(&message, used_up.iter().all(|part| part == &Ok(true))).await;
        });
    }

    /// One workflow's turn; whether its part is used up, or comes again by itself.
    async fn take_part(&self, part: Part) -> bool {
        let Part { workflow, input, command } = part;
        let turn = std::panic::AssertUnwindSafe(self.advance(workflow, input)).catch_unwind();
        match settle::part(workflow, turn.await) {
            Ok(()) => true,
            Err(why) => self.send_on(workflow, &command, &why).await,
        }
    }

    async fn send_on(&self, workflow: WorkflowRef, command: &CheckoutCommand, why: &str) -> bool {
        let command_type = command.type_name();
        let payload = match serde_json::to_vec(command) {
            Ok(payload) => payload.into(),
            Err(error) => {
                tracing::error!(%workflow, command_type, %error, "a command cannot be written as JSON");
                return false;
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, command_type);
        headers.insert(headers::SENDER, crate::SERVICE);
        let outgoing = Outgoing { subject: Subject::Command(workflow), headers, payload, expected: None };
        common::crash_point!("worker.many.before_send_on");
        let sent_on = append(&self.nats, StreamName::Commands, outgoing, PATIENCE).await;
        common::crash_point!("worker.many.after_send_on");
        tracing::warn!(%workflow, command_type, why, sent_on = sent_on.is_ok(), "could not be told now; told by a command");
        sent_on.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_answered_in_person_is_listed() {
        assert!(answered_in_person(None).is_empty());
        let (one, other) = (WorkflowId::random(), WorkflowId::random());
        let mut headers = HeaderMap::new();
        headers.insert(headers::ANSWERED_IN_PERSON, format!("{one} {other}"));
        let listed = answered_in_person(Some(&headers));
        assert!(listed.contains(&one) && listed.contains(&other) && listed.len() == 2);
    }
}
