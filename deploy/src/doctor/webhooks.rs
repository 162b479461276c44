//! Webhooks: each one that a worker has acked is in a history, decides nothing, or is parked; and money that a history
//! has from a webhook came with a webhook that is stored.

use std::{collections::HashSet, sync::Arc};

use common::{
    contracts::{checkout::PaymentOutcome, webhook::WebhookEvent},
    ids::{ProviderName, WorkflowId},
    nats::read::Stored,
    payment::PaymentProvider,
    streams::{DEAD_LETTER_MAX_AGE, WEBHOOK_MAX_AGE},
    subject::Subject,
    time::{Timestamp, after},
};
use serde::Serialize;

use super::{
    dead_letters::DeadLetters,
    finding::{Findings, Promise, Severity},
    history::{CheckoutHistory, Histories},
    way::Stage,
};

/// How many webhooks there are of each fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WebhookCounts {
    /// Everything in the stream.
    pub stored: u64,
    /// Not known to be acked by a worker yet.
    pub waiting: u64,
    /// In a history.
    pub applied: u64,
    /// Acked, and of a kind that decides nothing.
    pub deciding_nothing: u64,
    /// In the dead letters.
    pub parked: u64,
    /// About a checkout whose history cannot be trusted, or of a provider that this version does not know.
    pub not_judged: u64,
}

/// Looks at one webhook after the other.
pub(super) struct WebhookCheck<'a> {
    histories: &'a Histories,
    letters: &'a DeadLetters,
    readers: &'a [Arc<dyn PaymentProvider>],
    /// The worker's consumer has seen acks for everything up to this sequence.
    acked_up_to: u64,
    now: Timestamp,
    /// Webhooks that histories say they have money from and that were not seen yet.
    missing: HashSet<String>,
    counts: WebhookCounts,
}

/// What becomes of a webhook that a worker has acked.
enum Fate {
    Applied,
    DecidesNothing,
    NotJudged,
    /// It should be in a history or in the dead letters, and is not.
    Lost(String),
}

impl<'a> WebhookCheck<'a> {
    /// `acked_up_to` must have been asked before the histories and the dead letters were read: a worker acks after it has
    /// written.
    pub(super) fn new(
        histories: &'a Histories,
        letters: &'a DeadLetters,
        readers: &'a [Arc<dyn PaymentProvider>],
        acked_up_to: u64,
        now: Timestamp,
    ) -> Self {
        let missing = expected_webhooks(histories, now);
        Self { histories, letters, readers, acked_up_to, now, missing, counts: WebhookCounts::default() }
    }

    /// Look at one message of `WEBHOOKS`.
    pub(super) fn look_at(&mut self, stored: &Stored, findings: &mut Findings) {
        self.counts.stored += 1;
        self.missing.remove(&stored.subject);
        if stored.sequence > self.acked_up_to {
            self.counts.waiting += 1;
        } else if self.letters.has(&stored.subject) {
            self.counts.parked += 1;
        } else {
            match self.fate(stored) {
                Fate::Applied => self.counts.applied += 1,
                Fate::DecidesNothing => self.counts.deciding_nothing += 1,
                Fate::NotJudged => self.counts.not_judged += 1,
                Fate::Lost(why) => self.report_lost(stored, &why, findings),
            }
        }
    }

    fn fate(&self, stored: &Stored) -> Fate {
        let Ok(Subject::Webhook(provider, _)) = stored.subject.parse() else {
            return Fate::Lost("its subject is not that of a webhook".into());
        };
        let Some(reader) = self.reader(&provider) else { return Fate::NotJudged };
        let event = match reader.read_webhook(&stored.payload) {
            Ok(event) => event,
            Err(error) => return Fate::Lost(error.to_string()),
        };
        let WebhookEvent { outcome: Some(outcome), reference, session_id, .. } = event else {
            return Fate::DecidesNothing;
        };
        let (Some(reference), Some(session)) = (reference, session_id) else {
            return Fate::Lost("it decides a payment without saying for whom".into());
        };
        let Some(checkout) = self.histories.checkouts.get(&reference) else {
            return Fate::Lost(format!("checkout {reference} does not exist"));
        };
        if !checkout.is_sound() {
            return Fate::NotJudged;
        }
        match outcome {
            PaymentOutcome::Paid if checkout.receipts.iter().any(|receipt| receipt.notice.session_id == session) => {
                Fate::Applied
            }
            PaymentOutcome::Paid => Fate::Lost(format!("it says that checkout {reference} is paid")),
            PaymentOutcome::Declined | PaymentOutcome::Cancelled => fate_of_refusal(reference, checkout, &session),
        }
    }

    fn reader(&self, provider: &ProviderName) -> Option<&dyn PaymentProvider> {
        self.readers.iter().find(|reader| reader.name() == *provider).map(|reader| &**reader)
    }

    fn report_lost(&self, stored: &Stored, why: &str, findings: &mut Findings) {
        // Letters live shorter than webhooks, and people remove them when they are dealt with.
        let letter_may_be_gone = self.letters.some_are_gone || after(stored.time, DEAD_LETTER_MAX_AGE) < self.now;
        let (severity, hint) = if letter_may_be_gone {
            (Severity::Attention, "it may have been parked and dealt with")
        } else {
            (Severity::Broken, "ask the provider about it and report this")
        };
        findings.add(
            severity,
            Promise::Charge,
            &stored.subject,
            format!(
                "a worker has taken this webhook ({why}), but it is in no history and was not parked: {hint}; see \
                 `nats stream get WEBHOOKS {}`",
                stored.sequence
            ),
        );
    }

    /// What is left when all are read.
    pub(super) fn finish(self, findings: &mut Findings) -> WebhookCounts {
        for subject in self.missing {
            findings.attention(
                Promise::Charge,
                subject,
                "a history has money from this webhook, but it is not stored in WEBHOOKS any more: somebody has removed it, \
                 or the stream has lost it",
            );
        }
        self.counts
    }
}

/// A refusal ends the wait for the payment of its session, and changes nothing at any later time.
fn fate_of_refusal(reference: WorkflowId, checkout: &CheckoutHistory, session: &common::ids::SessionId) -> Fate {
    if checkout.session.as_ref().is_some_and(|known| known != session) {
        return Fate::Lost(format!("session {session} is not that of checkout {reference}"));
    }
    match checkout.stage {
        Stage::NotStarted | Stage::Reserving | Stage::OpeningPayment | Stage::AwaitingPayment => {
            Fate::Lost(format!("checkout {reference} should have been told that it will not be paid"))
        }
        Stage::Closing(_) | Stage::Committing | Stage::Releasing(..) | Stage::Undone(..) | Stage::Paid => Fate::Applied,
    }
}

/// The webhooks that must still be stored, by what the histories say; a day less than they live, for clocks that differ.
fn expected_webhooks(histories: &Histories, now: Timestamp) -> HashSet<String> {
    let life = WEBHOOK_MAX_AGE.saturating_sub(std::time::Duration::from_secs(24 * 60 * 60));
    let mut expected = HashSet::new();
    for checkout in histories.checkouts.values() {
        let Some(order) = &checkout.order else { continue };
        let young = checkout.receipts.iter().filter(|receipt| after(receipt.at, life) > now);
        expected.extend(
            young
                .filter_map(|receipt| receipt.notice.event_id.clone())
                .map(|event| Subject::Webhook(order.provider.clone(), event).to_string()),
        );
    }
    expected
}

#[cfg(test)]
mod tests;
