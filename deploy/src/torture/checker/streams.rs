//! The streams: what was answered is stored, nothing stored goes away, nothing is parked that should have been handled.

use std::collections::BTreeSet;

use common::subject::{DeadLetterArea, Subject};

use super::{
    super::{facts::Facts, visits::Way, watch::LastMessage},
    Violations,
};

pub(super) fn check(facts: &Facts, violations: &mut Violations) {
    for subject in facts.delivered.difference(&facts.webhooks) {
        violations.add("what was answered is stored", subject, "the provider was answered 2xx, but it is not stored");
    }
    sequences_only_grow(facts, violations);
    only_lies_are_parked(facts, violations);
    for what in &facts.unsettled {
        violations.add("everything settles", "the run", what);
    }
    for what in &facts.accidents {
        violations.add("everything comes back", "the run", what);
    }
    for finding in &facts.broken {
        violations.add("the doctor finds nothing", &finding.subject, &finding.text);
    }
}

/// Whatever was the last message of a stream once is the same message at the same place in the end. A server that had lost it
/// would have nothing there, or what came later.
fn sequences_only_grow(facts: &Facts, violations: &mut Violations) {
    for (stream, seen) in &facts.last_messages {
        let stored_at = |sequence| facts.stored_at.get(stream).and_then(|times| times.get(&sequence)).copied();
        let lost = seen.iter().find(|last| stored_at(last.sequence) != Some(last.at));
        if let Some(LastMessage { sequence, at }) = lost {
            let now = stored_at(*sequence).map_or("nothing".to_owned(), |later| format!("one of {later}"));
            let text = format!("its last message was {sequence}, of {at}, and in the end there is {now} at its place");
            violations.add("sequences only grow", stream, text);
        }
    }
}

/// Webhooks with wrong words are for people; anything else that is parked is a defect.
fn only_lies_are_parked(facts: &Facts, violations: &mut Violations) {
    let lied_about: BTreeSet<String> =
        facts.told.iter().filter(|told| told.way == Way::LiedAbout).map(|told| told.checkout.to_string()).collect();
    for letter in &facts.letters {
        let is_webhook = letter.subject == Subject::DeadLetter(DeadLetterArea::Webhook).to_string();
        let body: serde_json::Value = serde_json::from_slice(&letter.payload).unwrap_or_default();
        let is_lie = body["client_reference_id"].as_str().is_some_and(|reference| lied_about.contains(reference));
        if !(is_webhook && is_lie) {
            let text = format!("{} was parked: {}", letter.origin, letter.reason);
            violations.add("only lies are parked", &letter.subject, text);
        }
    }
}
