//! CASES F: money for a checkout that has ended goes back, once, or a person sees it.

use common::{
    contracts::{
        checkout::{CheckoutEvent as Event, PaymentStep},
        inventory::StockAnswer,
    },
    money::Money,
};

use super::fixtures::*;
use crate::{
    workflow::{Next, Told},
    workflows::{
        checkout::Checkout,
        stories::{at, given, settings},
    },
};

const REFUND: PaymentStep = PaymentStep::Refund;

fn refunded() -> Event {
    Event::Refunded { refund_id: "re_1".to_owned() }
}

/// CASES F1: the end stays the end; the stock is not touched.
#[test]
fn f1_money_after_the_end_goes_back() {
    given::<Checkout>(ended_expired())
        .when(paid(), at(200))
        .then([late_payment_received()])
        .and_next(give_back(total()))
        .and_status("expired")
        .when(refund_made(), at(201))
        .then([refunded()])
        .and_next(Next::Done)
        .and_status("expired");
}

/// CASES F1: what came goes back, whatever it should have been.
#[test]
fn f1_a_wrong_amount_after_the_end_goes_back_as_it_came() {
    let wrong = paid_amount(Money::eur(7));
    given::<Checkout>(ended_expired())
        .when(told_by_webhook(wrong.clone()), at(200))
        .then([Event::LatePaymentReceived { notice: wrong }])
        .and_next(give_back(Money::eur(7)));
}

/// The stock goes back first, so that a provider that is down does not hold it.
#[test]
fn f1_money_while_the_stock_goes_back_waits_for_the_stock() {
    given::<Checkout>(releasing())
        .when(paid(), at(123))
        .then([late_payment_received()])
        .and_next(release_stock())
        .when(stock(StockAnswer::Released {}), at(124))
        .then([Event::StockReleased {}])
        .and_next(give_back(total()));
}

/// CASES F2, F5: late money is told again, before, while and after it went back.
#[test]
fn f2_late_money_told_again_is_refunded_once() {
    let while_releasing = [releasing(), vec![late_payment_received()]].concat();
    let after_the_refund = [owing_a_refund(), vec![refunded()]].concat();
    let unrefundable = [owing_a_refund(), vec![Event::RefundNeedsAttention { reason: "no".to_owned() }]].concat();
    for history in [while_releasing, owing_a_refund(), after_the_refund, unrefundable] {
        given::<Checkout>(history).when(paid(), at(10_000)).then_nothing();
    }
}

/// CASES F5: what was given back is told as paid again hours later: it stays given back, and the stock is not touched.
#[test]
fn f5_what_was_given_back_stays_given_back() {
    let refunded = [owing_a_refund(), vec![refunded()]].concat();
    let story = given::<Checkout>(refunded).when(paid(), at(36_000)).then_nothing().and_next(Next::Done);
    let checkout = story.and_status("expired").state();
    assert_eq!(checkout.refund_status(), Some(common::contracts::checkout::RefundStatus::Refunded));
}

/// CASES F3: it is asked again and again, and then a person sees it; nothing is dropped.
#[test]
fn f3_a_refund_that_is_never_answered_ends_with_a_person() {
    let mut story = given::<Checkout>(owing_a_refund());
    for round in 1..24 {
        let now = u64::from(round) * 1_000;
        let retry_at = settings().retry_at(at(now), round);
        story = story
            .when(no_answer(REFUND), at(now))
            .then([step_failed(REFUND, round, retry_at)])
            .and_next(Next::Wait { until: Some(retry_at) })
            .when(Told::TimeHasCome, retry_at)
            .then([Event::PaymentStepRetried { step: REFUND, attempt: round + 1 }])
            .and_next(give_back(total()));
    }
    let ended = story
        .when(no_answer(REFUND), at(100_000))
        .then([Event::RefundNeedsAttention { reason: "connection refused".to_owned() }])
        .and_next(Next::Done)
        .state();
    assert_eq!(ended.refund_status(), Some(common::contracts::checkout::RefundStatus::NeedsAttention));
}

/// CASES F3: a no is a no.
#[test]
fn f3_a_refused_refund_is_shown_to_a_person() {
    given::<Checkout>(owing_a_refund())
        .when(refused(REFUND), at(201))
        .then([Event::RefundNeedsAttention { reason: "not possible".to_owned() }])
        .and_next(Next::Done);
}

/// CASES F4: a worker dies after the call; the same call with the same key is owed on every replay.
#[test]
fn f4_a_refund_that_was_not_recorded_is_made_again_with_the_same_key() {
    given::<Checkout>(owing_a_refund()).and_next(give_back(total()));
    let again = [step_failed(REFUND, 1, at(203)), Event::PaymentStepRetried { step: REFUND, attempt: 2 }];
    given::<Checkout>([owing_a_refund(), again.to_vec()].concat())
        .and_next(give_back(total()))
        .when(refund_made(), at(204))
        .then([refunded()])
        .when(refund_made(), at(205))
        .then_nothing();
}

/// A checkout that never had a session gets money all the same: it goes back too.
#[test]
fn money_for_a_checkout_that_was_out_of_stock_goes_back() {
    given::<Checkout>([reserving(), vec![Event::StockRefused { lacking: lacking() }]].concat())
        .when(paid(), at(200))
        .then([late_payment_received()])
        .and_next(give_back(total()))
        .and_status("out_of_stock");
}
