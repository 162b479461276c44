//! CASES E, FT: time.

use common::contracts::checkout::{CheckoutEvent as Event, PaymentStep};

use super::fixtures::*;
use crate::{
    workflow::{Next, Told},
    workflows::{
        checkout::Checkout,
        stories::{at, given},
    },
};

/// CASES E1: the session is closed before the stock goes back.
#[test]
fn e1_nobody_pays() {
    given::<Checkout>(awaiting())
        .and_next(wait_until(DEADLINE))
        .when(Told::TimeHasCome, at(DEADLINE))
        .then([Event::DeadlinePassed {}])
        .and_next(close_session())
        .and_status("settling")
        .when(nobody_can_pay(), at(122))
        .then([Event::PaymentSessionClosed {}])
        .and_next(release_stock());
}

/// CASES E3, FT3: the webhook was stored while nobody worked; it counts when it is taken before the timer.
#[test]
fn ft3_paid_wins_when_it_is_taken_before_the_late_timer() {
    given::<Checkout>(awaiting())
        .when(paid(), at(DEADLINE + 600))
        .then([payment_received()])
        .when(Told::TimeHasCome, at(DEADLINE + 601))
        .then_nothing()
        .and_next(commit_stock());
}

/// CASES FT3, FT4, E5: the timer was taken first; then the provider or the webhook, whichever is first, says paid.
#[test]
fn ft4_the_order_of_events_decides_between_the_timer_and_the_webhook() {
    given::<Checkout>(awaiting())
        .when(Told::TimeHasCome, at(DEADLINE))
        .then([Event::DeadlinePassed {}])
        .when(paid(), at(DEADLINE))
        .then([payment_received()])
        .and_next(commit_stock());
    given::<Checkout>(closing())
        .when(nobody_can_pay(), at(122))
        .then([Event::PaymentSessionClosed {}])
        .when(paid(), at(DEADLINE))
        .then([late_payment_received()])
        .and_next(release_stock());
}

/// CASES FT5, E9: a timer of a checkout that has moved on.
#[test]
fn ft5_a_timer_changes_nothing_where_nothing_waits_for_it() {
    let refunded = [owing_a_refund(), vec![Event::Refunded { refund_id: "re_1".to_owned() }]].concat();
    for history in
        [reserving(), closing(), committing(), releasing(), ended_paid(), ended_expired(), owing_a_refund(), refunded]
    {
        for told in [Told::TimeHasCome, nudge()] {
            given::<Checkout>(history.clone()).when(told, at(1_000_000)).then_nothing();
        }
    }
}

/// CASES E9: a timer that is too early leaves the wait as it is, so that it is set again.
#[test]
fn e9_a_timer_that_is_too_early_changes_nothing() {
    given::<Checkout>(awaiting())
        .when(Told::TimeHasCome, at(DEADLINE - 1))
        .then_nothing()
        .and_next(wait_until(DEADLINE));
    let failed = [opening(), vec![step_failed(PaymentStep::OpenSession, 1, at(4))]].concat();
    given::<Checkout>(failed).when(Told::TimeHasCome, at(3)).then_nothing().and_next(wait_until(4));
}

/// CASES E10: the timer was lost; a nudge does what the timer would have done.
#[test]
fn e10_a_nudge_does_what_a_lost_timer_would_have_done() {
    given::<Checkout>(awaiting()).when(nudge(), at(DEADLINE)).then([Event::DeadlinePassed {}]);
    let failed = [closing(), vec![step_failed(PaymentStep::CloseSession, 1, at(124))]].concat();
    given::<Checkout>(failed)
        .when(nudge(), at(500))
        .then([Event::PaymentStepRetried { step: PaymentStep::CloseSession, attempt: 2 }])
        .and_next(close_session());
}

/// CASES E10: a nudge of a checkout whose remote step was lost leaves that step owed, so that it is sent again.
#[test]
fn e10_a_nudge_repeats_a_lost_step() {
    given::<Checkout>(reserving()).when(nudge(), at(500)).then_nothing().and_next(reserve_stock());
    given::<Checkout>(committing()).when(nudge(), at(500)).then_nothing().and_next(commit_stock());
    given::<Checkout>(releasing()).when(nudge(), at(500)).then_nothing().and_next(release_stock());
}

/// CASES FP6: the workers were away for longer than there was time to pay.
#[test]
fn fp6_a_session_that_was_opened_after_the_deadline_is_closed_at_once() {
    given::<Checkout>(opening())
        .when(session_opened(), at(DEADLINE + 600))
        .then([payment_session_opened()])
        .and_next(wait_until(DEADLINE))
        .when(Told::TimeHasCome, at(DEADLINE + 600))
        .then([Event::DeadlinePassed {}])
        .and_next(close_session());
}

/// CASES FP6: no payment is begun for which there is no time.
#[test]
fn fp6_a_nudge_after_the_deadline_gives_a_payment_up_that_was_never_opened() {
    given::<Checkout>(opening())
        .when(nudge(), at(DEADLINE))
        .then([Event::PaymentGivenUp { reason: "the time to pay is over".to_owned() }])
        .and_next(close_unknown_session());
}

/// The last instant that can be written is a deadline like any other.
#[test]
fn a_deadline_beyond_all_time_is_the_last_instant() {
    let mut for_ever = started();
    if let Event::CheckoutStarted { payment_timeout_ms, .. } = &mut for_ever {
        *payment_timeout_ms = u64::MAX;
    }
    given::<Checkout>([for_ever])
        .when(stock(common::contracts::inventory::StockAnswer::Reserved {}), at(1))
        .then([Event::StockReserved { payment_deadline: common::time::Timestamp::MAX }])
        .when(session_opened(), at(2))
        .then([payment_session_opened()])
        .and_next(Next::Wait { until: Some(common::time::Timestamp::MAX) });
}
