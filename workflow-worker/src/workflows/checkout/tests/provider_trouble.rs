//! CASES C: the payment provider fails, refuses, or answers into the void.

use common::contracts::checkout::{CheckoutEvent as Event, PaymentStep};

use super::fixtures::*;
use crate::{
    workflow::{Next, Told},
    workflows::{
        checkout::Checkout,
        stories::{at, given, settings},
    },
};

const OPEN: PaymentStep = PaymentStep::OpenSession;
const CLOSE: PaymentStep = PaymentStep::CloseSession;

/// CASES C1: the back-off stands in the history, and the workflow holds no lease meanwhile.
#[test]
fn c1_an_unreachable_provider_is_asked_again_after_a_recorded_time() {
    given::<Checkout>(opening())
        .when(no_answer(OPEN), at(2))
        .then([step_failed(OPEN, 1, at(4))])
        .and_next(wait_until(4))
        .and_status("opening_payment")
        .when(Told::TimeHasCome, at(4))
        .then([Event::PaymentStepRetried { step: OPEN, attempt: 2 }])
        .and_next(open_session())
        .when(no_answer(OPEN), at(5))
        .then([step_failed(OPEN, 2, at(9))])
        .when(Told::TimeHasCome, at(9))
        .then([Event::PaymentStepRetried { step: OPEN, attempt: 3 }])
        .when(session_opened(), at(10))
        .then([payment_session_opened()])
        .and_next(wait_until(DEADLINE))
        .and_status("awaiting_payment");
}

#[test]
fn c1_rounds_wait_twice_as_long_each_time_but_never_longer_than_half_a_minute() {
    let waits: Vec<i64> = [1, 2, 3, 4, 5, 100, u32::MAX]
        .map(|round| settings().retry_at(at(0), round).duration_since(at(0)).as_secs())
        .into();
    assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
}

/// CASES C2, C3: one word of refusal, no retries, the stock goes back.
#[test]
fn c3_a_provider_that_refuses_ends_the_checkout() {
    given::<Checkout>(opening())
        .when(refused(OPEN), at(2))
        .then([Event::PaymentRefused { reason: "not possible".to_owned() }])
        .and_next(release_stock())
        .when(stock(common::contracts::inventory::StockAnswer::Released {}), at(3))
        .then([Event::StockReleased {}])
        .and_next(Next::Done)
        .and_status("payment_unavailable");
}

/// CASES C5: a worker dies after the call. Whoever replays makes the same call with the same key, for the same amount.
#[test]
fn c5_a_session_that_was_not_recorded_is_opened_again_with_the_same_key() {
    given::<Checkout>(opening()).and_next(open_session());
    let retried = [step_failed(OPEN, 1, at(4)), Event::PaymentStepRetried { step: OPEN, attempt: 2 }];
    given::<Checkout>([opening(), retried.to_vec()].concat()).and_next(open_session());
}

/// CASES C7, C12: nobody knows whether there is a session, so the provider is asked before the stock goes back.
#[test]
fn c7_when_all_rounds_stay_without_an_answer_the_session_is_closed_before_the_stock_goes_back() {
    let failed = [opening(), vec![step_failed(OPEN, 1, at(140))]].concat();
    given::<Checkout>(failed)
        .and_next(wait_until(DEADLINE))
        .when(Told::TimeHasCome, at(DEADLINE))
        .then([Event::PaymentGivenUp { reason: "connection refused".to_owned() }])
        .and_next(close_unknown_session())
        .when(nobody_can_pay(), at(122))
        .then([Event::PaymentSessionClosed {}])
        .and_next(release_stock());
}

/// CASES C7: the last round ends after the deadline; there is no time for another.
#[test]
fn c7_a_round_that_fails_after_the_deadline_is_the_last() {
    given::<Checkout>(opening())
        .when(no_answer(OPEN), at(DEADLINE))
        .then([Event::PaymentGivenUp { reason: "connection refused".to_owned() }])
        .and_next(close_unknown_session());
}

/// CASES C7: the refusal may be about the second call only.
#[test]
fn c7_a_refusal_after_a_lost_answer_closes_the_session_that_may_exist() {
    let failed = [step_failed(OPEN, 1, at(4)), Event::PaymentStepRetried { step: OPEN, attempt: 2 }];
    given::<Checkout>([opening(), failed.to_vec()].concat())
        .when(refused(OPEN), at(5))
        .then([Event::PaymentGivenUp { reason: "not possible".to_owned() }])
        .and_next(close_unknown_session());
}

/// CASES C9: the session whose opening was never answered exists, and is paid.
#[test]
fn c9_a_session_that_was_never_recorded_can_turn_out_to_be_paid() {
    given::<Checkout>(closing_the_unknown())
        .when(already_paid(total()), at(5))
        .then([Event::PaymentReceived { notice: asked_notice(total()) }])
        .and_next(commit_stock())
        .when(paid(), at(6))
        .then_nothing();
}

/// CASES C12: the answer arrives after somebody else has moved the checkout on.
#[test]
fn c12_a_session_that_opens_too_late_changes_nothing() {
    for history in
        [awaiting(), closing(), closing_the_unknown(), committing(), releasing(), ended_paid(), ended_expired()]
    {
        given::<Checkout>(history).when(session_opened(), at(130)).then_nothing();
    }
}

/// CASES E7: while it is not certain that nobody can pay, the stock stays reserved, however often that fails.
#[test]
fn e7_an_unreachable_provider_keeps_the_stock_reserved() {
    let mut story = given::<Checkout>(closing());
    for round in 1..=50 {
        let now = 200 + u64::from(round) * 100;
        let retry_at = settings().retry_at(at(now), round);
        story = story
            .when(no_answer(CLOSE), at(now))
            .then([step_failed(CLOSE, round, retry_at)])
            .and_status("settling")
            .and_next(Next::Wait { until: Some(retry_at) })
            .when(Told::TimeHasCome, retry_at)
            .then([Event::PaymentStepRetried { step: CLOSE, attempt: round + 1 }])
            .and_next(close_session());
    }
    story.when(nobody_can_pay(), at(9_000)).then([Event::PaymentSessionClosed {}]).and_next(release_stock());
}

/// CASES E7: a provider that will not close the session has not said that nobody can pay.
#[test]
fn e7_a_refused_close_is_asked_again_like_an_unanswered_one() {
    let retry =
        Event::PaymentStepFailed { step: CLOSE, attempt: 1, reason: "not possible".to_owned(), retry_at: at(124) };
    given::<Checkout>(closing())
        .when(refused(CLOSE), at(122))
        .then([retry])
        .and_next(wait_until(124))
        .when(refused(CLOSE), at(123))
        .then_nothing();
}

/// CASES G3: two workers ran the same round; the second failure is not a second round and does not move the retry.
#[test]
fn g3_one_round_that_two_workers_ran_counts_once() {
    let opening = [opening(), vec![step_failed(OPEN, 1, at(4))]].concat();
    given::<Checkout>(opening).when(no_answer(OPEN), at(3)).then_nothing().and_next(wait_until(4));
    let closing = [closing(), vec![step_failed(CLOSE, 1, at(124))]].concat();
    given::<Checkout>(closing).when(no_answer(CLOSE), at(123)).then_nothing().and_next(wait_until(124));
    let refund = [owing_a_refund(), vec![step_failed(PaymentStep::Refund, 1, at(203))]].concat();
    given::<Checkout>(refund).when(no_answer(PaymentStep::Refund), at(202)).then_nothing().and_next(wait_until(203));
}

/// CASES G3: one of two workers got the answer that the other one lost.
#[test]
fn g3_an_answer_counts_even_when_another_worker_s_round_failed() {
    let opening = [opening(), vec![step_failed(OPEN, 1, at(4))]].concat();
    given::<Checkout>(opening)
        .when(session_opened(), at(3))
        .then([payment_session_opened()])
        .and_next(wait_until(DEADLINE));
    let closing = [closing(), vec![step_failed(CLOSE, 1, at(124))]].concat();
    given::<Checkout>(closing)
        .when(nobody_can_pay(), at(123))
        .then([Event::PaymentSessionClosed {}])
        .and_next(release_stock());
}

/// The end of one step is no news to another.
#[test]
fn the_end_of_another_step_changes_nothing() {
    let ends = || [session_opened(), nobody_can_pay(), refund_made(), no_answer(OPEN), no_answer(CLOSE), refused(OPEN)];
    for history in [reserving(), awaiting(), committing(), releasing(), ended_paid(), ended_expired()] {
        for end in ends() {
            given::<Checkout>(history.clone()).when(end, at(500)).then_nothing();
        }
    }
    given::<Checkout>(opening()).when(nobody_can_pay(), at(3)).then_nothing().and_next(open_session());
    given::<Checkout>(closing()).when(no_answer(OPEN), at(122)).then_nothing().and_next(close_session());
    given::<Checkout>(owing_a_refund()).when(no_answer(CLOSE), at(201)).then_nothing().and_next(give_back(total()));
}
