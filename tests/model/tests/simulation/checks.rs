//! CASES K1 to K7 and the three promises: at every stored message, at every movement of money, and once all is at rest.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    contracts::{
        checkout::{CheckoutStatus, RefundStatus},
        inventory::{InventoryCommand, Movement, StockAnswer},
        refund::refund_of,
    },
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    nats::read::Stored,
    record::ChainEnd,
};
use inventory_service::ledger::{Answer, Ledger};
use uuid::Uuid;
use workflow_worker::{
    history::replay,
    workflow::{Next, Workflow},
    workflows::{checkout::Checkout, refund::Refund},
};

use crate::{inventory::book, server::Inner};

/// What is true: folded from what is stored, message by message.
#[derive(Debug, Default)]
pub struct Truth {
    /// Every checkout.
    pub checkouts: BTreeMap<WorkflowId, Tape<Checkout>>,
    /// Every refund by hand.
    pub refunds: BTreeMap<WorkflowId, Tape<Refund>>,
    ledger: Ledger,
    end: ChainEnd,
    delivered: BTreeMap<Sku, u64>,
    deliveries: BTreeSet<Uuid>,
    /// Sessions whose money was put aside for a person.
    pub parked: usize,
    /// The types of all events.
    pub events: BTreeSet<String>,
}

/// A history as it is stored.
#[derive(Debug, Default)]
pub struct Tape<W> {
    /// The state after the last record.
    pub state: W,
    chain: ChainEnd,
}

impl<W: Workflow> Tape<W> {
    fn go_on(&mut self, stored: &Stored, events: &mut BTreeSet<String>) -> Result<(), String> {
        let record = self.chain.read_next::<W::Event>(&stored.payload).map_err(|broken| broken.to_string())?;
        // A time from ahead would hold its checkout up.
        if record.at > stored.time {
            return Err(format!(
                "FT2: record {} says {}, but it was stored at {}",
                record.index, record.at, stored.time
            ));
        }
        events.extend(record.types.split('+').map(str::to_owned));
        self.state = record.events.iter().fold(std::mem::take(&mut self.state), W::evolve);
        Ok(())
    }
}

/// None before the start.
fn status(checkout: &Checkout) -> Option<CheckoutStatus> {
    CheckoutStatus::ALL.into_iter().find(|status| status.as_str() == checkout.status_word())
}

impl Inner {
    /// A record was stored.
    pub fn check_record(&mut self, workflow: WorkflowRef, stored: &Stored) {
        let outcome = match workflow.kind {
            WorkflowKind::Checkout => self.checkout_goes_on(workflow.id, stored),
            WorkflowKind::Refund => {
                let truth = &mut self.truth;
                truth.refunds.entry(workflow.id).or_default().go_on(stored, &mut truth.events)
            }
        };
        if let Err(why) = outcome {
            self.complain(format!("{workflow}: {why}"));
        }
        if workflow.kind == WorkflowKind::Checkout {
            self.check_goods(workflow.id);
        }
    }

    fn checkout_goes_on(&mut self, id: WorkflowId, stored: &Stored) -> Result<(), String> {
        let truth = &mut self.truth;
        let tape = truth.checkouts.entry(id).or_default();
        let before = status(&tape.state);
        tape.go_on(stored, &mut truth.events)?;
        let now = status(&tape.state);
        if before.is_some_and(CheckoutStatus::is_terminal) && before != now {
            return Err(format!("K5: it had ended {before:?} and is {now:?} now"));
        }
        Ok(())
    }

    /// An entry of the ledger was stored.
    pub fn check_entry(&mut self, stored: &Stored) {
        let truth = &mut self.truth;
        let entry = match book(&mut truth.ledger, &mut truth.end, stored) {
            Ok(entry) => entry,
            Err(why) => return self.complain(format!("K1: the ledger contradicts itself: {why}")),
        };
        for movement in &entry.movements {
            match movement {
                Movement::Restocked { restock_id, line, .. } if self.truth.deliveries.insert(*restock_id) => {
                    *self.truth.delivered.entry(line.sku.clone()).or_default() += u64::from(line.quantity);
                }
                Movement::Restocked { restock_id, .. } => self.complain(format!("B13: {restock_id} is booked twice")),
                Movement::Released { workflow, lines } => {
                    if !lines.is_empty() && self.provider.can_be_paid(workflow.id) {
                        self.complain(format!("C8: {workflow} gave its goods back and can still be paid"));
                    }
                    self.check_goods(workflow.id);
                }
                Movement::Reserved { workflow, .. }
                | Movement::ReserveRefused { workflow, .. }
                | Movement::Committed { workflow, .. } => self.check_goods(workflow.id),
            }
        }
        let truth = &self.truth;
        let wrong = truth.ledger.levels().find(|level| {
            let balance = level.balance;
            truth.delivered.get(&level.sku) != Some(&(balance.available + balance.reserved + balance.sold))
        });
        if let Some(level) = wrong {
            self.complain(format!("K1: {level:?} does not add up to what was delivered"));
        }
    }

    fn is_held(&self, id: WorkflowId) -> bool {
        self.truth.ledger.holders().any(|holder| holder.id == id)
    }

    /// Sold, and only then: selling it again moves nothing and is confirmed.
    fn is_sold(&self, id: WorkflowId) -> bool {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id };
        let decision = self.truth.ledger.decide(&InventoryCommand::Commit { workflow }, self.truth.ledger.latest());
        let is_confirmed = matches!(decision.answer, Answer::Stock { answer: StockAnswer::Committed {}, .. });
        is_confirmed && decision.movement.is_none()
    }

    /// CASES K3, at every moment.
    fn check_goods(&mut self, id: WorkflowId) {
        let Some(status) = self.truth.checkouts.get(&id).and_then(|tape| status(&tape.state)) else { return };
        let (held, sold) = (self.is_held(id), self.is_sold(id));
        let fits = match status {
            CheckoutStatus::Reserving => !sold,
            CheckoutStatus::OpeningPayment | CheckoutStatus::AwaitingPayment => held,
            CheckoutStatus::Settling => true,
            CheckoutStatus::Paid => sold,
            CheckoutStatus::Declined
            | CheckoutStatus::Cancelled
            | CheckoutStatus::Expired
            | CheckoutStatus::OutOfStock
            | CheckoutStatus::PaymentUnavailable => !held && !sold,
        };
        if !fits {
            self.complain(format!("K3: checkout {id} is {status:?}; its goods: held {held}, sold {sold}"));
        }
    }

    /// CASES K2, F2, at every moment.
    pub fn check_money(&mut self, id: WorkflowId) {
        if self.provider.charges(id) > 1 {
            self.complain(format!("K4: checkout {id} was charged twice"));
        }
        let (taken, returned) = self.provider.taken_and_returned(id);
        if returned > taken {
            self.complain(format!("F2: {returned} went back of {taken} taken for {id}"));
        }
    }

    /// CASES K6: no session without goods.
    pub fn check_that_goods_are_held(&mut self, id: WorkflowId) {
        let is_settling = self.truth.checkouts.get(&id).is_some_and(|tape| tape.state.status_word() == "settling");
        let has_ended = self.truth.checkouts.get(&id).and_then(|tape| status(&tape.state));
        let is_over = is_settling || has_ended.is_some_and(CheckoutStatus::is_terminal);
        // A worker that is late asks for what its checkout has got over: it is refused, or closed again.
        if !is_over && !self.is_held(id) {
            self.complain(format!("K6: a session is opened for {id}, and nothing is held for it"));
        }
    }

    /// CASES K6: no refund without its reason.
    pub fn check_that_a_refund_is_owed(&mut self, id: WorkflowId) {
        let its = self.truth.checkouts.get(&id);
        let is_late_money = its.and_then(|tape| tape.state.refund_status()).is_some();
        if !is_late_money && !self.truth.refunds.contains_key(&refund_of(id)) {
            self.complain(format!("K6: money of {id} goes back without a reason"));
        }
    }

    /// Everything was delivered, everybody has answered, nothing waits.
    pub fn check_at_rest(&mut self) {
        let ids: Vec<WorkflowId> = self.truth.checkouts.keys().copied().collect();
        for id in ids {
            let tape = &self.truth.checkouts[&id];
            let (next, word) = (tape.state.next(id), tape.state.status_word());
            if next != Next::Done {
                self.complain(format!("promise 3: checkout {id} is {word} and owes {next:?} at rest"));
            }
            if self.provider.can_be_paid(id) {
                self.complain(format!("C8: checkout {id} has ended and can still be paid"));
            }
            self.check_money_at_rest(id);
        }
        let is_open = |(id, tape): (&WorkflowId, &Tape<Refund>)| (tape.state.next(*id) != Next::Done).then_some(*id);
        if let Some(id) = self.truth.refunds.iter().find_map(is_open) {
            self.complain(format!("promise 3: refund {id} has not ended"));
        }
        let is_seen = self.truth.parked > 0
            || self
                .truth
                .checkouts
                .values()
                .any(|tape| tape.state.refund_status() == Some(RefundStatus::NeedsAttention));
        if self.provider.foreign_money_is_kept() && !is_seen {
            self.complain("D11: money of a session that is not ours is forgotten".to_owned());
        }
        self.check_that_replay_gives_the_live_state();
    }

    /// CASES K4.
    fn check_money_at_rest(&mut self, id: WorkflowId) {
        let tape = &self.truth.checkouts[&id];
        let is_paid = tape.state.status_word() == "paid";
        let by_hand = self.truth.refunds.get(&refund_of(id)).map(|tape| tape.state.status());
        let needs_attention = tape.state.refund_status() == Some(RefundStatus::NeedsAttention);
        let (taken, returned) = self.provider.taken_and_returned(id);
        let fits = match by_hand {
            _ if needs_attention => true,
            Some("refunded") => taken > 0 && taken == returned,
            _ if is_paid => taken > 0 && returned == 0,
            _ => taken == returned,
        };
        // Money that contradicts the order is put aside for a person.
        if !fits && self.truth.parked == 0 {
            self.complain(format!(
                "K4: checkout {id}: {taken} taken, {returned} returned, paid {is_paid}, {by_hand:?}"
            ));
        }
    }

    /// CASES K7.
    fn check_that_replay_gives_the_live_state(&mut self) {
        let differs = self.histories.iter().find(|(workflow, stored)| {
            workflow.kind == WorkflowKind::Checkout
                && replay::<Checkout>(workflow.id, stored).ok().map(|replayed| replayed.state)
                    != self.truth.checkouts.get(&workflow.id).map(|tape| tape.state.clone())
        });
        if let Some((workflow, _)) = differs {
            self.complain(format!("K7: a replay of {workflow} gives another state"));
        }
        let (mut ledger, mut end) = (Ledger::default(), ChainEnd::default());
        let is_read = self.ledger.iter().all(|stored| book(&mut ledger, &mut end, stored).is_ok());
        if !is_read || ledger.hash().ok() != self.truth.ledger.hash().ok() {
            self.complain("K7: a replay of the ledger gives another state".to_owned());
        }
    }
}
