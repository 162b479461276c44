//! Progress: whatever is not done waits for a time that will wake it, or something that moves it is under way.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use common::{
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    time::{Timestamp, after, in_words},
};
use serde::Serialize;
use workflow_worker::workflow::{Next, Workflow};

use super::{
    finding::{Findings, Promise, look_at},
    history::{Histories, Replay},
};

/// A turn sets the wake-up call that it needs and sends on what it owes; one that lasts longer than this has failed.
const TURN: Duration = Duration::from_secs(60);

/// What is under way to workflows.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// Messages that wait or are being worked on, for each workflow.
    pub(super) messages: HashMap<WorkflowRef, u64>,
    /// The workflows whose wake-up call is set.
    pub(super) timers: HashSet<WorkflowRef>,
    pub(super) counts: WaitingCounts,
}

/// Messages that wait or are being worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WaitingCounts {
    /// In `COMMANDS`.
    pub commands: u64,
    /// In `INVENTORY_COMMANDS`.
    pub inventory_commands: u64,
    /// Answers in the ledger that are not known to be acked.
    pub booked: u64,
    /// Wake-up calls that have gone off and are not known to be acked.
    pub due: u64,
}

impl UnderWay {
    /// A message for a workflow waits.
    pub(super) fn add(&mut self, workflow: WorkflowRef) {
        *self.messages.entry(workflow).or_default() += 1;
    }
}

/// When it was looked, and how late something may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) now: Timestamp,
    pub(super) stuck_after: Duration,
}

/// Judge every workflow that is not done, but for those that moved while they were being read.
pub(super) fn examine(
    histories: &Histories,
    under_way: &UnderWay,
    moved: &HashSet<WorkflowRef>,
    patience: Patience,
    findings: &mut Findings,
) {
    let mut judge = Judge { under_way, patience, findings };
    for (id, checkout) in &histories.checkouts {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: *id };
        if checkout.is_sound() && !moved.contains(&workflow) {
            let deadline = checkout.payment_deadline.filter(|_| !checkout.stage.is_terminal());
            judge.examine(*id, &checkout.replay, checkout.stage.word(), deadline);
        }
    }
    for (id, refund) in &histories.refunds {
        let workflow = WorkflowRef { kind: WorkflowKind::Refund, id: *id };
        if !refund.replay.is_broken && !refund.is_astray && !moved.contains(&workflow) {
            judge.examine(*id, &refund.replay, refund.stage.word(), None);
        }
    }
}

struct Judge<'a> {
    under_way: &'a UnderWay,
    patience: Patience,
    findings: &'a mut Findings,
}

impl Judge<'_> {
    fn examine<W: Workflow>(
        &mut self,
        id: WorkflowId,
        replay: &Replay<W>,
        word: &str,
        payment_deadline: Option<Timestamp>,
    ) {
        let workflow = WorkflowRef { kind: W::KIND, id };
        let Some(last) = replay.last else { return };
        let (expected_at, owed) = match replay.next(id) {
            Next::Done | Next::Wait { until: None } => return,
            Next::Wait { until: Some(until) } => (until.max(last.stored_at), format!("to be woken at {until}")),
            Next::Run(step) => (last.stored_at, step.type_name().to_owned()),
        };
        let messages = self.under_way.messages.get(&workflow).copied().unwrap_or(0);
        if self.is_over(expected_at, self.patience.stuck_after) {
            self.report_late(workflow, word, &owed, messages);
        } else if payment_deadline.is_some_and(|deadline| self.is_over(deadline, self.patience.stuck_after)) {
            let text = format!(
                "it is {word}, long after its time to pay was over, and is tried again ({owed}): does the payment provider \
                 answer? {}",
                look_at(workflow)
            );
            self.findings.attention(Promise::End, workflow, text);
        } else if messages == 0
            && self.is_over(last.stored_at, TURN)
            && (self.is_over(expected_at, TURN) || expected_at > self.patience.now)
            && !self.under_way.timers.contains(&workflow)
        {
            let text = format!(
                "it is {word} and owes {owed}, but no call is set in TIMERS and nothing is under way to it: only the sweep \
                 will find it. Report this with its history; {}",
                look_at(workflow)
            );
            self.findings.attention(Promise::End, workflow, text);
        }
    }

    fn is_over(&self, at: Timestamp, patience: Duration) -> bool {
        after(at, patience) < self.patience.now
    }

    fn report_late(&mut self, workflow: WorkflowRef, word: &str, owed: &str, messages: u64) {
        let patience = in_words(self.patience.stuck_after);
        if messages > 0 {
            let text = format!(
                "it is {word} and owes {owed}, more than {patience} late; messages waiting for it: {messages}. Are the \
                 workers and the inventory service running?"
            );
            self.findings.attention(Promise::End, workflow, text);
        } else {
            let text = format!(
                "it is stuck: it is {word} and owes {owed}, more than {patience} late, and nothing is under way to it. Are the \
                 workers running (their sweep finds it)? If they are, report this with its history; {}",
                look_at(workflow)
            );
            self.findings.broken(Promise::End, workflow, text);
        }
    }
}

#[cfg(test)]
mod tests;
