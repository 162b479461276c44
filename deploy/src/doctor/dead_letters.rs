//! What was parked: by area and reason, and which messages it was.

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
    groups: BTreeMap<(String, String), Group>,
    /// The subjects that parked messages came from.
    origins: HashSet<String>,
    pub(super) count: u64,
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
        let header = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned());
        let reason = header(headers::REASON).unwrap_or_else(|| "no reason given".into());
        let group = self.groups.entry((stored.subject.clone(), shape(&reason))).or_insert_with(|| Group {
            count: 0,
            newest: 0,
            reason: String::new(),
        });
        *group = Group { count: group.count + 1, newest: stored.sequence, reason };
        self.origins.extend(header(headers::ORIGINAL_SUBJECT));
        self.count += 1;
    }

    /// Whether a message of this subject was parked.
    pub(super) fn has(&self, subject: &str) -> bool {
        self.origins.contains(subject)
    }

    /// One finding for each group.
    pub(super) fn examine(&self, findings: &mut Findings) {
        for ((subject, _), Group { count, newest, reason }) in &self.groups {
            findings.attention(
                promise_of(subject),
                "stream DEAD_LETTERS",
                format!(
                    "{count} × {subject}: {reason}. Mend the cause and drive them again; see \
                     `nats stream get DEAD_LETTERS {newest}`"
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
        assert!(found[0].1.contains("nats stream get DEAD_LETTERS 2"), "{}", found[0].1);
    }
}
