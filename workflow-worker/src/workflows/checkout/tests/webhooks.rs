//! CASES D: what the payment provider tells.

use common::{
    contracts::{
        checkout::{CheckoutEvent as Event, PaymentOutcome},
        inventory::StockAnswer,
    },
    money::Money,
};

use super::fixtures::*;
use crate::{
    workflow::{Next, Rejection, Told, Workflow as _},
    workflows::{
        checkout::Checkout,
        stories::{at, given, id, input},
    },
};

const OUTCOMES: [PaymentOutcome; 3] = [PaymentOutcome::Paid, PaymentOutcome::Declined, PaymentOutcome::Cancelled];

/// CASES D1: paid in time is sold, and nothing is released.
#[test]
fn d1_a_paid_checkout_sells_its_stock() {
    given::<Checkout>(awaiting())
        .when(paid(), at(30))
        .then([payment_received()])
        .and_next(commit_stock())
        .and_status("settling")
        .when(stock(StockAnswer::Committed {}), at(31))
        .then([Event::StockSold {}])
        .and_next(Next::Done)
        .and_status("paid");
}

/// CASES D2: the session is closed, then the stock goes back.
#[test]
fn d2_a_declined_payment_gives_the_stock_back() {
    given::<Checkout>(awaiting())
        .when(told_by_webhook(notice(PaymentOutcome::Declined)), at(30))
        .then([Event::PaymentDeclined { notice: notice(PaymentOutcome::Declined) }])
        .and_next(close_session())
        .when(nobody_can_pay(), at(31))
        .then([Event::PaymentSessionClosed {}])
        .and_next(release_stock())
        .when(stock(StockAnswer::Released {}), at(32))
        .then([Event::StockReleased {}])
        .and_next(Next::Done)
        .and_status("declined");
}

#[test]
fn d2_a_payment_cancelled_at_the_provider_gives_the_stock_back() {
    given::<Checkout>(awaiting())
        .when(told_by_webhook(notice(PaymentOutcome::Cancelled)), at(30))
        .then([Event::PaymentCancelled { notice: notice(PaymentOutcome::Cancelled) }])
        .and_next(close_session())
        .when(nobody_can_pay(), at(31))
        .then([Event::PaymentSessionClosed {}])
        .when(stock(StockAnswer::Released {}), at(32))
        .then([Event::StockReleased {}])
        .and_status("cancelled");
}

/// CASES D4: the same webhook again, at once or much later.
#[test]
fn d4_a_paid_webhook_again_changes_nothing() {
    for history in [committing(), ended_paid()] {
        given::<Checkout>(history).when(paid(), at(1_000_000)).then_nothing();
    }
}

/// CASES D6, FW5: the provider is right when it says that it has the money, whatever it said before.
#[test]
fn d6_paid_after_declined_is_paid_while_the_session_is_being_closed() {
    let declined = [awaiting(), vec![Event::PaymentDeclined { notice: notice(PaymentOutcome::Declined) }]].concat();
    given::<Checkout>(declined).when(paid(), at(31)).then([payment_received()]).and_next(commit_stock());
}

/// CASES D6, FW5: in whatever order the provider's words arrive, money decides.
#[test]
fn fw5_in_every_order_of_the_provider_s_words_paid_wins() {
    let [paid, declined, cancelled] = OUTCOMES;
    for order in [
        [paid, declined, cancelled],
        [paid, cancelled, declined],
        [declined, paid, cancelled],
        [cancelled, paid, declined],
        [declined, cancelled, paid],
        [cancelled, declined, paid],
    ] {
        let mut checkout = awaiting().iter().fold(Checkout::default(), Checkout::evolve);
        for outcome in order {
            let events = checkout.decide(&input(at(30), told_by_webhook(notice(outcome)))).expect("no word is refused");
            checkout = events.iter().fold(checkout, Checkout::evolve);
        }
        assert_eq!(checkout.next(id()), commit_stock(), "{order:?}");
    }
}

/// CASES FW5: paid stays paid.
#[test]
fn d6_declined_or_cancelled_after_the_decision_changes_nothing() {
    for history in [closing(), committing(), releasing(), ended_paid(), ended_expired(), owing_a_refund()] {
        for outcome in [PaymentOutcome::Declined, PaymentOutcome::Cancelled] {
            given::<Checkout>(history.clone()).when(told_by_webhook(notice(outcome)), at(500)).then_nothing();
        }
    }
}

/// CASES D7, FW6: the webhook is kept until the session is recorded, then it counts.
#[test]
fn d7_a_webhook_before_the_session_is_recorded_waits_for_it() {
    for outcome in OUTCOMES {
        for history in [reserving(), opening()] {
            given::<Checkout>(history).when(told_by_webhook(notice(outcome)), at(2)).then_rejected(Rejection::NotYet);
        }
    }
    given::<Checkout>(opening())
        .when(paid(), at(2))
        .then_rejected(Rejection::NotYet)
        .and_next(open_session())
        .when(session_opened(), at(3))
        .then([payment_session_opened()])
        .when(paid(), at(2))
        .then([payment_received()])
        .and_next(commit_stock());
}

/// CASES D7: the session was never recorded; closing it tells whether this is about it.
#[test]
fn d7_a_paid_webhook_while_an_unrecorded_session_is_being_closed_waits_for_the_answer() {
    given::<Checkout>(closing_the_unknown())
        .when(paid(), at(4))
        .then_rejected(Rejection::NotYet)
        .and_next(close_unknown_session())
        .when(nobody_can_pay(), at(5))
        .then([Event::PaymentSessionClosed {}])
        .when(paid(), at(4))
        .then([late_payment_received()])
        .and_next(release_stock());
}

/// CASES D8, D11: whatever it says, and wherever the checkout stands, another session is not ours to judge.
#[test]
fn d11_a_webhook_of_another_session_moves_nothing() {
    for history in [awaiting(), closing(), committing(), releasing(), ended_paid(), ended_expired(), owing_a_refund()] {
        for outcome in OUTCOMES {
            given::<Checkout>(history.clone())
                .when(told_by_webhook(of_another_session(outcome)), at(500))
                .then_rejected(Rejection::Contradiction);
        }
    }
}

/// CASES D11, K4: the session became known only by its money; money of another one is shown to a person, not forgotten.
#[test]
fn d11_a_second_session_s_money_is_shown_to_a_person_when_the_first_one_s_decided() {
    let unknown_but_paid =
        || [closing_the_unknown(), vec![Event::PaymentReceived { notice: asked_notice(total()) }]].concat();
    let unknown_and_late = || {
        let end = [Event::PaymentSessionClosed {}, Event::StockReleased {}, late_payment_received()];
        [closing_the_unknown(), end.to_vec()].concat()
    };
    let unknown_and_wrong =
        || [closing_the_unknown(), vec![Event::WrongAmountReceived { notice: asked_notice(Money::eur(1)) }]].concat();
    for history in [unknown_but_paid(), unknown_and_late(), unknown_and_wrong()] {
        given::<Checkout>(history)
            .when(told_by_webhook(of_another_session(PaymentOutcome::Paid)), at(500))
            .then_rejected(Rejection::Contradiction);
    }
}

/// CASES D13, F7, FW7: another amount or another currency is not paid; a person sees it.
#[test]
fn d13_a_wrong_amount_or_currency_is_not_paid() {
    let dollars = Money { currency: "usd".parse().expect("a currency"), ..total() };
    for amount in [Money::eur(1), Money::eur(2_399), Money::eur(2_401), Money::eur(0), dollars] {
        for history in [awaiting(), closing()] {
            given::<Checkout>(history)
                .when(told_by_webhook(paid_amount(amount)), at(30))
                .then_rejected(Rejection::Contradiction);
        }
    }
}

/// CASES D13: when the session is closed, the wrong money is found, the stock goes back, then the money.
#[test]
fn d13_a_wrong_amount_goes_back_when_the_session_is_closed() {
    given::<Checkout>(closing())
        .when(already_paid(Money::eur(1)), at(122))
        .then([Event::WrongAmountReceived { notice: asked_notice(Money::eur(1)) }])
        .and_next(release_stock())
        .when(told_by_webhook(paid_amount(Money::eur(1))), at(123))
        .then_nothing()
        .when(stock(StockAnswer::Released {}), at(124))
        .then([Event::StockReleased {}])
        .and_next(give_back(Money::eur(1)))
        .and_status("expired");
}

/// CASES D19, E6: the webhook never comes; the provider is asked when the time is over.
#[test]
fn d19_a_payment_without_a_webhook_is_found_at_the_deadline() {
    given::<Checkout>(awaiting())
        .when(Told::TimeHasCome, at(DEADLINE))
        .then([Event::DeadlinePassed {}])
        .and_next(close_session())
        .when(already_paid(total()), at(122))
        .then([Event::PaymentReceived { notice: asked_notice(total()) }])
        .and_next(commit_stock());
}
