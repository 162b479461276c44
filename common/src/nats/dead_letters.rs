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

/// Store a message that could not be handled, with its reason and where it came from. The caller acks it afterwards.
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
            parked.insert(name, value.clone());
        }
    }
    parked.insert(headers::ORIGINAL_SUBJECT, one_line(original_subject).as_str());
    parked.insert(headers::REASON, one_line(reason).as_str());
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

/// A header is one line of visible text.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(1_000).collect()
}
