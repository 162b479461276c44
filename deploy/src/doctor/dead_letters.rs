//! What was parked and waits for an operator: by area and reason, and which messages it was.

use std::collections::{BTreeMap, HashSet};

use common::{
    headers,
    nats::read::Stored,
    subject::{DeadLetterArea, Subject},
};

use super::finding::{Findings, Promise};

/// The parked messages, read so far.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// Letters that no operator has seen to, by sequence: area and reason.
    waiting: BTreeMap<u64, (String, String)>,
    /// The subjects that parked messages came from.
    origins: HashSet<String>,
    /// Messages of the stream, whatever they say.
    pub(super) seen: u64,
    /// Letters have been taken away, by age or by a person: that one is not there says little.
    pub(super) some_are_gone: bool,
}

/// Letters of one area whose reasons differ in names and numbers only.
#[derive(Debug)]
struct Group {
    count: u64,
    newest: u64,
    reason: String,
}

impl DeadLetters {
    /// Read one message of `DEAD_LETTERS`.
    pub(super) fn read_on(&mut self, stored: &Stored) {
        self.seen += 1;
        if let Ok(Subject::LetterSettled(letter)) = stored.subject.parse() {
            // It stands after its letter.
            self.waiting.remove(&letter);
            return;
        }
        let header = |name: async_nats::HeaderName| stored.headers.get(name).map(|value| value.as_str().to_owned());
        let reason = header(headers::REASON).unwrap_or_else(|| "no reason given".into());
        self.waiting.insert(stored.sequence, (stored.subject.clone(), reason));
        self.origins.extend(header(headers::ORIGINAL_SUBJECT));
    }

    /// How many letters wait for an operator.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.waiting.len()).unwrap_or(u64::MAX)
    }

    fn groups(&self) -> BTreeMap<(&str, String), Group> {
        let mut groups = BTreeMap::new();
        for (sequence, (subject, reason)) in &self.waiting {
            let none = || Group { count: 0, newest: 0, reason: String::new() };
            let group = groups.entry((subject.as_str(), shape(reason))).or_insert_with(none);
            *group = Group { count: group.count + 1, newest: *sequence, reason: reason.clone() };
        }
        groups
    }

    /// Whether a message of this subject was parked.
    pub(super) fn has(&self, subject: &str) -> bool {
        self.origins.contains(subject)
    }

    /// One finding for each group.
    pub(super) fn examine(&self, findings: &mut Findings) {
        for ((subject, _), Group { count, newest, reason }) in self.groups() {
            findings.attention(
                promise_of(subject),
                "stream DEAD_LETTERS",
                format!(
                    "{count} × {subject}: {reason}. Look at one with `deploy dead-letters show {newest}`, mend the cause, and \
                     drive them again or discard them"
                ),
            );
        }
    }
}

fn promise_of(subject: &str) -> Promise {
    match subject.parse() {
        Ok(Subject::DeadLetter(DeadLetterArea::Webhook)) => Promise::Charge,
        Ok(Subject::DeadLetter(DeadLetterArea::Inventory)) => Promise::Stock,
        Ok(_) | Err(_) => Promise::End,
    }
}

/// The reason without its names and numbers, so that a thousand letters with one cause are one finding.
fn shape(reason: &str) -> String {
    let word =
        |word: &str| if word.bytes().any(|byte| byte.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    reason.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::samples::parked;

    #[test]
    fn letters_with_one_cause_are_one_finding_and_keep_their_origin() {
        let mut letters = DeadLetters::default();
        letters.read_on(&parked(1, DeadLetterArea::Webhook, "webhook.sandbox.evt_1", "session cs_1 is not ours"));
        letters.read_on(&parked(2, DeadLetterArea::Webhook, "webhook.sandbox.evt_2", "session cs_2 is not ours"));
        letters.read_on(&parked(3, DeadLetterArea::Command, "command.checkout.x", "the turn panicked"));
        assert!(letters.has("webhook.sandbox.evt_2") && !letters.has("webhook.sandbox.evt_3"));

        let mut findings = Findings::default();
        letters.examine(&mut findings);
        let found: Vec<_> = findings.into_sorted().into_iter().map(|finding| (finding.promise, finding.text)).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, Promise::Charge);
        assert!(found[0].1.starts_with("2 × deadletter.webhook: session cs_2 is not ours."), "{}", found[0].1);
        assert!(found[0].1.contains("dead-letters show 2"), "{}", found[0].1);
    }

    #[test]
    fn what_an_operator_has_seen_to_is_no_finding_any_more_but_was_parked() {
        let mut letters = DeadLetters::default();
        letters.read_on(&parked(1, DeadLetterArea::Webhook, "webhook.sandbox.evt_1", "not ours"));
        let mut settled = parked(2, DeadLetterArea::Webhook, "", "");
        settled.subject = Subject::LetterSettled(1).to_string();
        letters.read_on(&settled);
        assert_eq!((letters.count(), letters.seen), (0, 2));
        assert!(letters.has("webhook.sandbox.evt_1"));
        let mut findings = Findings::default();
        letters.examine(&mut findings);
        assert_eq!(findings.into_sorted().len(), 0);
    }
}
