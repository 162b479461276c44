//! One message of a history: the events of one decision, its place, and the hash of what came before.
//!
//! A server that loses or repeats part of a stream without a word (one flipped bit and a kill -9 did that to a
//! replica-1 stream) breaks the index or the chain, so a reader notices before it acts.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{contracts::TypeName, time::Timestamp};

/// SHA-256 of a record's stored bytes, in hex.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordHash([u8; 32]);

impl RecordHash {
    /// The hash of the bytes as they are stored.
    #[must_use]
    pub fn of(stored: &[u8]) -> Self {
        Self(Sha256::digest(stored).into())
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for RecordHash {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)?;
        Ok(Self(hash))
    }
}

impl From<RecordHash> for String {
    fn from(hash: RecordHash) -> Self {
        hash.to_string()
    }
}

/// The body of one history message: what one decision led to, all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<E> {
    /// The types of the events joined with `+`; stands first so that the stream is legible.
    #[serde(rename = "type")]
    pub types: String,
    /// 0, 1, 2, … without a gap.
    pub index: u64,
    /// Where the workflow stands after it.
    pub status: String,
    /// The time that the decision was given.
    pub at: Timestamp,
    /// What happened, in order; at least one.
    pub events: Vec<E>,
    /// Hash of the record before; none for the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<RecordHash>,
}

impl<E: TypeName + Serialize> Record<E> {
    /// The bytes that are stored.
    ///
    /// # Errors
    /// When an event cannot be written as JSON, which is a defect of its type.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// The types of some events joined with `+`.
pub fn joined_types<E: TypeName>(events: &[E]) -> String {
    events.iter().map(TypeName::type_name).collect::<Vec<_>>().join("+")
}

/// Where a history ends: what the next record must continue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainEnd {
    /// How many records there are; the next one's index.
    pub next_index: u64,
    /// Hash of the last one; none when there is none.
    pub hash: Option<RecordHash>,
}

/// A history that cannot be trusted: nothing may be done for this workflow until a person has looked at it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenHistory {
    /// The bytes are not a record, or hold an event that this version does not know.
    #[error("record {index} cannot be read: {reason}")]
    Unreadable {
        /// Its expected place.
        index: u64,
        /// What the parser said.
        reason: String,
    },
    /// A record is missing or stands twice.
    #[error("record {expected} expected, but the next one says that it is {found}")]
    Gap {
        /// The place after the last good record.
        expected: u64,
        /// The place that the next record claims.
        found: u64,
    },
    /// Records that were known to be stored are not there any more.
    #[error("record {known} was stored, but now {found} is the last one: the stream has lost records")]
    Shrunk {
        /// The sequence that was known to be the last.
        known: u64,
        /// The sequence that is the last now.
        found: u64,
    },
    /// A record does not follow the one before it.
    #[error(
        "record {index} does not continue the record before it: it names {named:?}, the record before is {actual:?}"
    )]
    BrokenChain {
        /// Its place.
        index: u64,
        /// The predecessor that it names.
        named: Option<RecordHash>,
        /// The predecessor that there is.
        actual: Option<RecordHash>,
    },
}

impl ChainEnd {
    /// Read the next record and check that it continues this chain; the chain then ends with it.
    ///
    /// # Errors
    /// [`BrokenHistory`] when it cannot be read, leaves a gap or does not name its predecessor.
    pub fn read_next<E: DeserializeOwned>(&mut self, stored: &[u8]) -> Result<Record<E>, BrokenHistory> {
        let record: Record<E> = serde_json::from_slice(stored)
            .map_err(|error| BrokenHistory::Unreadable { index: self.next_index, reason: error.to_string() })?;
        if record.index != self.next_index {
            return Err(BrokenHistory::Gap { expected: self.next_index, found: record.index });
        }
        if record.previous != self.hash {
            return Err(BrokenHistory::BrokenChain {
                index: record.index,
                named: record.previous,
                actual: self.hash.clone(),
            });
        }
        self.extend(stored);
        Ok(record)
    }

    /// The chain goes on with these bytes, which are known to continue it.
    pub fn extend(&mut self, stored: &[u8]) {
        self.next_index += 1;
        self.hash = Some(RecordHash::of(stored));
    }
}
