//! What cannot be handled is parked with its reason, never dropped: an operator reads it, mends the cause and drives
//! it again.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;

use super::{
    append::{AppendError, Outgoing, append},
    connect::Nats,
};
use crate::{
    headers,
    streams::StreamName,
    subject::{DeadLetterArea, Subject},
};

/// Parking is the last resort of a message that is then acked, so it is tried for longer than a leader change takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// Kept free for the headers of a parked message: five of at most 1,000 characters of at most 4 bytes, and the journal's
/// own.
const ROOM_FOR_HEADERS: usize = 24 * 1024;

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
    original_subject: &str,
    original_headers: Option<&HeaderMap>,
    payload: Bytes,
    reason: &str,
) -> Result<u64, AppendError> {
    let mut parked = HeaderMap::new();
    for name in [headers::TYPE, headers::SENDER, headers::TRACE_PARENT] {
        if let Some(value) = original_headers.and_then(|headers| headers.get(name)) {
            parked.insert(name, one_line(value.as_str()).as_str());
        }
    }
    parked.insert(headers::ORIGINAL_SUBJECT, one_line(original_subject).as_str());
    let most = nats.client.max_payload().saturating_sub(ROOM_FOR_HEADERS);
    let (payload, reason) = cut(payload, one_line(reason), most);
    parked.insert(headers::REASON, reason.as_str());
    let outgoing = Outgoing { subject: Subject::DeadLetter(area), headers: parked, payload, expected: None };
    let sequence = append(nats, StreamName::DeadLetters, outgoing, PATIENCE).await?;
    metrics::counter!("dead_letters_total", "area" => area.as_str()).increment(1);
    tracing::error!(
        area = area.as_str(),
        subject = original_subject,
        reason,
        dead_letter = sequence,
        "parked a message that could not be handled: look at stream DEAD_LETTERS"
    );
    Ok(sequence)
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
    fn a_header_is_one_line_of_at_most_a_thousand_characters() {
        assert_eq!(one_line("a\r\nb\0c"), "a  b c");
        assert_eq!(one_line(&"☃".repeat(2_000)).chars().count(), 1_000);
    }
}
