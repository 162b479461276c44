//! What can still be known of a checkout whose history does not tell.

use anyhow::{Context as _, bail};
use common::{
    contracts::checkout::{CancelledBy, CheckoutCommand, CheckoutEvent},
    ids::{SessionId, WorkflowRef},
    nats::{
        Nats,
        read::{self, Stored},
    },
    record::{BrokenHistory, ChainEnd, Record},
    time::now,
};
use workflow_worker::{
    workflow::{Told, Workflow as _},
    workflows::checkout::Checkout,
};

use super::Known;
use crate::doctor::{Standing, standing_of};

/// Where the goods of a checkout are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goods {
    /// Held for it.
    Held,
    /// Not held; what the ledger says instead.
    NotHeld(&'static str),
}

/// What the streams tell of a checkout.
#[derive(Debug)]
pub(super) struct Evidence {
    workflow: WorkflowRef,
    history: History,
    /// The sequence of its newest record; 0 when there is none.
    pub(super) revision: u64,
    /// Where its goods are.
    pub(super) goods: Goods,
}

/// What is left of a history.
#[derive(Debug)]
enum History {
    Lost,
    /// Sound up to a place, and not after it.
    Damaged {
        until_then: Box<Checkout>,
        why: BrokenHistory,
    },
    Sound,
}

/// Where the way to the end begins.
#[derive(Debug)]
pub(super) enum Start {
    /// The order is known: from this state on, told this.
    Order { checkout: Box<Checkout>, told: Told<CheckoutCommand> },
    /// Nothing but this session is known.
    Session(SessionId),
    /// There is no session, as a person has seen.
    NoSession,
}

impl Evidence {
    pub(super) async fn read(nats: &Nats, workflow: WorkflowRef) -> anyhow::Result<Self> {
        let records = read::history(nats, workflow).await.with_context(|| format!("read the history of {workflow}"))?;
        let goods = match standing_of(nats, workflow).await? {
            Some(Standing::Held(_)) => Goods::Held,
            other => Goods::NotHeld(other.as_ref().map_or("nothing", Standing::word)),
        };
        let revision = records.last().map_or(0, |last| last.sequence);
        Ok(Self { workflow, history: History::of(&records), revision, goods })
    }

    /// What is wrong with the history, in words.
    pub(super) fn fault(&self) -> String {
        match &self.history {
            History::Lost => "its history is lost".into(),
            History::Damaged { why, .. } => format!("its history is damaged: {why}"),
            History::Sound => "its history is sound".into(),
        }
    }

    /// Where the way to the end begins.
    ///
    /// Fails when the shop itself can go that way, or when too little is known to go it safely; says what to do.
    pub(super) fn start(&self, known: &Known) -> anyhow::Result<Start> {
        let workflow = self.workflow;
        match (&self.history, known) {
            (History::Sound, _) => bail!(
                "the history of {workflow} is sound, so the shop brings it to its end: cancel it (POST \
                 /api/checkout_session/{}/cancel), or see why its worker does not go on (`dead-letters list`)",
                workflow.id
            ),
            (History::Damaged { why: why @ BrokenHistory::NeedsNewerVersion { .. }, .. }, _) => {
                bail!("the history of {workflow} is not damaged ({why}): start a worker of that version")
            }
            (History::Damaged { until_then, .. }, known) if matches!(**until_then, Checkout::Started(_)) => {
                Ok(with_what_is_known((**until_then).clone(), known))
            }
            (_, Known::Session(session)) => Ok(Start::Session(session.clone())),
            (_, Known::NoSession) => Ok(Start::NoSession),
            (_, Known::Nothing) => bail!(
                "{}, so nobody here knows its payment session, and its goods must not go back while somebody may pay: \
                 look for {} in the provider's pages and name the session with --session, or say --no-session when there \
                 is none",
                self.fault(),
                workflow.id
            ),
        }
    }
}

/// The state up to the damage, and what is known beside it: the ledger holds the goods, so they were reserved; a session may
/// have been asked for after the last record that can be read, so it must be closed, even if nobody knows its name.
fn with_what_is_known(checkout: Checkout, known: &Known) -> Start {
    let mut facts = Vec::new();
    if let Checkout::Started(started) = &checkout {
        if started.payment_deadline.is_none() {
            facts.push(CheckoutEvent::StockReserved { payment_deadline: now() });
        }
        if let (None, Known::Session(session_id)) = (&started.session, known) {
            let (session_id, payment_url) = (session_id.clone(), String::new());
            facts.push(CheckoutEvent::PaymentSessionOpened { session_id, payment_url });
        }
    }
    let checkout = Box::new(facts.iter().fold(checkout, Checkout::evolve));
    Start::Order { checkout, told: Told::Asked(CheckoutCommand::Cancel { by: CancelledBy::Operator }) }
}

impl History {
    fn of(records: &[Stored]) -> Self {
        if records.is_empty() {
            return Self::Lost;
        }
        let (mut checkout, mut chain) = (Checkout::default(), ChainEnd::default());
        for stored in records {
            let record: Record<CheckoutEvent> = match chain.read_next(&stored.payload) {
                Ok(record) => record,
                Err(why) => return Self::Damaged { until_then: Box::new(checkout), why },
            };
            checkout = record.events.iter().fold(checkout, Checkout::evolve);
        }
        Self::Sound
    }
}
