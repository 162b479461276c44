//! Every way of a checkout from its first command to its end.

use common::{
    contracts::{
        checkout::{PaymentOutcome, PaymentStep},
        inventory::StockAnswer,
    },
    money::Money,
};

use super::fixtures::*;
use crate::{
    workflow::Told,
    workflows::{
        checkout::{Checkout, state::Phase},
        stories::ways::{Way, cut_at_every_record, play, tell_everything_twice, way},
    },
};

/// A turn of a way: the second, what is told, what happens, what is owed then.
type Turn = (u64, Tell, &'static str, &'static str);

pub(super) fn all() -> Vec<Way<Checkout>> {
    let mut all = paid_ways();
    all.extend(unpaid_ways());
    all.extend(provider_trouble_ways());
    all.extend(wrong_and_late_money_ways());
    all
}

/// The turns up to the customer's payment page.
fn until_awaiting() -> Vec<Turn> {
    vec![
        (0, start(), "checkout_started", "reserve_stock"),
        (RESERVED_AT, stock(StockAnswer::Reserved {}), "stock_reserved", "open_session"),
        (2, session_opened(), "payment_session_opened", "wait until 121"),
    ]
}

/// The turns of a checkout that nobody pays.
fn until_expired() -> Vec<Turn> {
    let expiry: [Turn; 3] = [
        (DEADLINE, Told::TimeHasCome, "deadline_passed", "close_session"),
        (122, nobody_can_pay(), "payment_session_closed", "release_stock"),
        (123, stock(StockAnswer::Released {}), "stock_released", "done"),
    ];
    after(until_awaiting(), expiry)
}

fn after(mut turns: Vec<Turn>, more: impl IntoIterator<Item = Turn>) -> Vec<Turn> {
    turns.extend(more);
    turns
}

fn sold(second: u64) -> Turn {
    (second, stock(StockAnswer::Committed {}), "stock_sold", "done")
}

fn closed(second: u64) -> Turn {
    (second, nobody_can_pay(), "payment_session_closed", "release_stock")
}

fn released(second: u64) -> Turn {
    (second, stock(StockAnswer::Released {}), "stock_released", "done")
}

fn paid_ways() -> Vec<Way<Checkout>> {
    let received = |second| (second, paid(), "payment_received", "commit_stock");
    let opening = until_awaiting()[..2].to_vec();
    let (declined, early) = (told_by_webhook(notice(PaymentOutcome::Declined)), paid());
    let other = told_by_webhook(of_another_session(PaymentOutcome::Paid));
    vec![
        way("paid", after(until_awaiting(), [received(30), sold(31)])),
        way(
            "paid_webhook_twice",
            after(
                until_awaiting(),
                [received(30), (30, paid(), "", "commit_stock"), sold(31), (90, paid(), "", "done")],
            ),
        ),
        way(
            "paid_webhook_before_the_session_is_recorded",
            after(
                opening,
                [
                    (2, early, "(not_yet)", "open_session"),
                    (2, session_opened(), "payment_session_opened", "wait until 121"),
                    received(2),
                    sold(3),
                ],
            ),
        ),
        way(
            "paid_after_a_webhook_of_another_session",
            after(until_awaiting(), [(29, other, "(contradiction)", "wait until 121"), received(30), sold(31)]),
        ),
        way(
            "paid_although_it_was_declined_first",
            after(until_awaiting(), [(30, declined, "payment_declined", "close_session"), received(31), sold(32)]),
        ),
        way(
            "paid_when_asked_to_expire",
            after(
                until_awaiting(),
                [
                    (DEADLINE, Told::TimeHasCome, "deadline_passed", "close_session"),
                    (122, already_paid(total()), "payment_received", "commit_stock"),
                    sold(123),
                    (124, paid(), "", "done"),
                ],
            ),
        ),
        way(
            "paid_but_the_sale_is_refused",
            after(
                until_awaiting(),
                [
                    received(30),
                    (31, stock_refuses("commit"), "sale_refused", "refund"),
                    (32, refund_made(), "refunded", "done"),
                ],
            ),
        ),
    ]
}

fn unpaid_ways() -> Vec<Way<Checkout>> {
    let declined = told_by_webhook(notice(PaymentOutcome::Declined));
    let cancelled = told_by_webhook(notice(PaymentOutcome::Cancelled));
    let opening = until_awaiting()[..2].to_vec();
    let started = until_awaiting()[..1].to_vec();
    vec![
        way("expired", until_expired()),
        way(
            "declined",
            after(until_awaiting(), [(30, declined, "payment_declined", "close_session"), closed(31), released(32)]),
        ),
        way(
            "cancelled_at_the_provider",
            after(until_awaiting(), [(30, cancelled, "payment_cancelled", "close_session"), closed(31), released(32)]),
        ),
        way(
            "cancelled_while_awaiting_payment",
            after(until_awaiting(), [(30, cancel(), "cancel_requested", "close_session"), closed(31), released(32)]),
        ),
        way(
            "cancelled_while_opening_payment",
            after(opening, [(2, cancel(), "cancel_requested", "close_session"), closed(3), released(4)]),
        ),
        way(
            "cancelled_while_reserving",
            after(
                started.clone(),
                [
                    (1, cancel(), "cancel_requested", "release_stock"),
                    (2, stock(StockAnswer::Reserved {}), "", "release_stock"),
                    released(3),
                ],
            ),
        ),
        way(
            "out_of_stock",
            after(started, [(1, stock(StockAnswer::OutOfStock { lacking: lacking() }), "stock_refused", "done")]),
        ),
    ]
}

fn provider_trouble_ways() -> Vec<Way<Checkout>> {
    let opening = until_awaiting()[..2].to_vec();
    let (open, close) = (PaymentStep::OpenSession, PaymentStep::CloseSession);
    vec![
        way(
            "provider_refuses",
            after(opening.clone(), [(2, refused(open), "payment_refused", "release_stock"), released(3)]),
        ),
        way(
            "provider_down_and_back",
            after(
                opening.clone(),
                [
                    (2, no_answer(open), "payment_step_failed", "wait until 4"),
                    (4, Told::TimeHasCome, "payment_step_retried", "open_session"),
                    (5, no_answer(open), "payment_step_failed", "wait until 9"),
                    (9, Told::TimeHasCome, "payment_step_retried", "open_session"),
                    (10, session_opened(), "payment_session_opened", "wait until 121"),
                    (30, paid(), "payment_received", "commit_stock"),
                    sold(31),
                ],
            ),
        ),
        way(
            "provider_down_until_the_deadline",
            after(
                opening.clone(),
                [
                    (110, no_answer(open), "payment_step_failed", "wait until 112"),
                    (112, Told::TimeHasCome, "payment_step_retried", "open_session"),
                    (118, no_answer(open), "payment_step_failed", "wait until 121"),
                    (DEADLINE, Told::TimeHasCome, "payment_given_up", "close_session"),
                    closed(122),
                    released(123),
                ],
            ),
        ),
        way(
            "provider_refuses_after_a_lost_answer",
            after(
                opening,
                [
                    (2, no_answer(open), "payment_step_failed", "wait until 4"),
                    (4, Told::TimeHasCome, "payment_step_retried", "open_session"),
                    (5, refused(open), "payment_given_up", "close_session"),
                    closed(6),
                    released(7),
                ],
            ),
        ),
        way(
            "expired_while_the_provider_is_unreachable",
            after(
                until_awaiting(),
                [
                    (DEADLINE, Told::TimeHasCome, "deadline_passed", "close_session"),
                    (127, no_answer(close), "payment_step_failed", "wait until 129"),
                    (129, Told::TimeHasCome, "payment_step_retried", "close_session"),
                    (135, no_answer(close), "payment_step_failed", "wait until 139"),
                    (139, Told::TimeHasCome, "payment_step_retried", "close_session"),
                    closed(140),
                    released(141),
                ],
            ),
        ),
    ]
}

fn wrong_and_late_money_ways() -> Vec<Way<Checkout>> {
    let refund = PaymentStep::Refund;
    let wrong = told_by_webhook(paid_amount(Money::eur(1)));
    let late = |second| (second, paid(), "late_payment_received", "refund");
    let refunded = |second| (second, refund_made(), "refunded", "done");
    vec![
        way(
            "wrong_amount",
            after(
                until_awaiting(),
                [
                    (30, wrong, "(contradiction)", "wait until 121"),
                    (DEADLINE, Told::TimeHasCome, "deadline_passed", "close_session"),
                    (122, already_paid(Money::eur(1)), "wrong_amount_received", "release_stock"),
                    (123, stock(StockAnswer::Released {}), "stock_released", "refund"),
                    refunded(124),
                ],
            ),
        ),
        way("paid_after_the_end", after(until_expired(), [late(200), refunded(201), (300, paid(), "", "done")])),
        way(
            "paid_while_the_stock_goes_back",
            after(
                until_expired()[..5].to_vec(),
                [
                    (123, paid(), "late_payment_received", "release_stock"),
                    (124, stock(StockAnswer::Released {}), "stock_released", "refund"),
                    refunded(125),
                ],
            ),
        ),
        way(
            "paid_after_the_end_with_the_provider_down",
            after(
                until_expired(),
                [
                    late(200),
                    (201, no_answer(refund), "payment_step_failed", "wait until 203"),
                    (203, Told::TimeHasCome, "payment_step_retried", "refund"),
                    refunded(204),
                ],
            ),
        ),
        way(
            "paid_after_the_end_and_not_refundable",
            after(until_expired(), [late(200), (201, refused(refund), "refund_needs_attention", "done")]),
        ),
    ]
}

#[test]
fn every_way_goes_as_it_is_told() {
    for way in all() {
        assert!(!play(&way).is_empty(), "{}", way.name);
    }
}

/// CASES G1, G2: a worker may die after any record.
#[test]
fn cut_at_every_record_the_same_step_is_owed_on_every_replay() {
    for way in all() {
        let has_ended = |checkout: &Checkout| matches!(checkout, Checkout::Started(started) if matches!(started.phase, Phase::Ended { .. }));
        cut_at_every_record(&way, has_ended);
    }
}

/// CASES A1, B4, D4, FT5, FP3: commands, answers, webhooks, timers and the ends of steps may all come twice.
#[test]
fn everything_told_twice_changes_nothing_the_second_time() {
    for way in all() {
        tell_everything_twice(&way);
    }
}

/// The end that people see, for each way.
#[test]
fn every_way_ends_with_the_right_word() {
    let ends: Vec<String> = all()
        .iter()
        .map(|way| {
            let checkout = crate::workflows::stories::ways::replayed::<Checkout>(&play(way)).state;
            let refund = checkout.refund_status().map_or("", |refund| refund.as_str());
            format!("{}: {} {refund}", way.name, checkout.status_word()).trim_end().to_owned()
        })
        .collect();
    assert_eq!(
        ends,
        [
            "paid: paid",
            "paid_webhook_twice: paid",
            "paid_webhook_before_the_session_is_recorded: paid",
            "paid_after_a_webhook_of_another_session: paid",
            "paid_although_it_was_declined_first: paid",
            "paid_when_asked_to_expire: paid",
            "paid_but_the_sale_is_refused: cancelled refunded",
            "expired: expired",
            "declined: declined",
            "cancelled_at_the_provider: cancelled",
            "cancelled_while_awaiting_payment: cancelled",
            "cancelled_while_opening_payment: cancelled",
            "cancelled_while_reserving: cancelled",
            "out_of_stock: out_of_stock",
            "provider_refuses: payment_unavailable",
            "provider_down_and_back: paid",
            "provider_down_until_the_deadline: payment_unavailable",
            "provider_refuses_after_a_lost_answer: payment_unavailable",
            "expired_while_the_provider_is_unreachable: expired",
            "wrong_amount: expired refunded",
            "paid_after_the_end: expired refunded",
            "paid_while_the_stock_goes_back: expired refunded",
            "paid_after_the_end_with_the_provider_down: expired refunded",
            "paid_after_the_end_and_not_refundable: expired needs_attention",
        ]
    );
}
