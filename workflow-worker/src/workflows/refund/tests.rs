//! What a refund by hand does, told as stories.

use common::{
    contracts::{
        checkout::PaymentStep,
        refund::{RefundCommand, RefundEvent as Event},
    },
    ids::WorkflowId,
    money::Money,
    payment::RefundRequest,
    time::Timestamp,
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{MOST_ROUNDS, Refund};
use crate::{
    workflow::{Next, Rejection, Step, StepEnd, Told, Workflow as _},
    workflows::stories::{
        at, given,
        golden::{ends, holds_every_event, holds_every_way, record_new},
        id, input, settings,
        shapes::json_of_each,
        ways::{Way, cut_at_every_record, play, tell_everything_twice, way},
    },
};

fn checkout() -> WorkflowId {
    "0198c0de-0000-7000-8000-00000000000b".parse().expect("a workflow id")
}

fn start() -> Told<RefundCommand> {
    Told::Asked(RefundCommand::Start {
        checkout: checkout(),
        provider: "sandbox".parse().expect("a provider's name"),
        session_id: "cs_1".parse().expect("a session id"),
        amount: Money::eur(2_400),
        reason: "arrived broken".to_owned(),
        by: Some("alice".parse().expect("a name")),
    })
}

fn nudge() -> Told<RefundCommand> {
    Told::Asked(RefundCommand::Nudge)
}

fn made() -> Told<RefundCommand> {
    Told::StepEnded(StepEnd::Refunded { refund_id: "re_1".to_owned() })
}

fn no_answer() -> Told<RefundCommand> {
    Told::StepEnded(StepEnd::NoAnswer { step: PaymentStep::Refund, reason: "connection refused".to_owned() })
}

fn refused() -> Told<RefundCommand> {
    Told::StepEnded(StepEnd::Refused { step: PaymentStep::Refund, reason: "too old".to_owned() })
}

fn requested() -> Event {
    Event::RefundRequested {
        checkout: checkout(),
        provider: "sandbox".parse().expect("a provider's name"),
        session_id: "cs_1".parse().expect("a session id"),
        amount: Money::eur(2_400),
        reason: "arrived broken".to_owned(),
        by: Some("alice".parse().expect("a name")),
    }
}

fn failed(attempt: u32, retry_at: Timestamp) -> Event {
    Event::RefundFailed { attempt, reason: "connection refused".to_owned(), retry_at }
}

fn refunded() -> Event {
    Event::Refunded { refund_id: "re_1".to_owned() }
}

fn needs_attention() -> Event {
    Event::RefundNeedsAttention { reason: "too old".to_owned() }
}

fn ask_the_provider() -> Next {
    Next::Run(Step::Refund(RefundRequest {
        reference: checkout(),
        idempotency_key: id().derive("refund"),
        session_id: "cs_1".parse().expect("a session id"),
        amount: Money::eur(2_400),
    }))
}

fn ways() -> Vec<Way<Refund>> {
    vec![
        way("refunded", [(0, start(), "refund_requested", "refund"), (1, made(), "refunded", "done")]),
        way(
            "provider_down_and_back",
            [
                (0, start(), "refund_requested", "refund"),
                (1, no_answer(), "refund_failed", "wait until 3"),
                (2, Told::TimeHasCome, "", "wait until 3"),
                (3, Told::TimeHasCome, "refund_retried", "refund"),
                (4, no_answer(), "refund_failed", "wait until 8"),
                (8, nudge(), "refund_retried", "refund"),
                (9, made(), "refunded", "done"),
            ],
        ),
        way("refused", [(0, start(), "refund_requested", "refund"), (1, refused(), "refund_needs_attention", "done")]),
    ]
}

#[test]
fn every_way_goes_as_it_is_told() {
    for way in ways() {
        assert!(!play(&way).is_empty(), "{}", way.name);
    }
}

#[test]
fn cut_at_every_record_the_same_step_is_owed_on_every_replay() {
    for way in ways() {
        cut_at_every_record(&way, |refund| matches!(refund, Refund::Refunded | Refund::NeedsAttention));
    }
}

#[test]
fn everything_told_twice_changes_nothing_the_second_time() {
    for way in ways() {
        tell_everything_twice(&way);
    }
}

#[test]
fn the_money_goes_back_and_the_stock_stays() {
    given::<Refund>([])
        .and_next(Next::Wait { until: None })
        .when(start(), at(0))
        .then([requested()])
        .and_next(ask_the_provider())
        .and_status("pending")
        .when(made(), at(1))
        .then([refunded()])
        .and_next(Next::Done)
        .and_status("refunded");
}

#[test]
fn a_refund_that_was_not_started_can_be_asked_nothing() {
    for told in [nudge(), made(), no_answer(), refused(), Told::TimeHasCome] {
        given::<Refund>([]).when(told, at(0)).then_rejected(Rejection::No);
    }
}

#[test]
fn asked_again_in_any_phase_it_is_the_same_refund() {
    let phases = [
        vec![requested()],
        vec![requested(), failed(1, at(3))],
        vec![requested(), refunded()],
        vec![requested(), needs_attention()],
    ];
    for history in phases {
        given::<Refund>(history).when(start(), at(10_000)).then_nothing();
    }
}

/// CASES F4: a worker dies after the call; the same call with the same key is owed on every replay.
#[test]
fn f4_a_refund_that_was_not_recorded_is_made_again_with_the_same_key() {
    given::<Refund>([requested()]).and_next(ask_the_provider());
    given::<Refund>([requested(), failed(1, at(3)), Event::RefundRetried { attempt: 2 }]).and_next(ask_the_provider());
}

/// CASES G3: two workers ran the same round.
#[test]
fn g3_one_round_that_two_workers_ran_counts_once() {
    given::<Refund>([requested(), failed(1, at(3))])
        .when(no_answer(), at(2))
        .then_nothing()
        .and_next(Next::Wait { until: Some(at(3)) })
        .when(made(), at(2))
        .then([refunded()])
        .and_status("refunded");
}

/// CASES F3: nothing is dropped.
#[test]
fn f3_a_refund_that_is_never_answered_ends_with_a_person() {
    let mut story = given::<Refund>([requested()]);
    for round in 1..MOST_ROUNDS {
        let now = at(u64::from(round) * 1_000);
        let retry_at = settings().retry_at(now, round);
        story = story
            .when(no_answer(), now)
            .then([failed(round, retry_at)])
            .when(Told::TimeHasCome, retry_at)
            .then([Event::RefundRetried { attempt: round + 1 }])
            .and_next(ask_the_provider());
    }
    story
        .when(no_answer(), at(100_000))
        .then([Event::RefundNeedsAttention { reason: "connection refused".to_owned() }])
        .and_next(Next::Done)
        .and_status("needs_attention");
}

#[test]
fn after_the_end_nothing_more_happens() {
    for end in [refunded(), needs_attention()] {
        for told in [nudge(), Told::TimeHasCome, made(), no_answer(), refused()] {
            given::<Refund>([requested(), end.clone()]).when(told, at(500)).then_nothing().and_next(Next::Done);
        }
    }
}

fn examples() -> Vec<Event> {
    vec![requested(), failed(1, at(3)), Event::RefundRetried { attempt: 2 }, refunded(), needs_attention()]
}

#[test]
fn events_are_stored_in_the_shape_that_older_histories_have() {
    insta::assert_json_snapshot!("refund_events", json_of_each(&examples()));
}

#[test]
fn recorded_histories_end_as_they_always_did() {
    insta::assert_snapshot!("recorded_refunds", ends::<Refund>());
}

#[test]
fn every_event_stands_in_a_recorded_history() {
    holds_every_event::<Refund>();
}

#[test]
fn every_way_is_recorded() {
    holds_every_way(&ways());
}

#[test]
#[ignore = "writes the histories of new ways into tests/golden/refund"]
fn record_new_histories() {
    record_new(&ways());
}

proptest! {
    /// CASES F2, K5: whatever it is told in whatever order, it ends at most once and nothing follows the end.
    #[test]
    fn it_ends_at_most_once(
        tells in vec((select(vec![start(), nudge(), Told::TimeHasCome, made(), no_answer(), refused()]), 0..500_u64), 0..40),
    ) {
        let mut refund = Refund::default();
        let mut has_ended = false;
        for (told, second) in tells {
            let Ok(happened) = refund.decide(&input(at(second), told)) else { continue };
            prop_assert!(!has_ended || happened.is_empty());
            refund = happened.iter().fold(refund, Refund::evolve);
            has_ended = refund.next(id()) == Next::Done;
        }
    }

    #[test]
    fn any_history_and_any_input_get_an_answer(events in vec(select(examples()), 0..12), second in 0..500_u64) {
        let refund = events.iter().fold(Refund::default(), Refund::evolve);
        for told in [start(), nudge(), Told::TimeHasCome, made(), no_answer(), refused()] {
            if let Ok(happened) = refund.decide(&input(at(second), told)) {
                let after = happened.iter().fold(refund.clone(), Refund::evolve);
                prop_assert!(!after.status().is_empty());
            }
        }
    }
}
