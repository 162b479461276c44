//! What the operator pages are made from: the newest messages of two streams, folded.
//!
//! Nothing is kept: each page view reads a bounded stretch of the streams and answers from that.

use std::collections::HashSet;

use common::{
    contracts::{
        checkout::{CheckoutEvent, CheckoutStatus},
        refund::RefundEvent,
    },
    headers,
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{
        Nats,
        read::{self, ReadError, Stored},
    },
    record::Record,
    streams::StreamName,
    subject::Subject,
    time::Timestamp,
};

use crate::catalogue::Article;

/// How many of the newest history messages are looked at: a hundred checkouts or so, read in one request.
const HISTORY_READ: u64 = 500;

/// How many of the newest dead letters are shown.
const DEAD_LETTERS_READ: u64 = 50;

/// What an operator sees first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Overview {
    /// How many of the newest history messages were read for the numbers below.
    pub(crate) messages_read: u64,
    /// How many there are altogether.
    pub(crate) messages_stored: u64,
    /// The checkouts in what was read, newest first.
    pub(crate) latest: Vec<LatestCheckout>,
    /// What a person should look at, newest first.
    pub(crate) attention: Vec<Attention>,
    /// Every article.
    pub(crate) articles: Vec<Article>,
}

/// One checkout in the operator's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LatestCheckout {
    /// Which checkout.
    pub(crate) id: WorkflowId,
    /// Where it stands.
    pub(crate) status: CheckoutStatus,
    /// What its newest record says that happened, such as `stock_sold`.
    pub(crate) last_happened: String,
    /// When that was stored.
    pub(crate) at: Timestamp,
}

/// Something that the system could not settle by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attention {
    /// What it is, such as `dead letter: webhook`.
    pub(crate) what: String,
    /// Which checkout it is about, where that is known.
    pub(crate) checkout: Option<WorkflowId>,
    /// Why it needs a person.
    pub(crate) reason: String,
    /// Since when.
    pub(crate) at: Timestamp,
}

impl Overview {
    /// How many of the checkouts that were read are in a state.
    pub(crate) fn count(&self, status: CheckoutStatus) -> usize {
        self.latest.iter().filter(|checkout| checkout.status == status).count()
    }

    /// Read the newest messages.
    ///
    /// # Errors
    /// When the streams cannot be read.
    pub(crate) async fn read(nats: &Nats, articles: Vec<Article>) -> Result<Self, ReadError> {
        let (mut history, mut messages_stored) = (Vec::new(), 0);
        for part in nats.shards.streams(StreamName::History) {
            let (newest, stored) = newest(nats, part, HISTORY_READ, "history.>").await?;
            history.extend(newest);
            messages_stored += stored;
        }
        // What different parts hold has no common order but time.
        history.sort_by_key(|stored| stored.time);
        let (mut letters, _) = newest(nats, StreamName::DeadLetters, DEAD_LETTERS_READ, "deadletter.>").await?;
        leave_out_settled(&mut letters);
        Ok(Self { messages_stored, articles, ..Self::of_messages(&history, &letters) })
    }

    /// Fold messages, oldest first, into what they say.
    fn of_messages(history: &[Stored], letters: &[Stored]) -> Self {
        let mut attention: Vec<_> = history.iter().filter_map(stuck_refund).chain(letters.iter().map(letter)).collect();
        attention.sort_by_key(|item| std::cmp::Reverse(item.at));
        Self {
            messages_read: history.len().try_into().unwrap_or(u64::MAX),
            latest: latest(history),
            attention,
            ..Self::default()
        }
    }
}

/// The newest messages of a stream, oldest first, and how many messages it has.
async fn newest(nats: &Nats, stream: StreamName, count: u64, filter: &str) -> Result<(Vec<Stored>, u64), ReadError> {
    let failed = |reason: String| ReadError { stream: stream.as_str(), reason };
    let found = nats.jetstream.get_stream(stream.as_str()).await.map_err(|error| failed(error.to_string()))?;
    let state = &found.cached_info().state;
    let from = state.last_sequence.saturating_sub(count - 1);
    let batch = read::stretch(nats, stream, from, usize::try_from(count).unwrap_or(usize::MAX), filter).await?;
    Ok((batch.messages, state.messages))
}

/// Each checkout by its newest record, newest first.
fn latest(history: &[Stored]) -> Vec<LatestCheckout> {
    let mut seen = HashSet::new();
    let newest_first = history.iter().rev();
    newest_first.filter_map(checkout_record).filter(|checkout| seen.insert(checkout.id)).collect()
}

fn checkout_record(stored: &Stored) -> Option<LatestCheckout> {
    let workflow = history_of(stored)?;
    let status = header(stored, headers::STATUS)?;
    Some(LatestCheckout {
        id: (workflow.kind == WorkflowKind::Checkout).then_some(workflow.id)?,
        status: CheckoutStatus::ALL.into_iter().find(|known| known.as_str() == status)?,
        last_happened: header(stored, headers::TYPE).unwrap_or_default().to_owned(),
        at: stored.time,
    })
}

/// A record that says that a refund needs a person.
fn stuck_refund(stored: &Stored) -> Option<Attention> {
    let workflow = history_of(stored)?;
    let (checkout, reason) = match workflow.kind {
        WorkflowKind::Checkout => (Some(workflow.id), checkout_refund_reason(&stored.payload)?),
        WorkflowKind::Refund => (None, format!("refund {}: {}", workflow.id, hand_refund_reason(&stored.payload)?)),
    };
    Some(Attention { what: "refund".into(), checkout, reason, at: stored.time })
}

fn checkout_refund_reason(payload: &[u8]) -> Option<String> {
    let record: Record<CheckoutEvent> = Record::from_bytes(payload).ok()?;
    record.events.into_iter().find_map(|event| match event {
        CheckoutEvent::RefundNeedsAttention { reason } => Some(reason),
        _ => None,
    })
}

fn hand_refund_reason(payload: &[u8]) -> Option<String> {
    let record: Record<RefundEvent> = Record::from_bytes(payload).ok()?;
    record.events.into_iter().find_map(|event| match event {
        RefundEvent::RefundNeedsAttention { reason } => Some(reason),
        _ => None,
    })
}

/// What an operator has seen to needs nobody's attention; the records of that are no letters themselves.
fn leave_out_settled(letters: &mut Vec<Stored>) {
    let settled_letter = |stored: &Stored| match stored.subject.parse() {
        Ok(Subject::LetterSettled(letter)) => Some(letter),
        _ => None,
    };
    let settled: HashSet<u64> = letters.iter().filter_map(settled_letter).collect();
    letters.retain(|stored| settled_letter(stored).is_none() && !settled.contains(&stored.sequence));
}

fn letter(stored: &Stored) -> Attention {
    let original = header(stored, headers::ORIGINAL_SUBJECT).unwrap_or_default();
    let area = stored.subject.rsplit('.').next().unwrap_or_default();
    let reason = header(stored, headers::REASON).unwrap_or("no reason was recorded");
    Attention {
        what: format!("dead letter {}: {area}", stored.sequence),
        checkout: original.parse().ok().and_then(|subject: Subject| checkout_of(&subject)),
        reason: format!("{reason} (from {original})"),
        at: stored.time,
    }
}

fn checkout_of(subject: &Subject) -> Option<WorkflowId> {
    match subject {
        Subject::Command(workflow) | Subject::History(workflow) | Subject::Due(workflow) => {
            (workflow.kind == WorkflowKind::Checkout).then_some(workflow.id)
        }
        _ => None,
    }
}

fn history_of(stored: &Stored) -> Option<WorkflowRef> {
    match stored.subject.parse() {
        Ok(Subject::History(workflow)) => Some(workflow),
        _ => None,
    }
}

fn header(stored: &Stored, name: async_nats::HeaderName) -> Option<&str> {
    stored.headers.get(name).map(|value| value.as_str())
}

/// One stored record of a history, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    /// Its sequence in the stream.
    pub(crate) sequence: u64,
    /// When the server stored it.
    pub(crate) stored_at: Timestamp,
    /// What happened, such as `payment_received+stock_sold`.
    pub(crate) types: String,
    /// Where the workflow stood after it.
    pub(crate) status: String,
    /// Its body, indented; as it is if it is not JSON.
    pub(crate) json: String,
}

impl From<&Stored> for StoredRecord {
    fn from(stored: &Stored) -> Self {
        let body = String::from_utf8_lossy(&stored.payload);
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
        Self {
            sequence: stored.sequence,
            stored_at: stored.time,
            types: header(stored, headers::TYPE).unwrap_or_default().to_owned(),
            status: header(stored, headers::STATUS).unwrap_or_default().to_owned(),
            json: if is_json { indented(&body) } else { body.into_owned() },
        }
    }
}

/// JSON with line ends and indentation; unlike parsing and writing it again, this keeps every character and the order.
fn indented(json: &str) -> String {
    let (mut text, mut depth, mut in_string, mut escaped) = (String::with_capacity(json.len() * 2), 0, false, false);
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    for character in json.chars() {
        match character {
            _ if in_string => {
                text.push(character);
                in_string = escaped || character != '"';
                escaped = !escaped && character == '\\';
            }
            '{' | '[' => {
                depth += 1;
                text.push(character);
                line(&mut text, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(character);
            }
            ',' => {
                text.push(character);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ if character.is_whitespace() => {}
            _ => {
                in_string = character == '"';
                text.push(character);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;
    use crate::pages::samples;

    fn stored(
        sequence: u64,
        subject: String,
        headers: &[(async_nats::HeaderName, &str)],
        payload: impl Into<bytes::Bytes>,
    ) -> Stored {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.clone(), *value);
        }
        let time = samples::at(i64::try_from(sequence).expect("small"));
        Stored { sequence, subject, time, headers: map, payload: payload.into() }
    }

    fn record(sequence: u64, id: WorkflowId, status: &str, types: &str) -> Stored {
        let subject = Subject::History(WorkflowRef { kind: WorkflowKind::Checkout, id }).to_string();
        stored(sequence, subject, &[(headers::STATUS, status), (headers::TYPE, types)], "{}")
    }

    #[test]
    fn each_checkout_is_counted_once_by_its_newest_record() {
        let (first, second) = (WorkflowId::random(), WorkflowId::random());
        let overview = Overview::of_messages(
            &[
                record(1, first, "reserving", "checkout_started"),
                record(2, second, "reserving", "checkout_started"),
                record(3, first, "paid", "stock_sold"),
            ],
            &[],
        );
        assert_eq!(overview.latest.iter().map(|checkout| checkout.id).collect::<Vec<_>>(), [first, second]);
        assert_eq!(overview.count(CheckoutStatus::Paid), 1);
        assert_eq!(overview.count(CheckoutStatus::Reserving), 1);
        assert_eq!((overview.messages_read, overview.attention.len()), (3, 0));
    }

    #[test]
    fn what_is_not_ours_or_unknown_is_left_out() {
        let strange = stored(1, "history.other.x".into(), &[(headers::STATUS, "paid")], "");
        let newer = record(2, WorkflowId::random(), "a_word_of_tomorrow", "x");
        assert_eq!(Overview::of_messages(&[strange, newer], &[]).latest, []);
    }

    #[test]
    fn a_refund_that_needs_a_person_is_listed() {
        let body = |events: &str| {
            format!(
                r#"{{"type":"refund_needs_attention","index":1,"status":"x","at":"{}","events":[{events}]}}"#,
                samples::START
            )
        };
        let needed = r#"{"type":"refund_needs_attention","reason":"closed account"}"#;
        let id = WorkflowId::random();
        let of = |kind| Subject::History(WorkflowRef { kind, id }).to_string();
        let overview = Overview::of_messages(
            &[
                stored(1, of(WorkflowKind::Checkout), &[], body(needed)),
                stored(2, of(WorkflowKind::Refund), &[], body(needed)),
                stored(3, of(WorkflowKind::Checkout), &[], body(r#"{"type":"stock_sold"}"#)),
            ],
            &[],
        );
        let [by_hand, late] = &overview.attention[..] else { panic!("two, newest first: {overview:?}") };
        assert_eq!((late.checkout, late.reason.as_str()), (Some(id), "closed account"));
        assert_eq!((by_hand.checkout, by_hand.reason.clone()), (None, format!("refund {id}: closed account")));
    }

    #[test]
    fn a_dead_letter_names_its_reason_and_its_checkout() {
        let id = WorkflowId::random();
        let original = Subject::Command(WorkflowRef { kind: WorkflowKind::Checkout, id }).to_string();
        let parked = [(headers::REASON, "not JSON"), (headers::ORIGINAL_SUBJECT, original.as_str())];
        let overview = Overview::of_messages(&[], &[stored(7, "deadletter.command".into(), &parked, "x")]);
        let [letter] = &overview.attention[..] else { panic!("one: {overview:?}") };
        assert_eq!((letter.what.as_str(), letter.checkout), ("dead letter 7: command", Some(id)));
        assert!(letter.reason.starts_with("not JSON (from command.checkout."), "{letter:?}");
    }

    #[test]
    fn a_dead_letter_that_an_operator_has_seen_to_needs_no_attention() {
        let mut letters = vec![
            stored(7, "deadletter.command".into(), &[], "x"),
            stored(8, "deadletter.command".into(), &[], "x"),
            stored(9, "deadletter.settled.7".into(), &[], "{}"),
        ];
        leave_out_settled(&mut letters);
        assert_eq!(letters.iter().map(|letter| letter.sequence).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn a_record_is_shown_indented_and_a_broken_one_as_it_is() {
        let shown = |payload: &'static str| StoredRecord::from(&stored(1, "s".into(), &[], payload)).json;
        assert_eq!(shown(r#"{"a":1}"#), "{\n  \"a\": 1\n}");
        let inside_a_string = r#"{,:\\\"]"#;
        assert_eq!(
            shown(r#"{"type":"x","a":["{,:\\\"]"]}"#),
            format!("{{\n  \"type\": \"x\",\n  \"a\": [\n    \"{inside_a_string}\"\n  ]\n}}")
        );
        assert_eq!(shown("not JSON"), "not JSON");
    }
}
