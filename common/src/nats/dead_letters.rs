//! What cannot be handled is parked with its reason, never dropped: an operator reads it, mends the cause and drives
//! it again. What the operator did about a letter is one record, which stays.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderName, jetstream};
use bytes::Bytes;

use super::{
    append::{AppendError, Outgoing, append},
    connect::Nats,
};
use crate::{
    contracts::{TypeName as _, dead_letter::Settlement},
    headers,
    streams::StreamName,
    subject::{DeadLetterArea, Subject},
};

/// Parking is the last resort of a message that is then acked, so it is tried for longer than a leader change takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes of the original's own headers that are kept; ours together are a few hundred.
const MOST_ORIGINAL_HEADERS: usize = 16 * 1024;

/// Kept free for the headers of a parked message: the original's, its subject and the reason (at most 1,000 characters of
/// at most 4 bytes each), and a handful of short ones.
const ROOM_FOR_HEADERS: usize = MOST_ORIGINAL_HEADERS + 2 * 4_000 + 4 * 1024;

/// Store a message that could not be handled, with its reason and where it came from. The caller acks it afterwards.
///
/// A message so large that its reason does not fit beside it is cut, and the reason says so: it can be looked at, and the
/// queue that it came from goes on.
///
/// # Errors
/// [`AppendError`] when it could not be stored: the caller must not ack, it will come again.
pub async fn park(
    nats: &Nats,
    area: DeadLetterArea,
    message: &jetstream::Message,
    reason: &str,
) -> Result<u64, AppendError> {
    let (mut parked, all_headers_kept) = kept_headers(message.headers.as_ref());
    parked.insert(headers::ORIGINAL_SUBJECT, one_line(&message.subject).as_str());
    if let Ok(info) = message.info() {
        parked.insert(headers::ORIGINAL_STREAM, info.stream);
        parked.insert(headers::ORIGINAL_SEQUENCE, info.stream_sequence.to_string());
        parked.insert(headers::DELIVERIES, info.delivered.to_string());
    }
    let most = nats.client.max_payload().saturating_sub(ROOM_FOR_HEADERS);
    let whole = message.payload.len() <= most && all_headers_kept;
    let (payload, reason) = cut(message.payload.clone(), one_line(reason), most);
    if !whole {
        parked.insert(headers::CUT, "true");
    }
    parked.insert(headers::REASON, reason.as_str());
    let outgoing = Outgoing { subject: Subject::DeadLetter(area), headers: parked, payload, expected: None };
    crate::crash_point!("dead_letters.before_append");
    let sequence = append(nats, StreamName::DeadLetters, outgoing, PATIENCE).await?;
    crate::crash_point!("dead_letters.after_append");
    metrics::counter!("dead_letters_total", "area" => area.as_str()).increment(1);
    tracing::error!(
        area = area.as_str(),
        subject = %message.subject,
        reason,
        dead_letter = sequence,
        "parked a message that could not be handled: look at it with `deploy dead-letters show`"
    );
    Ok(sequence)
}

/// Store a letter about something that no message has brought: what an operator begins by hand, and about which subject.
///
/// # Errors
/// [`AppendError`] when it could not be stored.
pub async fn note(
    nats: &Nats,
    area: DeadLetterArea,
    about: &Subject,
    by: &str,
    reason: &str,
) -> Result<u64, AppendError> {
    let mut headers = HeaderMap::new();
    headers.insert(headers::ORIGINAL_SUBJECT, about.to_string());
    headers.insert(headers::SENDER, one_line(by).as_str());
    headers.insert(headers::REASON, one_line(reason).as_str());
    let outgoing = Outgoing { subject: Subject::DeadLetter(area), headers, payload: Bytes::new(), expected: None };
    append(nats, StreamName::DeadLetters, outgoing, PATIENCE).await
}

/// Record what an operator did about a letter: the first one counts, and it stays when the letter has gone.
///
/// # Errors
/// [`AppendError::Conflict`] when something was recorded about this letter before; the others when it could not be stored.
pub async fn settle(nats: &Nats, letter: u64, settlement: &Settlement) -> Result<u64, AppendError> {
    let subject = Subject::LetterSettled(letter);
    let payload = serde_json::to_vec(settlement).map_err(|error| AppendError::Refused {
        subject: subject.to_string(),
        code: 0,
        reason: format!("the record cannot be written as JSON: {error}"),
    })?;
    let mut headers = HeaderMap::new();
    headers.insert(headers::TYPE, settlement.act.type_name());
    headers.insert(headers::SENDER, one_line(&settlement.by).as_str());
    // The stream's maximum age is for letters.
    headers.insert(async_nats::header::NATS_MESSAGE_TTL, "never");
    let outgoing = Outgoing { subject, headers, payload: payload.into(), expected: Some(0) };
    append(nats, StreamName::DeadLetters, outgoing, PATIENCE).await
}

/// The original's headers as far as they are its own and there is room, and whether all of them are kept. Those that the
/// server gave it or obeyed when it was stored would be obeyed again.
fn kept_headers(original: Option<&HeaderMap>) -> (HeaderMap, bool) {
    let (mut kept, mut bytes, mut all) = (HeaderMap::new(), 0, true);
    for (name, values) in original.into_iter().flat_map(HeaderMap::iter) {
        if is_the_server_s(name) || OURS.contains(name) {
            continue;
        }
        let name = if *name == headers::RECORD_ID { &headers::ORIGINAL_RECORD_ID } else { name };
        let name_bytes = AsRef::<str>::as_ref(name).len();
        for value in values {
            let line = one_line(value.as_str());
            all &= line == value.as_str();
            bytes += name_bytes + line.len() + "\r\n: ".len();
            if bytes > MOST_ORIGINAL_HEADERS {
                return (kept, false);
            }
            kept.append(name.clone(), line.as_str());
        }
    }
    (kept, all)
}

/// Headers that say something to the server, or were written by it.
fn is_the_server_s(name: &HeaderName) -> bool {
    AsRef::<str>::as_ref(name).get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-"))
}

/// Headers of a letter that are not the original's. A letter that came from a redriven letter gets its own.
const OURS: [HeaderName; 8] = [
    headers::ORIGINAL_SUBJECT,
    headers::ORIGINAL_STREAM,
    headers::ORIGINAL_SEQUENCE,
    headers::ORIGINAL_RECORD_ID,
    headers::DELIVERIES,
    headers::CUT,
    headers::REASON,
    headers::REDRIVEN_FROM,
];

/// The headers that a letter's message had when it was parked, as far as they are its own.
#[must_use]
pub fn original_headers(letter: &HeaderMap) -> HeaderMap {
    let mut original = HeaderMap::new();
    for (name, values) in letter.iter() {
        if !is_the_server_s(name) && !OURS.contains(name) && *name != headers::RECORD_ID {
            values.iter().for_each(|value| original.append(name.clone(), value.clone()));
        }
    }
    original
}

/// As much of a message as there is room for; the reason tells what is missing.
fn cut(payload: Bytes, reason: String, most: usize) -> (Bytes, String) {
    if payload.len() <= most {
        return (payload, reason);
    }
    let reason = format!("{reason} (only the first {most} of its {} bytes are kept)", payload.len());
    (payload.slice(..most), reason)
}

/// A header is one line of visible text.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(1_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_fit_is_cut_and_the_reason_says_so() {
        let payload = Bytes::from_static(b"0123456789");
        assert_eq!(cut(payload.clone(), "why".into(), 10), (payload.clone(), "why".into()));
        let (kept, reason) = cut(payload, "why".into(), 4);
        assert_eq!(kept, Bytes::from_static(b"0123"));
        assert_eq!(reason, "why (only the first 4 of its 10 bytes are kept)");
    }

    #[test]
    fn a_letter_gives_back_the_headers_that_its_message_had() {
        let mut original = HeaderMap::new();
        for (name, value) in [
            (headers::TYPE, "start"),
            (headers::ANSWER_TO, "_INBOX.a"),
            (async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0"),
            (HeaderName::from_static("nats-rollup"), "all"),
            (headers::RECORD_ID, "the first"),
            (headers::REDRIVEN_FROM, "3"),
        ] {
            original.append(name, value);
        }
        let (mut letter, all) = kept_headers(Some(&original));
        assert!(all);
        assert_eq!(letter.get(headers::ORIGINAL_RECORD_ID).map(|id| id.as_str()), Some("the first"));
        letter.insert(headers::RECORD_ID, "the letter's");
        letter.insert(headers::REASON, "why");
        let again = original_headers(&letter);
        let names: std::collections::BTreeSet<&str> = again.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["Answer-To", "Checkout-Type"].into());
    }

    #[test]
    fn headers_that_do_not_fit_are_not_kept_and_it_is_told() {
        let mut original = HeaderMap::new();
        (0..40).for_each(|_| original.append("X-Large", "x".repeat(900)));
        let (kept, all) = kept_headers(Some(&original));
        assert!(!all);
        assert!((1..20).contains(&kept.get_all("X-Large").count()));
        let mut long = HeaderMap::new();
        long.append("X-Long", "x".repeat(2_000));
        assert!(!kept_headers(Some(&long)).1, "a value that is cut is not the original's any more");
    }

    #[test]
    fn a_header_is_one_line_of_at_most_a_thousand_characters() {
        assert_eq!(one_line("a\r\nb\0c"), "a  b c");
        assert_eq!(one_line(&"☃".repeat(2_000)).chars().count(), 1_000);
    }
}
