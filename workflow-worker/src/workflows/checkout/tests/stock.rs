//! CASES B: what the inventory answers.

use common::contracts::{checkout::CheckoutEvent as Event, inventory::StockAnswer};

use super::fixtures::*;
use crate::{
    workflow::{Next, Rejection},
    workflows::{
        checkout::Checkout,
        stories::{at, given},
    },
};

#[test]
fn when_the_stock_is_held_a_session_is_owed() {
    given::<Checkout>(reserving())
        .when(stock(StockAnswer::Reserved {}), at(RESERVED_AT))
        .then([stock_reserved()])
        .and_next(open_session())
        .and_status("opening_payment");
}

/// CASES B1, B10: no session is opened, nothing is held, nothing is owed.
#[test]
fn b1_out_of_stock_ends_the_checkout_at_once() {
    given::<Checkout>(reserving())
        .when(stock(StockAnswer::OutOfStock { lacking: lacking() }), at(1))
        .then([Event::StockRefused { lacking: lacking() }])
        .and_next(Next::Done)
        .and_status("out_of_stock");
}

#[test]
fn a_reserve_that_the_ledger_refuses_ends_the_checkout_too() {
    given::<Checkout>(reserving())
        .when(stock_refuses("reserve"), at(1))
        .then([Event::StockRefused { lacking: Vec::new() }])
        .and_next(Next::Done)
        .and_status("out_of_stock");
}

/// CASES B4, B5: the answer comes twice, perhaps hours later.
#[test]
fn b4_a_repeated_answer_to_the_reservation_does_not_move_the_deadline() {
    for history in [opening(), awaiting(), closing(), committing(), releasing(), ended_paid(), ended_expired()] {
        given::<Checkout>(history).when(stock(StockAnswer::Reserved {}), at(10_000)).then_nothing();
    }
}

/// CASES B9, B11: the release is owed at once; that it may overtake the reserve is the ledger's to settle.
#[test]
fn b11_a_reservation_that_is_answered_after_the_cancel_is_given_back() {
    given::<Checkout>(reserving())
        .when(cancel(), at(1))
        .then([cancel_requested()])
        .and_next(release_stock())
        .when(stock(StockAnswer::Reserved {}), at(2))
        .then_nothing()
        .and_next(release_stock())
        .when(stock(StockAnswer::Released {}), at(3))
        .then([Event::StockReleased {}])
        .and_next(Next::Done)
        .and_status("cancelled");
}

/// CASES B9: the reserve that came after the release is refused; that changes nothing.
#[test]
fn b9_a_reserve_refused_after_the_release_changes_nothing() {
    let cancelled = [reserving(), vec![cancel_requested()]].concat();
    given::<Checkout>(cancelled.clone()).when(stock_refuses("reserve"), at(2)).then_nothing().and_next(release_stock());
    let ended = [cancelled, vec![Event::StockReleased {}]].concat();
    given::<Checkout>(ended).when(stock_refuses("reserve"), at(4)).then_nothing().and_next(Next::Done);
}

/// CASES B7: the release is answered twice.
#[test]
fn b7_a_repeated_release_changes_nothing() {
    given::<Checkout>(ended_expired())
        .when(stock(StockAnswer::Released {}), at(200))
        .then_nothing()
        .and_next(Next::Done);
}

/// CASES B14: the ledger says that the goods are sold; a person must see why.
#[test]
fn b14_a_refused_release_is_shown_to_a_person() {
    given::<Checkout>(releasing())
        .when(stock_refuses("release"), at(130))
        .then_rejected(Rejection::Contradiction)
        .and_next(release_stock());
}

/// CASES B14, K4: goods that cannot be sold are not paid for.
#[test]
fn b14_a_refused_sale_gives_the_money_back() {
    given::<Checkout>(committing())
        .when(stock_refuses("commit"), at(31))
        .then([Event::SaleRefused { reason: "the ledger says no".to_owned() }])
        .and_next(give_back(total()))
        .and_status("cancelled")
        .when(refund_made(), at(32))
        .then([Event::Refunded { refund_id: "re_1".to_owned() }])
        .and_next(Next::Done);
}

/// An answer fits only the phase that asked for it.
#[test]
fn an_answer_to_an_overtaken_command_changes_nothing() {
    let answers = || {
        [
            stock(StockAnswer::Reserved {}),
            stock(StockAnswer::OutOfStock { lacking: lacking() }),
            stock(StockAnswer::Committed {}),
            stock(StockAnswer::Released {}),
            stock_refuses("reserve"),
            stock_refuses("commit"),
            stock_refuses("release"),
        ]
    };
    for history in [opening(), awaiting(), closing(), closing_the_unknown(), ended_paid(), owing_a_refund()] {
        for answer in answers() {
            given::<Checkout>(history.clone()).when(answer, at(500)).then_nothing();
        }
    }
}
