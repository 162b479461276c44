//! CASES A: starting a checkout, once.

use common::contracts::checkout::{CheckoutEvent as Event, PaymentOutcome};

use super::fixtures::*;
use crate::{
    workflow::{Next, Rejection, Told},
    workflows::{
        checkout::Checkout,
        stories::{at, given},
    },
};

#[test]
fn a_started_checkout_owes_the_reservation() {
    given::<Checkout>([]).when(start(), at(0)).then([started()]).and_next(reserve_stock()).and_status("reserving");
}

#[test]
fn nothing_is_owed_before_the_start() {
    given::<Checkout>([]).and_next(Next::Wait { until: None }).and_status("not_started");
}

/// CASES A1, A5, A6: the same request is the same checkout, wherever it stands, and however long ago it ended.
#[test]
fn a1_a5_the_same_request_again_changes_nothing_in_any_phase() {
    for history in every_phase() {
        given::<Checkout>(history).when(start(), at(1_000_000)).then_nothing();
    }
}

/// CASES A3, FA2: another cart under the same key is refused, wherever the checkout stands.
#[test]
fn a3_another_cart_under_the_same_key_is_refused_in_any_phase() {
    for history in every_phase() {
        given::<Checkout>(history).when(start_as("another cart"), at(3)).then_rejected(Rejection::No);
    }
}

#[test]
fn nothing_can_be_asked_of_a_checkout_that_was_not_started() {
    for told in [nudge(), Told::TimeHasCome, session_opened(), nobody_can_pay(), stock_refuses("reserve")] {
        given::<Checkout>([]).when(told, at(0)).then_rejected(Rejection::No);
    }
}

/// A cancel may overtake a start that is under way with a worker that has died.
#[test]
fn a_cancel_that_comes_before_the_start_is_kept_for_a_while() {
    given::<Checkout>([]).when(cancel(), at(0)).then_rejected(Rejection::NotStarted);
}

/// CASES D8, D9: the start may be in flight, so the notice is kept for a while before a person sees it.
#[test]
fn d8_a_webhook_of_a_checkout_that_was_not_started_is_kept_for_a_while() {
    for outcome in [PaymentOutcome::Paid, PaymentOutcome::Declined, PaymentOutcome::Cancelled] {
        given::<Checkout>([]).when(told_by_webhook(notice(outcome)), at(0)).then_rejected(Rejection::NotStarted);
    }
}

/// CASES E2, FP6: the deadline is recorded with the reservation, so no restart and no other setting moves it.
#[test]
fn e2_the_time_to_pay_is_frozen_by_the_start() {
    let mut with_another_timeout = started();
    if let Event::CheckoutStarted { payment_timeout_ms, .. } = &mut with_another_timeout {
        *payment_timeout_ms = 10_000;
    }
    given::<Checkout>([with_another_timeout])
        .when(stock(common::contracts::inventory::StockAnswer::Reserved {}), at(1))
        .then([Event::StockReserved { payment_deadline: at(11) }]);
}

fn every_phase() -> Vec<Vec<Event>> {
    vec![
        reserving(),
        opening(),
        awaiting(),
        closing(),
        closing_the_unknown(),
        committing(),
        releasing(),
        ended_paid(),
        ended_expired(),
        owing_a_refund(),
    ]
}
