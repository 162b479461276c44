//! Each history: unbroken, ended once, and owing the same however often it is read.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{
    contracts::{
        checkout::{CheckoutEvent, CheckoutStatus, Line},
        refund::{RefundEvent, refund_of},
    },
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    record::{ChainEnd, Record},
};
use workflow_worker::{
    workflow::{Next, Workflow},
    workflows::{checkout::Checkout, refund::Refund},
};

use super::{super::facts::Facts, Violations};

/// A workflow as its records tell it.
#[derive(Debug)]
pub(super) struct Story<E> {
    pub(super) events: Vec<E>,
    /// The public word after each record.
    pub(super) statuses: Vec<String>,
    /// What is owed after the last record.
    pub(super) next: Next,
}

impl<E> Story<E> {
    pub(super) fn status(&self) -> &str {
        self.statuses.last().map_or("not_started", String::as_str)
    }
}

/// What a checkout was about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) lines: &'a [Line],
    pub(super) total: Money,
}

impl Story<CheckoutEvent> {
    pub(super) fn order(&self) -> Option<Order<'_>> {
        match self.events.first() {
            Some(CheckoutEvent::CheckoutStarted { lines, total, .. }) => Some(Order { lines, total: *total }),
            _ => None,
        }
    }
}

/// Every workflow whose history can be read.
#[derive(Debug, Default)]
pub(super) struct Stories {
    pub(super) checkouts: BTreeMap<WorkflowId, Story<CheckoutEvent>>,
    pub(super) refunds: BTreeMap<WorkflowId, Story<RefundEvent>>,
}

impl Stories {
    /// Whether an operator has given the money of a checkout back.
    pub(super) fn is_refunded_by_hand(&self, checkout: WorkflowId) -> bool {
        self.refunds.get(&refund_of(checkout)).is_some_and(|refund| refund.status() == "refunded")
    }
}

/// Read all histories; those that are broken are reported and left out.
pub(super) fn read(facts: &Facts, violations: &mut Violations) -> Stories {
    let mut stories = Stories::default();
    for (workflow, records) in &facts.histories {
        match workflow.kind {
            WorkflowKind::Checkout => {
                if let Some(story) = read_one::<Checkout>(*workflow, records, violations) {
                    stories.checkouts.insert(workflow.id, story);
                }
            }
            WorkflowKind::Refund => {
                if let Some(story) = read_one::<Refund>(*workflow, records, violations) {
                    stories.refunds.insert(workflow.id, story);
                }
            }
        }
    }
    stories
}

/// Index, chain and words of every record; and what is owed after each, twice.
fn read_one<W: Workflow>(
    workflow: WorkflowRef,
    records: &[Bytes],
    violations: &mut Violations,
) -> Option<Story<W::Event>> {
    let look = format!("see `nats stream view HISTORY --subject history.{}.{}`", workflow.kind, workflow.id);
    let (mut chain, mut state) = (ChainEnd::default(), W::default());
    let mut story = Story { events: Vec::new(), statuses: Vec::new(), next: state.next(workflow.id) };
    for (place, bytes) in records.iter().enumerate() {
        let record: Record<W::Event> = match chain.read_next(bytes) {
            Ok(record) => record,
            Err(broken) => {
                violations.add("history unbroken", workflow, format!("{broken}; {look}"));
                return None;
            }
        };
        state = record.events.iter().fold(state, W::evolve);
        if state.status() != record.status {
            let text = format!("record {place} says {}, but replay says {}; {look}", record.status, state.status());
            violations.add("replay tells the same", workflow, text);
        }
        story.events.extend(record.events);
        story.statuses.push(record.status);
        // From the first record on, all at once, instead of one record after the other.
        let again = story.events.iter().fold(W::default(), W::evolve);
        if again.next(workflow.id) != state.next(workflow.id) || again.status() != state.status() {
            let text = format!("two replays of the first {} records owe different things; {look}", place + 1);
            violations.add("replay tells the same", workflow, text);
        }
    }
    story.next = state.next(workflow.id);
    Some(story)
}

/// Every checkout has come to exactly one end, and owes nothing.
pub(super) fn check(stories: &Stories, violations: &mut Violations) {
    for (id, story) in &stories.checkouts {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: *id };
        let is_end = |word: &&String| {
            CheckoutStatus::ALL.iter().any(|status| status.as_str() == word.as_str() && status.is_terminal())
        };
        let mut ends: Vec<&String> = story.statuses.iter().skip_while(|word| !is_end(word)).collect();
        ends.dedup();
        match ends[..] {
            [] => violations.add("exactly one end", workflow, format!("it never ended: it is {}", story.status())),
            [_] => {}
            [first, second, ..] => {
                violations.add("exactly one end", workflow, format!("it ended as {first}, and then it was {second}"));
            }
        }
        if story.next != Next::Done {
            let text = format!("it is {} and still owes {:?}", story.status(), story.next);
            violations.add("nothing is owed", workflow, text);
        }
    }
    for (id, story) in &stories.refunds {
        if story.status() != "refunded" {
            let workflow = WorkflowRef { kind: WorkflowKind::Refund, id: *id };
            violations.add("exactly one end", workflow, format!("the refund by hand is {}", story.status()));
        }
    }
}
