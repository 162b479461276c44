//! Strings become types at the door: whose message is it, and what does it tell?

use async_nats::jetstream::Message;
use bytes::Bytes;
use common::{
    contracts::{checkout::PaymentNotice, inventory::StockAnswer, webhook::WebhookEvent},
    headers,
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    payment::PaymentProvider,
    streams::ConsumerName,
    subject::Subject,
    time::{Timestamp, from_server},
};
use serde::de::DeserializeOwned;

use super::many::{self, Part};
use crate::{advance::Turn, workflow::Told};

/// A message that nobody can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Unroutable {
    pub(crate) reason: String,
}

/// What a message is for.
pub(super) enum Incoming {
    /// One workflow is told something.
    ForWorkflow(WorkflowRef, Input),
    /// It is time to look for forgotten workflows: this time, by the server's clock.
    Sweep(Timestamp),
    /// Many workflows are told something.
    ForMany(Vec<Part>),
    /// It decides nothing.
    Nothing { why: String },
    /// Another worker, or this one after its update, may understand it.
    Later { why: String },
}

/// What one workflow is told, before its kind is known to the compiler.
#[derive(Debug)]
pub(crate) struct Input {
    at: Timestamp,
    said: Said,
    is_repeat: bool,
    trace_parent: Option<String>,
}

#[derive(Debug)]
enum Said {
    Command(Bytes),
    TimeHasCome,
    PaymentNotice(PaymentNotice),
    StockBooked(StockAnswer),
}

impl Input {
    /// The time that it waits for may have come.
    pub(super) fn time_has_come(at: Timestamp) -> Self {
        Self { at, said: Said::TimeHasCome, is_repeat: true, trace_parent: None }
    }

    /// The inventory has booked what was asked.
    pub(super) fn stock_booked(answer: StockAnswer, at: Timestamp) -> Self {
        Self { at, said: Said::StockBooked(answer), is_repeat: true, trace_parent: None }
    }

    /// The same for a kind.
    ///
    /// # Errors
    /// [`Unroutable`] when the command is not one of this kind.
    pub(super) fn turn<C: DeserializeOwned>(self, id: WorkflowId) -> Result<Turn<C>, Unroutable> {
        let told = match self.said {
            Said::Command(payload) => Told::Asked(
                serde_json::from_slice(&payload)
                    .map_err(|error| Unroutable { reason: format!("the command cannot be read: {error}") })?,
            ),
            Said::TimeHasCome => Told::TimeHasCome,
            Said::PaymentNotice(notice) => Told::PaymentNotice(notice),
            Said::StockBooked(answer) => Told::StockBooked(answer),
        };
        Ok(Turn { id, at: self.at, told, is_repeat: self.is_repeat, trace_parent: self.trace_parent })
    }
}

/// Find out what a message is for.
pub(super) fn route(
    consumer: ConsumerName,
    message: &Message,
    provider: &dyn PaymentProvider,
) -> Result<Incoming, Unroutable> {
    let unroutable = |error: String| Unroutable { reason: error };
    let info = message.info().map_err(|error| unroutable(error.to_string()))?;
    let (at, is_repeat) = (from_server(info.published), info.delivered > 1);
    let subject: Subject =
        message.subject.parse().map_err(|error: common::ids::InvalidName| unroutable(error.to_string()))?;
    let trace_parent = message.headers.as_ref().and_then(|all| all.get(headers::TRACE_PARENT)).map(ToString::to_string);
    let input = |said| Input { at, said, is_repeat, trace_parent: trace_parent.clone() };
    match (consumer.kind(), subject) {
        (ConsumerName::WorkerCommands, Subject::Command(workflow)) => {
            Ok(Incoming::ForWorkflow(workflow, input(Said::Command(message.payload.clone()))))
        }
        (ConsumerName::WorkerDue, Subject::Due(workflow)) => {
            Ok(Incoming::ForWorkflow(workflow, input(Said::TimeHasCome)))
        }
        (ConsumerName::WorkerDue, Subject::DueGroup(_)) => many::woken(message, at)
            .map(Incoming::ForMany)
            .map_err(|error| unroutable(format!("a wake-up call for many cannot be read: {error}"))),
        (ConsumerName::WorkerDue, Subject::SweepDue) => Ok(Incoming::Sweep(at)),
        (ConsumerName::WorkerWebhooks, Subject::Webhook(from, _)) => {
            if from != provider.name() {
                return Err(unroutable(format!("this worker has no access to the payment provider {from}")));
            }
            let event = provider.read_webhook(&message.payload).map_err(|error| unroutable(error.to_string()))?;
            payment_notice(event).map(|notice| match notice {
                Some((workflow, notice)) => Incoming::ForWorkflow(workflow, input(Said::PaymentNotice(notice))),
                None => Incoming::Nothing { why: "the webhook decides nothing".into() },
            })
        }
        // Nothing is lost when it is unreadable for good: the inventory stops at such an entry, and the sweep asks again.
        (ConsumerName::WorkerLedger, Subject::InventoryLedger) => Ok(match many::booked(message, at) {
            Ok(parts) => Incoming::ForMany(parts),
            Err(error) => Incoming::Later { why: format!("an entry of the ledger cannot be read: {error}") },
        }),
        (_, other) => Err(unroutable(format!("a message on {other} has no business here"))),
    }
}

/// What a webhook tells which checkout; `None` when it decides nothing.
fn payment_notice(event: WebhookEvent) -> Result<Option<(WorkflowRef, PaymentNotice)>, Unroutable> {
    let Some(outcome) = event.outcome else { return Ok(None) };
    let missing = |what: &str| Unroutable { reason: format!("webhook {} names no {what}", event.id) };
    let id = event.reference.ok_or_else(|| missing("checkout"))?;
    let session_id = event.session_id.clone().ok_or_else(|| missing("session"))?;
    let amount = event.amount.ok_or_else(|| missing("amount"))?;
    let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id };
    Ok(Some((workflow, PaymentNotice { event_id: Some(event.id), session_id, outcome, amount })))
}
