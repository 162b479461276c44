//! CASES FA13, I1, I2: a cancel at every step.

use common::contracts::{
    checkout::{CancelledBy, CheckoutCommand, CheckoutEvent as Event, PaymentOutcome, PaymentStep},
    inventory::StockAnswer,
};

use super::fixtures::*;
use crate::{
    workflow::{Next, Rejection, Told},
    workflows::{
        checkout::Checkout,
        stories::{at, given},
    },
};

#[test]
fn fa13_cancel_while_reserving_gives_the_stock_back_and_asks_no_provider() {
    given::<Checkout>(reserving())
        .when(cancel(), at(1))
        .then([cancel_requested()])
        .and_next(release_stock())
        .and_status("settling");
}

/// CASES C8: somebody may be opening the session right now, so it is closed before the stock goes back.
#[test]
fn fa13_cancel_while_opening_closes_the_session_that_may_exist() {
    given::<Checkout>(opening()).when(cancel(), at(2)).then([cancel_requested()]).and_next(close_unknown_session());
}

#[test]
fn fa13_cancel_between_two_rounds_of_opening_closes_the_session_that_may_exist() {
    let failed = [opening(), vec![step_failed(PaymentStep::OpenSession, 1, at(4))]].concat();
    given::<Checkout>(failed).when(cancel(), at(3)).then([cancel_requested()]).and_next(close_unknown_session());
}

/// CASES C8: the session is closed before the stock goes back.
#[test]
fn fa13_cancel_while_awaiting_payment_closes_the_session_first() {
    given::<Checkout>(awaiting())
        .when(cancel(), at(30))
        .then([cancel_requested()])
        .and_next(close_session())
        .when(nobody_can_pay(), at(31))
        .then([Event::PaymentSessionClosed {}])
        .and_next(release_stock())
        .when(stock(StockAnswer::Released {}), at(32))
        .then([Event::StockReleased {}])
        .and_next(Next::Done)
        .and_status("cancelled");
}

/// CASES C9: the customer was faster.
#[test]
fn c9_a_cancel_that_finds_the_session_paid_is_a_sale() {
    given::<Checkout>([awaiting(), vec![cancel_requested()]].concat())
        .when(already_paid(total()), at(31))
        .then([Event::PaymentReceived { notice: asked_notice(total()) }])
        .and_next(commit_stock())
        .when(stock(StockAnswer::Committed {}), at(32))
        .then([Event::StockSold {}])
        .and_status("paid");
}

/// CASES FA13: it is on its way to an end already, and keeps that end.
#[test]
fn fa13_cancel_while_settling_changes_nothing() {
    let declined = [awaiting(), vec![Event::PaymentDeclined { notice: notice(PaymentOutcome::Declined) }]].concat();
    for history in [closing(), closing_the_unknown(), committing(), releasing(), declined] {
        given::<Checkout>(history).when(cancel(), at(125)).then_nothing().and_status("settling");
    }
}

#[test]
fn fa13_cancel_of_a_cancelled_checkout_changes_nothing() {
    let cancelled = [reserving(), vec![cancel_requested(), Event::StockReleased {}]].concat();
    given::<Checkout>(cancelled).when(cancel(), at(200)).then_nothing().and_next(Next::Done);
}

/// CASES I2: whoever wants the money of a paid checkout back asks for a refund.
#[test]
fn i2_cancel_after_another_end_is_refused() {
    let out_of_stock = [reserving(), vec![Event::StockRefused { lacking: lacking() }]].concat();
    for history in [ended_paid(), ended_expired(), owing_a_refund(), out_of_stock] {
        given::<Checkout>(history).when(cancel(), at(200)).then_rejected(Rejection::No);
    }
}

/// CASES I10: who cancelled stands in the history.
#[test]
fn i10_an_operator_s_cancel_is_recorded_as_theirs() {
    given::<Checkout>(awaiting())
        .when(Told::Asked(CheckoutCommand::Cancel { by: CancelledBy::Operator }), at(30))
        .then([Event::CancelRequested { by: CancelledBy::Operator }])
        .and_next(close_session());
}
