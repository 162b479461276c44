//! Answers go out: a workflow whose goods moved is answered by the ledger's entry, every other one by a command of its own;
//! then the inventory command is acked.
//!
//! Several groups may be under way at a time, so the ledger does not wait for the answers. A command whose answer could
//! not be stored is handed back: it comes again, moves nothing, and is answered the same.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{HeaderMap, jetstream::AckKind};
use common::{
    contracts::{
        TypeName as _,
        checkout::CheckoutCommand,
        inventory::{RestockAnswer, StockAnswer},
    },
    crash_point, headers,
    ids::WorkflowRef,
    nats::{Journal, Nats, Outgoing, dead_letters::park},
    streams::StreamName,
    subject::{DeadLetterArea, Subject},
};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    SERVICE,
    inbox::{Incoming, Settled},
    ledger::{Answer, Decision},
};

/// Groups whose answers may be under way at a time. One would make the ledger wait for the other stream's disk; more
/// than a few only pile up when that stream is slow.
const GROUPS_UNDER_WAY: usize = 8;

/// How long an answer is tried before its command is handed back.
const PATIENCE: Duration = Duration::from_secs(15);

/// A command that was handed back comes again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A command and what is told about it.
#[derive(Debug)]
pub(crate) enum Handled {
    /// It was decided, and what it moved is stored.
    Decided(Incoming, Decision),
    /// It cannot be read.
    Unreadable(Incoming, String),
}

/// Everything that goes out of this service, but for the ledger and its projection.
pub(crate) struct Answers {
    sender: Arc<Sender>,
    room: Arc<Semaphore>,
    under_way: TaskTracker,
}

impl Answers {
    pub(crate) fn start(nats: Nats) -> Self {
        let commands = Journal::start(nats.clone(), StreamName::Commands, PATIENCE);
        Self {
            sender: Arc::new(Sender { nats, commands }),
            room: Arc::new(Semaphore::new(GROUPS_UNDER_WAY)),
            under_way: TaskTracker::new(),
        }
    }

    /// Answer and ack a group in the background; waits while too many groups are under way.
    pub(crate) async fn give(&self, group: Vec<Handled>) {
        // The semaphore is never closed; without a permit the group would simply go out at once.
        let permit = self.room.clone().acquire_owned().await.ok();
        let sender = self.sender.clone();
        self.under_way.spawn(async move {
            sender.give(group).await;
            drop(permit);
        });
    }

    /// Wait for what is under way. May be given up at any time: what is not acked comes again.
    pub(crate) async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
        // Acks are only buffered so far.
        if let Err(error) = self.sender.nats.client.flush().await {
            tracing::warn!(%error, "the last acks may not have been sent; the commands come again");
        }
    }
}

struct Sender {
    nats: Nats,
    commands: Journal,
}

impl Sender {
    async fn give(&self, group: Vec<Handled>) {
        crash_point!("inventory.before_answer");
        let outcomes = join_all(group.iter().map(|handled| self.tell(handled))).await;
        crash_point!("inventory.after_answer");
        for (handled, outcome) in group.iter().zip(outcomes) {
            let (Handled::Decided(incoming, _) | Handled::Unreadable(incoming, _)) = handled;
            self.close(incoming, outcome).await;
        }
        crash_point!("inventory.after_ack");
    }

    async fn close(&self, incoming: &Incoming, outcome: anyhow::Result<()>) {
        if let Err(error) = &outcome {
            let subject = incoming.message().subject.as_str();
            let error = format!("{error:#}");
            tracing::warn!(subject, error, "an inventory command could not be answered; it will be tried again");
            metrics::counter!("inventory_answers_failed_total").increment(1);
        }
        let kind = match incoming.handled(outcome.is_ok()) {
            None => return,
            Some(Settled::Done) => AckKind::Ack,
            Some(Settled::Again) => AckKind::Nak(Some(AGAIN_AFTER)),
        };
        if let Err(error) = incoming.message().ack_with(kind).await {
            tracing::warn!(%error, "an ack was not sent; the inventory command comes again");
        }
    }

    async fn tell(&self, handled: &Handled) -> anyhow::Result<()> {
        match handled {
            Handled::Decided(incoming, decision) => {
                if decision.refusal.is_some_and(|refusal| refusal.is_alert()) {
                    self.raise_alert(incoming, decision).await;
                }
                match &decision.answer {
                    Answer::Stock { workflow, answer } => {
                        self.tell_workflow(*workflow, answer, decision, incoming).await
                    }
                    Answer::Restock { answer, .. } => self.tell_restocker(answer, incoming).await,
                }
            }
            Handled::Unreadable(incoming, reason) => self.park(incoming, reason).await,
        }
    }

    async fn tell_workflow(
        &self,
        workflow: WorkflowRef,
        answer: &StockAnswer,
        decision: &Decision,
        incoming: &Incoming,
    ) -> anyhow::Result<()> {
        // An operator who repairs a checkout that no worker may touch waits for the answer in person.
        if let Some(inbox) = incoming.answer_inbox() {
            return self.tell_inbox(inbox, answer).await;
        }
        // What moved is told by the ledger's entry, which workers read.
        if decision.movement.is_some() {
            return Ok(());
        }
        let command = CheckoutCommand::StockAnswer { answer: answer.clone() };
        let outgoing = Outgoing {
            subject: Subject::Command(workflow),
            headers: answer_headers(&command, incoming.message().headers.as_ref()),
            payload: serde_json::to_vec(&command).context("write an answer as JSON")?.into(),
            // An answer that is stored twice is a command that comes twice: harmless.
            expected: None,
        };
        self.commands.append(outgoing).await.with_context(|| format!("answer {workflow}"))?;
        Ok(())
    }

    /// Whoever told of the delivery may wait for the answer, or not.
    async fn tell_restocker(&self, answer: &RestockAnswer, incoming: &Incoming) -> anyhow::Result<()> {
        let Some(inbox) = incoming.answer_inbox() else { return Ok(()) };
        self.tell_inbox(inbox, answer).await
    }

    /// Whoever waits there may have gone; then the same command again gets the same answer.
    async fn tell_inbox(&self, inbox: String, answer: &impl Serialize) -> anyhow::Result<()> {
        let payload = serde_json::to_vec(answer).context("write an answer as JSON")?;
        self.nats.client.publish(inbox, payload.into()).await.context("answer whoever waits for it")
    }

    async fn park(&self, incoming: &Incoming, reason: &str) -> anyhow::Result<()> {
        park(&self.nats, DeadLetterArea::Inventory, incoming.message(), reason)
            .await
            .context("park an inventory command")?;
        Ok(())
    }

    /// The workflow gets its refusal in any case; that a person must look is kept as well as we can.
    async fn raise_alert(&self, incoming: &Incoming, decision: &Decision) {
        let Some(refusal) = decision.refusal else { return };
        if let Err(error) = self.park(incoming, &refusal.to_string()).await {
            let (subject, error) = (incoming.message().subject.as_str(), format!("{error:#}"));
            tracing::error!(subject, refusal = refusal.as_str(), error, "an inventory command contradicts the ledger");
        }
    }
}

fn answer_headers(command: &CheckoutCommand, incoming: Option<&HeaderMap>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(headers::TYPE, command.type_name());
    headers.insert(headers::SENDER, SERVICE);
    if let Some(trace) = incoming.and_then(|headers| headers.get(headers::TRACE_PARENT)) {
        headers.insert(headers::TRACE_PARENT, trace.clone());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_it_is_and_keeps_the_trace() {
        let mut incoming = HeaderMap::new();
        incoming.insert(headers::TRACE_PARENT, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let command = CheckoutCommand::StockAnswer { answer: StockAnswer::Reserved {} };
        let headers = answer_headers(&command, Some(&incoming));
        let text = |name: async_nats::HeaderName| headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(text(headers::TYPE).as_deref(), Some("stock_answer"));
        assert_eq!(text(headers::SENDER).as_deref(), Some(SERVICE));
        assert!(text(headers::TRACE_PARENT).is_some_and(|trace| trace.starts_with("00-0af7")));
        let json = serde_json::to_string(&command).expect("writable");
        assert_eq!(json, r#"{"type":"stock_answer","answer":{"type":"reserved"}}"#);
    }
}
