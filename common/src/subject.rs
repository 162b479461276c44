//! Every subject in the system; no other file builds a subject string.

use std::{fmt, num::NonZeroU8, str::FromStr};

use uuid::Uuid;

use crate::{
    ids::{InvalidName, ProviderEventId, ProviderName, Sku, WorkflowId, WorkflowKind, WorkflowRef},
    shards::Shard,
};

/// Where a message is published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `command.<kind>.<id>`: what someone asks of one workflow. Stream `COMMANDS`.
    Command(WorkflowRef),
    /// `history.<kind>.<id>`: what has happened in one workflow, oldest first. Stream `HISTORY`.
    History(WorkflowRef),
    /// `proof.history.<id>`: proof of how far a reader has come. Stream `HISTORY`; see [`crate::nats::read_index`].
    HistoryProof(Uuid),
    /// `live.history.<kind>.<id>`: the same, told at once to whoever listens, after it is stored. No stream.
    LiveHistory(WorkflowRef),
    /// `timer.<kind>.<id>`: the one wake-up call of a workflow. Stream `TIMERS`.
    Timer(WorkflowRef),
    /// `due.<kind>.<id>`: the wake-up call itself. Stream `TIMERS`.
    Due(WorkflowRef),
    /// `timer.group.<id>`: one wake-up call of many workflows. Stream `TIMERS`.
    TimerGroup(Uuid),
    /// `due.group.<id>`: that wake-up call itself. Stream `TIMERS`.
    DueGroup(Uuid),
    /// `timer.sweep`: when the next sweep begins. Stream `TIMERS`.
    SweepTimer,
    /// `due.sweep`: a sweep begins. Stream `TIMERS`.
    SweepDue,
    /// `webhook.<provider>.<event id>`: one authentic webhook. Stream `WEBHOOKS`.
    Webhook(ProviderName, ProviderEventId),
    /// `inventory.command.<id>`: what someone asks of the inventory. Stream `INVENTORY_COMMANDS`.
    InventoryCommand(Uuid),
    /// `inventory.group.<id>`: the same, for many at once. Stream `INVENTORY_COMMANDS`.
    InventoryGroup(Uuid),
    /// `inventory.ledger`: every movement of stock. Stream `INVENTORY`.
    InventoryLedger,
    /// `inventory.stock.<sku>`: how many there are of one article. Stream `STOCK`.
    Stock(Sku),
    /// `catalogue.<sku>`: what one article is. Stream `CATALOGUE`.
    Catalogue(Sku),
    /// `deadletter.<area>`: what could not be handled. Stream `DEAD_LETTERS`.
    DeadLetter(DeadLetterArea),
    /// `deadletter.settled.<sequence>`: what an operator did about the letter of that sequence. Stream `DEAD_LETTERS`.
    LetterSettled(u64),
}

/// Where a parked message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterArea {
    /// A command that cannot be read, that nobody can serve, or that kept failing.
    Command,
    /// A webhook that is authentic and fits no checkout.
    Webhook,
    /// A timer that cannot be read.
    Due,
    /// An inventory command that cannot be read or contradicts the ledger.
    Inventory,
    /// A history that cannot be trusted; the workflow is quarantined.
    History,
}

impl DeadLetterArea {
    /// Every area.
    pub const ALL: [Self; 5] = [Self::Command, Self::Webhook, Self::Due, Self::Inventory, Self::History];

    /// The word in subjects and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Webhook => "webhook",
            Self::Due => "due",
            Self::Inventory => "inventory",
            Self::History => "history",
        }
    }
}

impl Subject {
    /// As it is written in a part of the streams; see [`crate::shards`].
    #[must_use]
    pub fn in_shard(&self, shard: Shard) -> String {
        let Shard::Numbered(number) = shard else { return self.to_string() };
        match self {
            Self::Command(workflow) => format!("command.{number}.{}.{}", workflow.kind, workflow.id),
            Self::History(workflow) => format!("history.{number}.{}.{}", workflow.kind, workflow.id),
            Self::HistoryProof(series) => format!("proof.history.{number}.{series}"),
            Self::LiveHistory(workflow) => format!("live.history.{number}.{}.{}", workflow.kind, workflow.id),
            elsewhere => elsewhere.to_string(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(workflow) => write!(f, "command.{}.{}", workflow.kind, workflow.id),
            Self::History(workflow) => write!(f, "history.{}.{}", workflow.kind, workflow.id),
            Self::HistoryProof(series) => write!(f, "proof.history.{series}"),
            Self::LiveHistory(workflow) => write!(f, "live.history.{}.{}", workflow.kind, workflow.id),
            Self::Timer(workflow) => write!(f, "timer.{}.{}", workflow.kind, workflow.id),
            Self::Due(workflow) => write!(f, "due.{}.{}", workflow.kind, workflow.id),
            Self::TimerGroup(id) => write!(f, "timer.group.{id}"),
            Self::DueGroup(id) => write!(f, "due.group.{id}"),
            Self::SweepTimer => f.write_str("timer.sweep"),
            Self::SweepDue => f.write_str("due.sweep"),
            Self::Webhook(provider, event) => write!(f, "webhook.{provider}.{event}"),
            Self::InventoryCommand(id) => write!(f, "inventory.command.{id}"),
            Self::InventoryGroup(id) => write!(f, "inventory.group.{id}"),
            Self::InventoryLedger => f.write_str("inventory.ledger"),
            Self::Stock(sku) => write!(f, "inventory.stock.{sku}"),
            Self::Catalogue(sku) => write!(f, "catalogue.{sku}"),
            Self::DeadLetter(area) => write!(f, "deadletter.{}", area.as_str()),
            Self::LetterSettled(sequence) => write!(f, "deadletter.settled.{sequence}"),
        }
    }
}

impl FromStr for Subject {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let tokens: Vec<&str> = text.split('.').collect();
        let workflow = |kind: &str, id: &str| -> Result<WorkflowRef, InvalidName> {
            Ok(WorkflowRef { kind: kind.parse::<WorkflowKind>()?, id: id.parse::<WorkflowId>()? })
        };
        let uuid = |id: &str| Ok::<_, InvalidName>(id.parse::<WorkflowId>()?.as_uuid());
        match tokens[..] {
            ["timer", "sweep"] => Ok(Self::SweepTimer),
            ["due", "sweep"] => Ok(Self::SweepDue),
            ["command", kind, id] => Ok(Self::Command(workflow(kind, id)?)),
            ["history", kind, id] => Ok(Self::History(workflow(kind, id)?)),
            ["proof", "history", series] => Ok(Self::HistoryProof(uuid(series)?)),
            ["proof", "history", part, series] if is_part(part) => Ok(Self::HistoryProof(uuid(series)?)),
            ["live", "history", kind, id] => Ok(Self::LiveHistory(workflow(kind, id)?)),
            ["command", part, kind, id] if is_part(part) => Ok(Self::Command(workflow(kind, id)?)),
            ["history", part, kind, id] if is_part(part) => Ok(Self::History(workflow(kind, id)?)),
            ["live", "history", part, kind, id] if is_part(part) => Ok(Self::LiveHistory(workflow(kind, id)?)),
            ["timer", "group", id] => Ok(Self::TimerGroup(uuid(id)?)),
            ["due", "group", id] => Ok(Self::DueGroup(uuid(id)?)),
            ["timer", kind, id] => Ok(Self::Timer(workflow(kind, id)?)),
            ["due", kind, id] => Ok(Self::Due(workflow(kind, id)?)),
            ["webhook", provider, event] => Ok(Self::Webhook(provider.parse()?, event.parse()?)),
            ["inventory", "command", id] => Ok(Self::InventoryCommand(uuid(id)?)),
            ["inventory", "group", id] => Ok(Self::InventoryGroup(uuid(id)?)),
            ["inventory", "ledger"] => Ok(Self::InventoryLedger),
            ["inventory", "stock", sku] => Ok(Self::Stock(sku.parse()?)),
            ["catalogue", sku] => Ok(Self::Catalogue(sku.parse()?)),
            ["deadletter", area] => DeadLetterArea::ALL
                .into_iter()
                .find(|known| known.as_str() == area)
                .map(Self::DeadLetter)
                .ok_or_else(|| unknown(text)),
            ["deadletter", "settled", sequence] => {
                let number = sequence.parse().map_err(|_| unknown(text))?;
                let subject = Self::LetterSettled(number);
                // One spelling only: no sign, no leading zeros.
                if subject.to_string() == text { Ok(subject) } else { Err(unknown(text)) }
            }
            _ => Err(unknown(text)),
        }
    }
}

/// The number of a part of the streams, in its one spelling.
fn is_part(token: &str) -> bool {
    token.parse::<NonZeroU8>().is_ok_and(|number| number.to_string() == token)
}

fn unknown(text: &str) -> InvalidName {
    InvalidName { what: "subject", value: text.chars().take(80).collect(), expected: "a subject of this system" }
}

impl From<Subject> for async_nats::Subject {
    fn from(subject: Subject) -> Self {
        subject.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_subject() -> Vec<Subject> {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
        let mut subjects = vec![
            Subject::Command(workflow),
            Subject::History(WorkflowRef { kind: WorkflowKind::Refund, ..workflow }),
            Subject::LiveHistory(workflow),
            Subject::Timer(workflow),
            Subject::Due(workflow),
            Subject::TimerGroup(workflow.id.as_uuid()),
            Subject::DueGroup(workflow.id.as_uuid()),
            Subject::SweepTimer,
            Subject::SweepDue,
            Subject::HistoryProof(workflow.id.as_uuid()),
            Subject::Webhook("sandbox".parse().expect("a provider"), "evt_1".parse().expect("an event id")),
            Subject::InventoryCommand(workflow.id.as_uuid()),
            Subject::InventoryGroup(workflow.id.as_uuid()),
            Subject::InventoryLedger,
            Subject::Stock("MUG-1".parse().expect("a sku")),
            Subject::Catalogue("MUG-1".parse().expect("a sku")),
            Subject::LetterSettled(17),
        ];
        subjects.extend(DeadLetterArea::ALL.map(Subject::DeadLetter));
        subjects
    }

    #[test]
    fn what_is_written_is_read_back() {
        for subject in every_subject() {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for text in [
            "",
            "command",
            "command.checkout",
            "command.checkout.x",
            "command.other.x",
            "history.*.>",
            "inventory.stock.",
            "deadletter.settled.x",
            "deadletter.settled.007",
            "history.0.checkout.00000000-0000-0000-0000-000000000000",
            "history.01.checkout.00000000-0000-0000-0000-000000000000",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }
}
