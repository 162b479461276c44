//! One message of a history: the events of one decision, its place, and the hash of what came before.
//!
//! A server that loses or repeats part of a stream without a word (one flipped bit and a kill -9 did that to a
//! replica-1 stream) breaks the index or the chain, so a reader notices before it acts.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Error as _, Visitor},
    ser::SerializeMap as _,
};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use crate::{
    contracts::{TypeName, Versioned},
    time::Timestamp,
};

/// SHA-256 of a record's stored bytes, in hex.
#[derive(Clone, PartialEq, Eq)]
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

impl Serialize for RecordHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut hex = [0; 64];
        hex::encode_to_slice(self.0, &mut hex).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&hex).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for RecordHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Every record has one: read where it lies, without a copy of the text.
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = RecordHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SHA-256 in hex")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RecordHash, E> {
                let mut hash = [0; 32];
                hex::decode_to_slice(text, &mut hash).map_err(E::custom)?;
                Ok(RecordHash(hash))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

/// The body of one history message: what one decision led to, all of it or nothing.
///
/// In memory it always has today's shape: a record of an older version is brought up to date when it is read, and what is
/// written says by which version (`version`; absent means 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<E> {
    /// The types of the events joined with `+`; stands first so that the stream is legible.
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
    pub previous: Option<RecordHash>,
}

/// A record as it is stored, by any version; for those who look at it without understanding its events, which are JSON values
/// to them or bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredRecord<Events = Vec<Value>> {
    /// The types of the events joined with `+`.
    #[serde(rename = "type")]
    pub types: String,
    /// The version of the kind's events that wrote it.
    #[serde(default = "first_version")]
    pub version: u32,
    /// 0, 1, 2, … without a gap.
    pub index: u64,
    /// Where the workflow stood after it.
    pub status: String,
    /// The time that the decision was given.
    pub at: Timestamp,
    /// What happened, in the shape of its version.
    pub events: Events,
    /// Hash of the record before; none for the first.
    #[serde(default)]
    pub previous: Option<RecordHash>,
}

/// The version of records that name none: there was only one when they were written.
const FIRST_VERSION: u32 = 1;

fn first_version() -> u32 {
    FIRST_VERSION
}

impl<E: Versioned> Record<E> {
    /// Read a record as it is stored, of this version or an older one.
    ///
    /// Events of this version are read from the bytes at once; only older ones take the way over a [`Value`], which upcasters
    /// change. That way took half of the time of reading a record.
    ///
    /// # Errors
    /// When these bytes are no record, a newer version has written them, or they hold an event that this version does not
    /// know.
    pub fn from_bytes(stored: &[u8]) -> serde_json::Result<Self> {
        let stored: StoredRecord<&RawValue> = serde_json::from_slice(stored)?;
        let StoredRecord { types, version, index, status, at, events, previous } = stored;
        if version > E::VERSION {
            let known = E::VERSION;
            return Err(serde_json::Error::custom(format!("it has version {version}, and this service knows {known}")));
        }
        let events =
            if version == E::VERSION { serde_json::from_str(events.get())? } else { up_to_date(version, events)? };
        Ok(Self { types, index, status, at, events, previous })
    }
}

fn up_to_date<E: Versioned>(version: u32, events: &RawValue) -> serde_json::Result<Vec<E>> {
    let events: Vec<Value> = serde_json::from_str(events.get())?;
    let up_to_date = |mut event: Value| {
        (version..E::VERSION).for_each(|from| E::upcast(from, &mut event));
        serde_json::from_value(event)
    };
    events.into_iter().map(up_to_date).collect()
}

impl<E: Versioned + Serialize> Serialize for Record<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.types)?;
        if E::VERSION > FIRST_VERSION {
            map.serialize_entry("version", &E::VERSION)?;
        }
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("at", &self.at)?;
        map.serialize_entry("events", &self.events)?;
        if let Some(previous) = &self.previous {
            map.serialize_entry("previous", previous)?;
        }
        map.end()
    }
}

impl<E: TypeName + Versioned + Serialize> Record<E> {
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
    /// A record that a newer version wrote, in a shape that this one does not know. Nothing is wrong with it.
    #[error("record {index} ({types}) needs a newer version of this service: {reason}")]
    NeedsNewerVersion {
        /// Its place.
        index: u64,
        /// The types of its events, as it names them.
        types: String,
        /// What the parser said.
        reason: String,
    },
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
    pub fn read_next<E: Versioned>(&mut self, stored: &[u8]) -> Result<Record<E>, BrokenHistory> {
        let record = Record::from_bytes(stored).map_err(|error| self.unreadable::<E>(stored, &error))?;
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

    /// Why bytes are no record of ours: damaged, or sound, in its place and of a newer version.
    fn unreadable<E: Versioned>(&self, stored: &[u8], error: &serde_json::Error) -> BrokenHistory {
        let (index, reason) = (self.next_index, error.to_string());
        match serde_json::from_slice::<StoredRecord>(stored) {
            Ok(record) if record.version > E::VERSION && record.index == index && record.previous == self.hash => {
                BrokenHistory::NeedsNewerVersion { index, types: record.types, reason }
            }
            Ok(_) | Err(_) => BrokenHistory::Unreadable { index, reason },
        }
    }

    /// The chain goes on with these bytes, which are known to continue it.
    pub fn extend(&mut self, stored: &[u8]) {
        self.next_index += 1;
        self.hash = Some(RecordHash::of(stored));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Version 1 said `cents`, version 2 says `amount`, version 3 says in what.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Event {
        Paid { amount: u64, currency: String },
    }

    impl TypeName for Event {
        fn type_name(&self) -> &'static str {
            "paid"
        }
    }

    impl Versioned for Event {
        const VERSION: u32 = 3;

        fn upcast(from: u32, event: &mut Value) {
            match from {
                1 => event["amount"] = event["cents"].take(),
                2 => event["currency"] = json!("eur"),
                _ => {}
            }
        }
    }

    fn read(version: Option<u32>, event: &Value) -> Result<Record<Event>, BrokenHistory> {
        let mut record = json!({
            "type": "paid", "index": 0, "status": "paid", "at": "2026-01-01T00:00:00Z", "events": [event],
        });
        if let Some(version) = version {
            record["version"] = json!(version);
        }
        ChainEnd::default().read_next(record.to_string().as_bytes())
    }

    fn paid() -> Event {
        Event::Paid { amount: 5, currency: "eur".into() }
    }

    #[test]
    fn a_record_of_each_older_version_is_brought_up_to_date_step_by_step() {
        for (version, event) in [
            (None, json!({ "type": "paid", "cents": 5 })),
            (Some(1), json!({ "type": "paid", "cents": 5 })),
            (Some(2), json!({ "type": "paid", "amount": 5 })),
            (Some(3), json!({ "type": "paid", "amount": 5, "currency": "eur" })),
        ] {
            assert_eq!(read(version, &event).expect("a readable record").events, [paid()], "{version:?}");
        }
    }

    #[test]
    fn what_is_written_says_its_version_and_reads_back() {
        let record = read(Some(2), &json!({ "type": "paid", "amount": 5 })).expect("a readable record");
        let bytes = record.to_bytes().expect("writable");
        let text = String::from_utf8(bytes.clone()).expect("JSON");
        assert!(text.starts_with(r#"{"type":"paid","version":3,"index":0,"#), "{text}");
        assert_eq!(ChainEnd::default().read_next::<Event>(&bytes), Ok(record));
    }

    #[test]
    fn a_newer_version_is_not_mistaken_for_damage() {
        let newer = read(Some(4), &json!({ "type": "teleported" }));
        assert!(matches!(newer, Err(BrokenHistory::NeedsNewerVersion { index: 0, .. })), "{newer:?}");
        let unknown = read(Some(3), &json!({ "type": "teleported" }));
        assert!(matches!(unknown, Err(BrokenHistory::Unreadable { index: 0, .. })), "{unknown:?}");
    }
}
