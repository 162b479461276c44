//! What must be true of every state, and of one in which nothing is left to do.

use common::contracts::checkout::{CheckoutStatus, RefundStatus};
use workflow_worker::workflows::checkout::Checkout as RealCheckout;

use super::{
    bounds::Bounds,
    rules::{Owed, Rules},
    state::{Checkout, Session, State},
};

/// A promise that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Broken {
    /// The customer was charged twice for one checkout.
    ChargedTwice,
    /// More went back than came.
    RefundedTwice,
    /// What is sold was given back, too.
    RefundedWhatIsSold,
    /// available + reserved + sold is not what was delivered.
    StockDoesNotAddUp,
    /// The ledger's rules do not allow what the ledger says.
    LedgerContradictsItself,
    /// It is undecided, and nothing is held for it.
    UndecidedWithoutGoods,
    /// It ended otherwise than paid, and goods are held or sold.
    GoodsWithoutDecision,
    /// It ended paid, and the goods are not sold.
    PaidWithoutGoods,
    /// The goods went back, and the session can still be paid.
    CanStillBePaid,
    /// An end was followed by another end.
    EndChanged,
    /// Nothing is left to do, and it has not ended.
    NeverEnds,
    /// Nothing is left to do, and money was kept without a sale, or a sale made without money.
    MoneyIsWrong,
    /// No end can be reached from here, whatever happens.
    CannotEnd,
}

/// Each promise that a state breaks; none, usually.
pub fn broken(state: &State, rules: &mut Rules, bounds: &Bounds) -> Option<Broken> {
    if state.ledger_contradicts_itself {
        return Some(Broken::LedgerContradictsItself);
    }
    let balance = rules.ledger.balance(state.ledger.newest());
    if balance.available + balance.reserved + balance.sold != u64::from(bounds.stock) {
        return Some(Broken::StockDoesNotAddUp);
    }
    (0..bounds.checkouts).find_map(|number| broken_for(state, rules, number))
}

fn broken_for(state: &State, rules: &mut Rules, number: u8) -> Option<Broken> {
    let its = state.checkout(number);
    let held = rules.ledger.is_held(state.ledger.newest(), number);
    let sold = rules.ledger.is_sold(state.ledger.newest(), number);
    let status = status(rules, its);
    if its.charges > 1 {
        return Some(Broken::ChargedTwice);
    }
    if its.refunds > its.charges {
        return Some(Broken::RefundedTwice);
    }
    if end_changed(rules, its) {
        return Some(Broken::EndChanged);
    }
    match status {
        None | Some(CheckoutStatus::Reserving | CheckoutStatus::Settling) => {}
        Some(CheckoutStatus::OpeningPayment | CheckoutStatus::AwaitingPayment) if !held => {
            return Some(Broken::UndecidedWithoutGoods);
        }
        Some(CheckoutStatus::OpeningPayment | CheckoutStatus::AwaitingPayment) => {}
        Some(CheckoutStatus::Paid) if !sold => return Some(Broken::PaidWithoutGoods),
        Some(CheckoutStatus::Paid) if its.refunds > 0 => return Some(Broken::RefundedWhatIsSold),
        Some(CheckoutStatus::Paid) => {}
        Some(_) if held || sold => return Some(Broken::GoodsWithoutDecision),
        Some(_) => {}
    }
    let is_payable = matches!(its.session, Session::Open | Session::TurnedAway);
    (is_payable && !held && !sold).then_some(Broken::CanStillBePaid)
}

fn status(rules: &Rules, its: &Checkout) -> Option<CheckoutStatus> {
    status_of(rules.checkout(its.history.newest()))
}

/// None before the start.
#[must_use]
pub fn status_of(real: &RealCheckout) -> Option<CheckoutStatus> {
    CheckoutStatus::ALL.into_iter().find(|status| status.as_str() == real.status_word())
}

fn end_changed(rules: &Rules, its: &Checkout) -> bool {
    let Some(before) = its.history.length().checked_sub(1) else { return false };
    let end = status_of(rules.checkout(its.history.after(before))).filter(|status| status.is_terminal());
    end.is_some() && end != status(rules, its)
}

/// What a state breaks in which the system has nothing left to do.
pub fn broken_at_rest(state: &State, rules: &mut Rules, bounds: &Bounds) -> Option<Broken> {
    (0..bounds.checkouts).find_map(|number| {
        let its = state.checkout(number);
        if rules.owed(its.history.newest()) != Owed::Done || !its.messages.is_empty() || !its.requests.is_empty() {
            return Some(Broken::NeverEnds);
        }
        let is_paid = status(rules, its) == Some(CheckoutStatus::Paid);
        let needs_attention =
            rules.checkout(its.history.newest()).refund_status() == Some(RefundStatus::NeedsAttention);
        let is_right = its.charges - its.refunds == u8::from(is_paid);
        (!is_right && !needs_attention).then_some(Broken::MoneyIsWrong)
    })
}
