use common::contracts::checkout::{CheckoutEvent as Event, PaymentStep};

use super::super::{finding::Severity, samples::*};
use super::*;

/// What is found so many seconds after the start.
fn judged(events: &[Event], under_way: &UnderWay, second: i64) -> Vec<(Severity, String)> {
    let (histories, _) = read(&checkout_history(events.iter().cloned()));
    let patience = Patience { now: at(second), stuck_after: Duration::from_secs(300) };
    let mut findings = Findings::default();
    examine(&histories, under_way, &HashSet::new(), patience, &mut findings);
    findings.into_sorted().into_iter().map(|finding| (finding.severity, finding.text)).collect()
}

fn with_a_message() -> UnderWay {
    let mut under_way = UnderWay::default();
    under_way.add(checkout(1));
    under_way
}

fn with_a_timer() -> UnderWay {
    UnderWay { timers: HashSet::from([checkout(1)]), ..UnderWay::default() }
}

#[test]
fn what_is_done_or_in_time_is_left_alone() {
    assert_eq!(judged(&the_paid_way(), &UnderWay::default(), 1_000_000), []);
    assert_eq!(judged(&the_expired_way(), &UnderWay::default(), 1_000_000), []);
    let waiting = &the_paid_way()[..3];
    assert_eq!(judged(waiting, &with_a_timer(), 90), []);
    // The deadline is at 101; the timer has just gone off, or its message is on its way.
    assert_eq!(judged(waiting, &UnderWay::default(), 161), []);
    assert_eq!(judged(waiting, &with_a_message(), 401), []);
    assert_eq!(judged(&the_paid_way()[..1], &UnderWay::default(), 60), []);
    assert_eq!(judged(&the_paid_way()[..1], &with_a_message(), 300), []);
}

#[test]
fn a_deadline_or_a_step_that_is_long_overdue_is_stuck_unless_something_is_under_way() {
    for (length, owed) in [(3, "to be woken at"), (1, "reserve_stock"), (4, "commit_stock")] {
        let events = &the_paid_way()[..length];
        let alone = judged(events, &UnderWay::default(), 402);
        assert!(alone.len() == 1 && alone[0].0 == Severity::Broken, "{alone:?}");
        assert!(alone[0].1.contains("it is stuck") && alone[0].1.contains(owed), "{alone:?}");
        let waiting = judged(events, &with_a_message(), 402);
        assert!(waiting.len() == 1 && waiting[0].0 == Severity::Attention, "{waiting:?}");
        assert!(waiting[0].1.contains("messages waiting for it: 1"), "{waiting:?}");
    }
}

#[test]
fn a_refund_that_is_owed_counts_too() {
    let late = [the_expired_way(), vec![paid_late()]].concat();
    let found = judged(&late, &UnderWay::default(), 1_000);
    assert!(found.len() == 1 && found[0].0 == Severity::Broken && found[0].1.contains("refund"), "{found:?}");
}

#[test]
fn what_was_forgotten_is_told_before_it_counts_as_stuck() {
    for (length, second) in [(3, 170), (1, 70), (4, 70)] {
        let found = judged(&the_paid_way()[..length], &UnderWay::default(), second);
        assert!(found.len() == 1 && found[0].0 == Severity::Attention, "{found:?}");
        assert!(found[0].1.contains("only the sweep will find it"), "{found:?}");
    }
}

#[test]
fn a_missing_wake_up_call_is_told_after_the_turn_that_should_have_set_it() {
    let waiting = &the_paid_way()[..3];
    assert_eq!(judged(waiting, &UnderWay::default(), 60), []);
    let found = judged(waiting, &UnderWay::default(), 70);
    assert!(found.len() == 1 && found[0].0 == Severity::Attention && found[0].1.contains("TIMERS"), "{found:?}");
    assert_eq!(judged(waiting, &with_a_message(), 70), []);
}

#[test]
fn a_provider_that_has_not_answered_for_long_is_told() {
    let retry = |second| Event::PaymentStepFailed {
        step: PaymentStep::CloseSession,
        attempt: 40,
        reason: "no answer".into(),
        retry_at: at(second),
    };
    let events = [&the_expired_way()[..4], &[retry(1_000)]].concat();
    let found = judged(&events, &with_a_timer(), 990);
    assert!(found.len() == 1 && found[0].0 == Severity::Attention && found[0].1.contains("provider"), "{found:?}");
}

#[test]
fn what_moves_while_it_is_read_is_not_judged() {
    let (histories, _) = read(&checkout_history([started()]));
    let patience = Patience { now: at(1_000), stuck_after: Duration::from_secs(300) };
    let mut findings = Findings::default();
    examine(&histories, &UnderWay::default(), &HashSet::from([checkout(1)]), patience, &mut findings);
    assert!(findings.all().is_empty());
}
