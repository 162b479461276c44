//! Every history, read record by record: its chain, its words, its way. What is kept of a workflow is one small fold.

use std::collections::{BTreeMap, HashSet};

use common::{
    contracts::{
        TypeName,
        checkout::{CheckoutEvent, PaymentNotice},
        inventory::StockLine,
        refund::RefundEvent,
    },
    headers,
    ids::{ProviderName, SessionId, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    nats::read::Stored,
    record::{ChainEnd, Record, joined_types},
    subject::Subject,
    time::Timestamp,
};
use workflow_worker::{
    workflow::{Next, Workflow},
    workflows::{checkout::Checkout, refund::Refund},
};

use super::{
    finding::{Findings, Promise, look_at},
    way::{RefundStage, Stage},
};

/// A workflow as its history tells it, read so far.
#[derive(Debug, Default)]
pub(super) struct Replay<W> {
    state: W,
    chain: ChainEnd,
    /// None before the first record.
    pub(super) last: Option<LastRecord>,
    /// Something is wrong with it that makes everything after it worthless; it was reported.
    pub(super) is_broken: bool,
}

/// The newest record of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRecord {
    /// What the record says.
    pub(super) at: Timestamp,
    /// When the server stored it.
    pub(super) stored_at: Timestamp,
    /// Whether its header says that nothing is owed any more, which is what the sweep goes by.
    says_done: bool,
}

impl<W: Workflow> Replay<W> {
    /// Read the next record; its events, or none when it cannot be trusted.
    fn read_on(&mut self, id: WorkflowId, stored: &Stored, findings: &mut Findings) -> Vec<W::Event> {
        if self.is_broken {
            return Vec::new();
        }
        let workflow = WorkflowRef { kind: W::KIND, id };
        let record: Record<W::Event> = match self.chain.read_next(&stored.payload) {
            Ok(record) => record,
            Err(broken) => {
                self.is_broken = true;
                findings.broken(
                    Promise::End,
                    workflow,
                    format!(
                        "its history cannot be trusted from sequence {} on: {broken}. Workers leave it alone; restore \
                         HISTORY from a backup or another replica, or start the newer version that wrote it; {}",
                        stored.sequence,
                        look_at(workflow)
                    ),
                );
                return Vec::new();
            }
        };
        self.state = record.events.iter().fold(std::mem::take(&mut self.state), W::evolve);
        let mistakes = self.mistakes(&record, stored);
        if !mistakes.is_empty() {
            findings.broken(
                Promise::End,
                workflow,
                format!(
                    "record {} (sequence {}) {}; {}",
                    record.index,
                    stored.sequence,
                    mistakes.join("; "),
                    look_at(workflow)
                ),
            );
        }
        let says_done = header(stored, headers::NEXT) == Some("done");
        self.last = Some(LastRecord { at: record.at, stored_at: stored.time, says_done });
        record.events
    }

    /// What the record and its headers claim, against what the events before it lead to.
    fn mistakes(&self, record: &Record<W::Event>, stored: &Stored) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut compare = |what: &str, found: &str, expected: &str| {
            if found != expected {
                mistakes.push(format!("{what} says {found:?}, but its events say {expected:?}"));
            }
        };
        let types = joined_types(&record.events);
        compare("`type`", &record.types, &types);
        compare("`status`", &record.status, self.state.status());
        compare("the type header", header(stored, headers::TYPE).unwrap_or_default(), &types);
        compare("the status header", header(stored, headers::STATUS).unwrap_or_default(), self.state.status());
        compare("the index header", header(stored, headers::INDEX).unwrap_or_default(), &record.index.to_string());
        if record.events.is_empty() {
            mistakes.push("has no events".into());
        }
        if let Some(last) = self.last.filter(|last| record.at < last.at) {
            mistakes.push(format!("happened at {}, before the record before it ({})", record.at, last.at));
        }
        mistakes
    }

    /// What it owes now.
    pub(super) fn next(&self, id: WorkflowId) -> Next {
        self.state.next(id)
    }

    fn finish(&self, id: WorkflowId, word: Option<&str>, findings: &mut Findings) {
        let workflow = WorkflowRef { kind: W::KIND, id };
        let Some(last) = self.last.filter(|_| !self.is_broken) else { return };
        if let Some(word) = word.filter(|word| *word != self.state.status()) {
            findings.broken(
                Promise::End,
                workflow,
                format!("replay says {}, but its events lead to {word}; {}", self.state.status(), look_at(workflow)),
            );
        }
        let is_done = self.next(id) == Next::Done;
        if is_done != last.says_done {
            let (header, replay) = if is_done { ("open", "done") } else { ("done", "open") };
            findings.broken(
                Promise::End,
                workflow,
                format!(
                    "the newest record's {} header says that it is {header}, but replay says {replay}: the sweep would \
                     not know; nudge it and report this with its history; {}",
                    headers::NEXT,
                    look_at(workflow)
                ),
            );
        }
    }
}

fn header(stored: &Stored, name: async_nats::HeaderName) -> Option<&str> {
    stored.headers.get(name).map(async_nats::HeaderValue::as_str)
}

/// One checkout, and what its events say of money and goods.
#[derive(Debug, Default)]
pub(super) struct CheckoutHistory {
    pub(super) replay: Replay<Checkout>,
    /// Where its events have led.
    pub(super) stage: Stage,
    /// An event came that cannot have happened at that stage; it was reported.
    pub(super) is_astray: bool,
    /// What was bought; `None` before the start.
    pub(super) order: Option<Order>,
    pub(super) session: Option<SessionId>,
    pub(super) payment_deadline: Option<Timestamp>,
    pub(super) receipts: Vec<Receipt>,
    /// Refunds that went through, by the provider's names for them.
    pub(super) refunds: Vec<String>,
    /// Why refunds need a person, in the provider's words.
    pub(super) refunds_for_people: Vec<String>,
}

/// What was bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) lines: Vec<StockLine>,
    pub(super) total: Money,
    pub(super) provider: ProviderName,
}

/// Money that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Whether it pays the order; otherwise it must go back.
    pub(super) pays: bool,
    pub(super) notice: PaymentNotice,
    /// When it was recorded.
    pub(super) at: Timestamp,
}

impl CheckoutHistory {
    fn read_on(&mut self, id: WorkflowId, stored: &Stored, findings: &mut Findings) {
        let events = self.replay.read_on(id, stored, findings);
        let at = self.replay.last.map_or(stored.time, |last| last.at);
        for event in &events {
            self.remember(event, at);
            self.follow(id, event, stored.sequence, findings);
        }
    }

    fn remember(&mut self, event: &CheckoutEvent, at: Timestamp) {
        let mut receive = |pays: bool, notice: &PaymentNotice| {
            // The answer to opening the session may never have arrived: then the money tells which one it is.
            self.session.get_or_insert_with(|| notice.session_id.clone());
            self.receipts.push(Receipt { pays, notice: notice.clone(), at });
        };
        match event {
            CheckoutEvent::CheckoutStarted { lines, total, provider, .. } => {
                let lines =
                    lines.iter().map(|line| StockLine { sku: line.sku.clone(), quantity: line.quantity }).collect();
                self.order.get_or_insert(Order { lines, total: *total, provider: provider.clone() });
            }
            CheckoutEvent::StockReserved { payment_deadline } => self.payment_deadline = Some(*payment_deadline),
            CheckoutEvent::PaymentSessionOpened { session_id, .. } => self.session = Some(session_id.clone()),
            CheckoutEvent::PaymentReceived { notice } => receive(true, notice),
            CheckoutEvent::LatePaymentReceived { notice } | CheckoutEvent::WrongAmountReceived { notice } => {
                receive(false, notice);
            }
            CheckoutEvent::Refunded { refund_id } => self.refunds.push(refund_id.clone()),
            CheckoutEvent::RefundNeedsAttention { reason } => self.refunds_for_people.push(reason.clone()),
            CheckoutEvent::StockRefused { .. }
            | CheckoutEvent::PaymentRefused { .. }
            | CheckoutEvent::PaymentStepFailed { .. }
            | CheckoutEvent::PaymentStepRetried { .. }
            | CheckoutEvent::PaymentDeclined { .. }
            | CheckoutEvent::PaymentCancelled { .. }
            | CheckoutEvent::CancelRequested { .. }
            | CheckoutEvent::DeadlinePassed {}
            | CheckoutEvent::PaymentGivenUp { .. }
            | CheckoutEvent::PaymentSessionClosed {}
            | CheckoutEvent::StockSold {}
            | CheckoutEvent::SaleRefused { .. }
            | CheckoutEvent::StockReleased {} => {}
        }
    }

    fn follow(&mut self, id: WorkflowId, event: &CheckoutEvent, sequence: u64, findings: &mut Findings) {
        if self.is_astray {
            return;
        }
        if let Some(stage) = self.stage.after(event) {
            self.stage = stage;
        } else {
            self.is_astray = true;
            let is_about_money = matches!(
                event,
                CheckoutEvent::PaymentReceived { .. }
                    | CheckoutEvent::LatePaymentReceived { .. }
                    | CheckoutEvent::WrongAmountReceived { .. }
                    | CheckoutEvent::Refunded { .. }
            );
            let promise = if is_about_money { Promise::Charge } else { Promise::End };
            let where_it_stood = if self.stage.is_terminal() { "had ended" } else { "was" };
            report_misfit(
                promise,
                WorkflowRef { kind: WorkflowKind::Checkout, id },
                event.type_name(),
                &format!("{where_it_stood} {} by then", self.stage.word()),
                sequence,
                findings,
            );
        }
    }

    /// Whether it can be compared with other streams at all.
    pub(super) fn is_sound(&self) -> bool {
        !self.replay.is_broken && !self.is_astray && self.order.is_some()
    }
}

/// One refund by hand.
#[derive(Debug, Default)]
pub(super) struct RefundHistory {
    pub(super) replay: Replay<Refund>,
    /// Where its events have led.
    pub(super) stage: RefundStage,
    /// An event came that cannot have happened at that stage; it was reported.
    pub(super) is_astray: bool,
    /// What was asked for; `None` before the start.
    pub(super) request: Option<RefundByHand>,
    /// Why it needs a person, in the provider's words.
    pub(super) for_people: Option<String>,
}

/// What an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefundByHand {
    pub(super) checkout: WorkflowId,
    pub(super) session_id: SessionId,
    pub(super) amount: Money,
}

impl RefundHistory {
    fn read_on(&mut self, id: WorkflowId, stored: &Stored, findings: &mut Findings) {
        for event in &self.replay.read_on(id, stored, findings) {
            match event {
                RefundEvent::RefundRequested { checkout, session_id, amount, .. } => {
                    let request = RefundByHand { checkout: *checkout, session_id: session_id.clone(), amount: *amount };
                    self.request.get_or_insert(request);
                }
                RefundEvent::RefundNeedsAttention { reason } => self.for_people = Some(reason.clone()),
                RefundEvent::RefundFailed { .. } | RefundEvent::RefundRetried { .. } | RefundEvent::Refunded { .. } => {
                }
            }
            if self.is_astray {
                continue;
            }
            if let Some(stage) = self.stage.after(event) {
                self.stage = stage;
            } else {
                self.is_astray = true;
                let workflow = WorkflowRef { kind: WorkflowKind::Refund, id };
                let stood = format!("was {} by then", self.stage.word());
                report_misfit(Promise::Charge, workflow, event.type_name(), &stood, stored.sequence, findings);
            }
        }
    }
}

fn report_misfit(
    promise: Promise,
    workflow: WorkflowRef,
    event: &str,
    stood: &str,
    sequence: u64,
    findings: &mut Findings,
) {
    let text = format!(
        "{event} (sequence {sequence}) cannot have happened there: the {} {stood}. No version of this system writes \
         that; {}",
        workflow.kind,
        look_at(workflow)
    );
    findings.broken(promise, workflow, text);
}

/// All histories, read so far.
#[derive(Debug, Default)]
pub(super) struct Histories {
    pub(super) checkouts: BTreeMap<WorkflowId, CheckoutHistory>,
    pub(super) refunds: BTreeMap<WorkflowId, RefundHistory>,
    pub(super) records: u64,
}

impl Histories {
    /// Read one message of `HISTORY`; whose it is, if that can be told.
    pub(super) fn read_on(&mut self, stored: &Stored, findings: &mut Findings) -> Option<WorkflowRef> {
        let workflow = match stored.subject.parse() {
            Ok(Subject::History(workflow)) => workflow,
            // Nobody's: a reader has proved with it how far it had come.
            Ok(Subject::HistoryProof(_)) => return None,
            _ => {
                findings.attention(
                    Promise::End,
                    "stream HISTORY",
                    format!(
                        "sequence {} is on {}, which is no history that this version knows: run the newer doctor",
                        stored.sequence, stored.subject
                    ),
                );
                return None;
            }
        };
        self.records += 1;
        match workflow.kind {
            WorkflowKind::Checkout => {
                self.checkouts.entry(workflow.id).or_default().read_on(workflow.id, stored, findings);
            }
            WorkflowKind::Refund => self.refunds.entry(workflow.id).or_default().read_on(workflow.id, stored, findings),
        }
        Some(workflow)
    }

    /// What can only be said when everything is read.
    pub(super) fn finish(&self, findings: &mut Findings) {
        for (id, checkout) in &self.checkouts {
            let word = (!checkout.is_astray).then(|| checkout.stage.word());
            checkout.replay.finish(*id, word, findings);
        }
        for (id, refund) in &self.refunds {
            let word = (!refund.is_astray).then(|| refund.stage.word());
            refund.replay.finish(*id, word, findings);
        }
        self.find_shared_sessions(findings);
    }

    /// A payment session belongs to one checkout: shared, one customer would pay for another.
    fn find_shared_sessions(&self, findings: &mut Findings) {
        let mut sessions = HashSet::new();
        for (id, checkout) in &self.checkouts {
            let (Some(order), Some(session)) = (&checkout.order, &checkout.session) else { continue };
            if !sessions.insert((&order.provider, session)) {
                let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: *id };
                findings.broken(
                    Promise::Charge,
                    workflow,
                    format!(
                        "its payment session {session} of {} is another checkout's too: ask the provider who paid",
                        order.provider
                    ),
                );
            }
        }
    }

    /// How many checkouts there are of each status word.
    pub(super) fn checkouts_by_status(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for checkout in self.checkouts.values() {
            let word = if checkout.is_sound() { checkout.stage.word() } else { "untrusted" };
            *counts.entry(word).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests;
