//! What customers were told has become true, and stays true.

use std::collections::BTreeSet;

use common::{
    contracts::refund::refund_of,
    ids::{WorkflowKind, WorkflowRef},
};

use super::{
    super::{
        facts::Facts,
        told::{Answer, Asked, Told},
    },
    Violations,
    histories::Stories,
};

pub(super) fn check(facts: &Facts, stories: &Stories, violations: &mut Violations) {
    for told in &facts.told {
        accepted_is_started(told, facts, violations);
        one_key_is_one_checkout(told, stories, violations);
        another_cart_is_refused(told, violations);
        a_final_answer_stays_true(told, stories, violations);
        a_promised_refund_is_made(told, stories, violations);
        forged_is_refused(told, violations);
    }
    no_checkout_of_nobody(facts, stories, violations);
}

/// A cart that was accepted has a history.
fn accepted_is_started(told: &Told, facts: &Facts, violations: &mut Violations) {
    let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: told.checkout };
    if told.is_accepted() && !facts.histories.contains_key(&workflow) {
        violations.add("accepted is started", workflow, format!("key {} was accepted, but nothing happened", told.key));
    }
}

/// All answers under a key are about one checkout, one session and one price.
fn one_key_is_one_checkout(told: &Told, stories: &Stories, violations: &mut Violations) {
    let successes: Vec<&Answer> = told.to(Asked::Start).filter(|answer| answer.is_success()).collect();
    let ids: BTreeSet<&String> = successes.iter().filter_map(|answer| answer.workflow_id.as_ref()).collect();
    let sessions: BTreeSet<&String> = successes.iter().filter_map(|answer| answer.session_id.as_ref()).collect();
    let expected = told.checkout.to_string();
    if ids.iter().any(|id| **id != expected) {
        violations.add("one key, one checkout", &told.key, format!("it is {expected}, but answers named {ids:?}"));
    }
    if sessions.len() > 1 {
        violations.add(
            "one key, one checkout",
            &told.key,
            format!("answers named {} sessions: {sessions:?}", sessions.len()),
        );
    }
    let total = stories.checkouts.get(&told.checkout).and_then(|story| story.order()).map(|order| order.total.amount);
    for amount in successes.iter().filter_map(|answer| answer.amount) {
        if total.is_some_and(|total| total != amount) {
            violations.add("one key, one body", &told.key, format!("answered {amount}, but the order costs {total:?}"));
        }
    }
}

/// The same key with another cart is a conflict.
fn another_cart_is_refused(told: &Told, violations: &mut Violations) {
    if let Some(answer) = told.to(Asked::OtherCart).find(|answer| answer.is_success()) {
        let text = format!("another cart under the same key was answered {}, not 422", answer.status);
        violations.add("one key, one body", &told.key, text);
    }
}

/// Who was told that a checkout has ended was told the truth.
fn a_final_answer_stays_true(told: &Told, stories: &Stories, violations: &mut Violations) {
    let Some(story) = stories.checkouts.get(&told.checkout) else { return };
    for answer in &told.answers {
        let promised = match (answer.asked, answer.status, answer.code.as_deref()) {
            (Asked::Start, 409, Some("out_of_stock")) => "out_of_stock",
            (Asked::Start, 502, Some("payment_unavailable")) => "payment_unavailable",
            (Asked::Cancel, 200, _) => "cancelled",
            _ => continue,
        };
        if story.status() != promised {
            let text = format!("somebody was told that it is {promised}, but it is {}", story.status());
            violations.add("what was said stays true", told.checkout, text);
        }
    }
}

/// An operator who was told that the refund is under way or done gets it.
fn a_promised_refund_is_made(told: &Told, stories: &Stories, violations: &mut Violations) {
    let promised = told.to(Asked::Refund).any(Answer::is_success);
    if promised && !stories.refunds.contains_key(&refund_of(told.checkout)) {
        violations.add("accepted is started", told.checkout, "a refund by hand was accepted, but nothing happened");
    }
}

/// Nobody believes what is not signed.
fn forged_is_refused(told: &Told, violations: &mut Violations) {
    if told.to(Asked::ForgedWebhook).any(Answer::is_success) {
        violations.add("forged is refused", told.checkout, "a webhook with a forged signature was answered 2xx");
    }
}

/// Every checkout is somebody's.
fn no_checkout_of_nobody(facts: &Facts, stories: &Stories, violations: &mut Violations) {
    let asked_for: BTreeSet<_> = facts.told.iter().map(|told| told.checkout).collect();
    for id in stories.checkouts.keys().filter(|id| !asked_for.contains(id)) {
        violations.add("no checkout of nobody", id, "it has a history, but nobody has asked for it");
    }
}
