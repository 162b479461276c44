//! Money: at most one charge is kept per checkout, and what is not kept goes back exactly once.

use std::collections::BTreeMap;

use common::{
    contracts::refund::refund_of,
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
};
use serde::Serialize;
use workflow_worker::workflow::Next;

use super::{
    finding::{Findings, Promise, look_at},
    history::{CheckoutHistory, Histories, Order, Receipt, RefundHistory},
    way::{RefundStage, Stage},
};

/// The sums of one currency, in minor units. Received = kept + returned + on its way back + for people to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Everything that came in.
    pub received: i128,
    /// Went back by itself or by hand.
    pub returned: i128,
    /// Is being given back, or belongs to a checkout that is not settled yet.
    pub under_way: i128,
    /// Could not be given back: a person has to.
    pub needs_attention: i128,
    /// The shop's.
    pub kept: i128,
    /// What the paid orders cost that were not given back by hand; the same as `kept`.
    pub paid_orders: i128,
}

/// The sums by currency.
pub(super) type Books = BTreeMap<String, Sums>;

/// Judge every checkout's and every refund's money.
pub(super) fn examine(histories: &Histories, findings: &mut Findings) -> Books {
    let mut books = Books::new();
    for (id, checkout) in &histories.checkouts {
        let Some(order) = &checkout.order else { continue };
        let by_hand = histories.refunds.get(&refund_of(*id));
        let money = CheckoutMoney { id: *id, order, checkout, by_hand };
        money.examine_charges(findings);
        // Where a history went astray, it was reported, and nobody can tell what should have gone back.
        if checkout.is_sound() {
            money.examine_refunds(findings);
            money.enter(&mut books);
        }
    }
    for (id, refund) in &histories.refunds {
        examine_by_hand(*id, refund, histories, findings);
    }
    for (currency, sums) in &books {
        if sums.kept != sums.paid_orders {
            findings.broken(
                Promise::Charge,
                "all checkouts",
                format!(
                    "the shop has kept {} minor units of {currency}, but its paid orders cost {}: see the other findings",
                    sums.kept, sums.paid_orders
                ),
            );
        }
    }
    books
}

struct CheckoutMoney<'a> {
    id: WorkflowId,
    order: &'a Order,
    checkout: &'a CheckoutHistory,
    by_hand: Option<&'a RefundHistory>,
}

impl CheckoutMoney<'_> {
    fn workflow(&self) -> WorkflowRef {
        WorkflowRef { kind: WorkflowKind::Checkout, id: self.id }
    }

    fn broken(&self, findings: &mut Findings, text: &str) {
        findings.broken(Promise::Charge, self.workflow(), format!("{text}; {}", look_at(self.workflow())));
    }

    fn examine_charges(&self, findings: &mut Findings) {
        let receipts = &self.checkout.receipts;
        let charges = receipts.iter().filter(|receipt| receipt.pays).count();
        if charges > 1 {
            let text = format!("the customer was charged {charges} times: give back all but one at the provider");
            self.broken(findings, &text);
        }
        for Receipt { pays, notice, .. } in receipts {
            if *pays && notice.amount != self.order.total {
                let text = format!("{} was taken for an order of {}", notice.amount, self.order.total);
                self.broken(findings, &text);
            }
            if let Some(session) = self.checkout.session.as_ref().filter(|session| **session != notice.session_id) {
                let text = format!("money of session {} was booked, but its session is {session}", notice.session_id);
                self.broken(findings, &text);
            }
        }
    }

    fn examine_refunds(&self, findings: &mut Findings) {
        let (to_go_back, refunds) = (self.to_go_back(), self.checkout.refunds.len());
        if refunds > to_go_back.len() {
            let text = format!(
                "{refunds} refunds went through, but {} payments had to go back: ask the provider what was paid out",
                to_go_back.len()
            );
            self.broken(findings, &text);
        }
        let kept = &to_go_back[self.settled()..];
        if self.has_nothing_left_to_do() && !kept.is_empty() {
            let (word, kept) = (self.checkout.stage.word(), sum(kept));
            let text = format!(
                "it has ended ({word}), but {kept} is kept and no refund is owed: give it back at the provider"
            );
            self.broken(findings, &text);
        }
        for reason in &self.checkout.refunds_for_people {
            let text =
                format!("its late money could not be given back: {reason}. Give it back at the provider by hand");
            findings.attention(Promise::Charge, self.workflow(), text);
        }
    }

    fn is_paid(&self) -> bool {
        self.checkout.stage == Stage::Paid
    }

    fn has_nothing_left_to_do(&self) -> bool {
        self.checkout.stage.is_terminal() && self.checkout.replay.next(self.id) == Next::Done
    }

    /// What is not the shop's to keep once the checkout has ended: all of it, or all but the one charge of a paid order.
    fn to_go_back(&self) -> Vec<&Receipt> {
        let keeps = usize::from(self.is_paid());
        let (paying, rest): (Vec<_>, Vec<_>) = self.checkout.receipts.iter().partition(|receipt| receipt.pays);
        paying.into_iter().skip(keeps).chain(rest).collect()
    }

    /// Payments that have gone back or were handed to people.
    fn settled(&self) -> usize {
        let settled = self.checkout.refunds.len() + self.checkout.refunds_for_people.len();
        settled.min(self.to_go_back().len())
    }

    /// Enter this checkout's money into the books.
    fn enter(&self, books: &mut Books) {
        let refunds = self.checkout.refunds.len();
        for (place, receipt) in self.to_go_back().into_iter().enumerate() {
            let (sums, amount) = (entry(books, receipt.notice.amount), i128::from(receipt.notice.amount.amount));
            sums.received += amount;
            if place < refunds {
                sums.returned += amount;
            } else if place < self.settled() {
                sums.needs_attention += amount;
            } else if self.has_nothing_left_to_do() {
                sums.kept += amount;
            } else {
                sums.under_way += amount;
            }
        }
        if !self.is_paid() {
            return;
        }
        let given_back = self.by_hand.is_some_and(|refund| refund.stage == RefundStage::Refunded);
        if let Some(charge) = self.checkout.receipts.iter().find(|receipt| receipt.pays) {
            let (sums, amount) = (entry(books, charge.notice.amount), i128::from(charge.notice.amount.amount));
            sums.received += amount;
            *(if given_back { &mut sums.returned } else { &mut sums.kept }) += amount;
        }
        if !given_back {
            entry(books, self.order.total).paid_orders += i128::from(self.order.total.amount);
        }
    }
}

fn entry(books: &mut Books, money: Money) -> &mut Sums {
    books.entry(money.currency.to_string()).or_default()
}

fn sum(receipts: &[&Receipt]) -> String {
    receipts.iter().map(|receipt| receipt.notice.amount.to_string()).collect::<Vec<_>>().join(" + ")
}

/// A refund by hand gives back the price of one paid checkout, once.
fn examine_by_hand(id: WorkflowId, refund: &RefundHistory, histories: &Histories, findings: &mut Findings) {
    let workflow = WorkflowRef { kind: WorkflowKind::Refund, id };
    let Some(request) = refund.request.as_ref().filter(|_| !refund.replay.is_broken) else { return };
    let checkout = histories.checkouts.get(&request.checkout);
    let mut wrong = Vec::new();
    if refund_of(request.checkout) != id {
        wrong.push(format!("its id is not the one refund of checkout {}: there may be two", request.checkout));
    }
    match checkout {
        None => wrong.push(format!("checkout {} does not exist", request.checkout)),
        Some(checkout) if checkout.is_sound() => {
            if checkout.stage != Stage::Paid {
                wrong.push(format!("checkout {} is not paid", request.checkout));
            }
            if checkout.session.as_ref() != Some(&request.session_id) {
                wrong.push(format!("session {} is not that checkout's", request.session_id));
            }
            if checkout.order.as_ref().is_some_and(|order| order.total != request.amount) {
                wrong.push(format!("{} is not the price", request.amount));
            }
        }
        Some(_) => {}
    }
    if !wrong.is_empty() {
        let text = format!("{}: ask the provider what was paid out; {}", wrong.join("; "), look_at(workflow));
        findings.broken(Promise::Charge, workflow, text);
    }
    if let Some(reason) = &refund.for_people {
        let text = format!(
            "the refund of checkout {} did not go through: {reason}. Give the money back at the provider by hand",
            request.checkout
        );
        findings.attention(Promise::Charge, workflow, text);
    }
}

#[cfg(test)]
mod tests;
