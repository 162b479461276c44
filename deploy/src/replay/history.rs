//! One history as it is stored, and as a line of a file.

use bytes::Bytes;
use common::{headers, ids::WorkflowRef, nats::read::Stored, subject::Subject};
use serde::{Deserialize, Serialize};

/// A whole history, oldest record first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredHistory {
    pub(super) workflow: WorkflowRef,
    pub(super) records: Vec<StoredBytes>,
}

/// A record, byte for byte, and what its headers say is owed after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredBytes {
    pub(super) sequence: u64,
    pub(super) payload: Bytes,
    pub(super) headers: OwedHeaders,
}

/// What a record's headers say is owed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct OwedHeaders {
    /// `run`, `wait` or `done`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) next: Option<String>,
    /// Until when it waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) wait_until: Option<String>,
}

impl From<Stored> for StoredBytes {
    fn from(stored: Stored) -> Self {
        let header = |name: async_nats::HeaderName| stored.headers.get(name).map(|value| value.as_str().to_owned());
        let headers = OwedHeaders { next: header(headers::NEXT), wait_until: header(headers::WAIT_UNTIL) };
        Self { sequence: stored.sequence, payload: stored.payload, headers }
    }
}

/// One line of a file of histories.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    subject: String,
    sequence: u64,
    #[serde(flatten)]
    headers: OwedHeaders,
    /// The record's bytes as text; they are what the hash chain is about, so they are not parsed here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    record: Option<String>,
    /// The same in hex, when a damaged record is no text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    record_hex: Option<String>,
}

impl Line {
    pub(super) fn of(workflow: WorkflowRef, stored: &StoredBytes) -> Self {
        let record = std::str::from_utf8(&stored.payload).ok().map(str::to_owned);
        let record_hex = record.is_none().then(|| hex::encode(&stored.payload));
        let subject = Subject::History(workflow).to_string();
        Self { subject, sequence: stored.sequence, headers: stored.headers.clone(), record, record_hex }
    }

    /// Whose record it is, and the record.
    ///
    /// # Errors
    /// Says what is wrong with the line.
    pub(super) fn read(self) -> Result<(WorkflowRef, StoredBytes), String> {
        let Ok(Subject::History(workflow)) = self.subject.parse() else {
            return Err(format!("{:?} is not the subject of a history", self.subject));
        };
        let payload = match (self.record, self.record_hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(digits)) => hex::decode(digits).map_err(|error| format!("`record_hex` is not hex: {error}"))?,
            _ => return Err("it must have either `record` or `record_hex`".into()),
        };
        Ok((workflow, StoredBytes { sequence: self.sequence, payload: payload.into(), headers: self.headers }))
    }
}
