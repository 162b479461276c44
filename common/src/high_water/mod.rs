//! High-water marks: how far a stream is known to be stored, kept in a folder outside JetStream.
//!
//! A replica-1 stream can lose its end without a word (one flipped bit and a kill -9), use the lost sequence numbers
//! again, be restored from an old backup by mistake, or be deleted and made anew. Nothing inside of it tells. So every
//! service notes now and then the last message that was acked to it, and compares before it starts and while it runs.
//! A mark may lag behind: it only claims that the stream was *at least* so long.
//!
//! This file is pure; [`folder`] reads and writes the marks, [`guard`] asks the server.

pub mod folder;
pub mod guard;

use serde::{Deserialize, Serialize};

use crate::{record::RecordHash, time::Timestamp};

pub use folder::{FolderError, HighWaterFolder};
pub use guard::{HighWater, HighWaterOptions};

/// A message that was once the last one known of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// When the server stored it, to the millisecond.
    pub time: Timestamp,
    /// The hash of its body.
    pub hash: RecordHash,
}

/// How far one stream is known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The stream's name.
    pub stream: String,
    /// When the stream was created: another time means another stream of the same name.
    pub created: Timestamp,
    /// A sequence that was acked; 0 when nothing was stored yet.
    pub sequence: u64,
    /// The message at that sequence; none when it was gone already (a work queue removes what is done).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<Fingerprint>,
    /// When this was written down, for people.
    pub written_at: Timestamp,
}

/// What the stream's leader says of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When the stream was created.
    pub created: Timestamp,
    /// Its last sequence.
    pub last_sequence: u64,
    /// The message at the mark's sequence; none when there is none (any more).
    pub at_mark: Option<Fingerprint>,
}

/// How a stream contradicts its mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Another stream of the same name.
    #[error("it was created at {found}, but the stream that is known here was created at {marked}")]
    CreatedAnew {
        /// When the stream that is known was created.
        marked: Timestamp,
        /// When this one was.
        found: Timestamp,
    },
    /// Acked messages are gone.
    #[error("it ends at sequence {found}, but {marked} was stored before")]
    Shorter {
        /// A sequence that was acked.
        marked: u64,
        /// The last one now.
        found: u64,
    },
    /// It was shorter once, and its sequence numbers were used again.
    #[error(
        "sequence {sequence} holds a message of {found}, but one of {marked} was stored there before: numbers were used again"
    )]
    Replaced {
        /// Which sequence.
        sequence: u64,
        /// When the message that is known was stored.
        marked: Timestamp,
        /// When the one that is there now was stored.
        found: Timestamp,
    },
}

impl Mark {
    /// Whether a stream still holds what is known to be stored in it.
    ///
    /// A message that is not there any more proves nothing: it may have been done, erased or grown too old.
    ///
    /// # Errors
    /// [`Loss`], the first contradiction.
    pub fn check(&self, seen: &Seen) -> Result<(), Loss> {
        if seen.created != self.created {
            return Err(Loss::CreatedAnew { marked: self.created, found: seen.created });
        }
        if seen.last_sequence < self.sequence {
            return Err(Loss::Shorter { marked: self.sequence, found: seen.last_sequence });
        }
        match (&self.message, &seen.at_mark) {
            (Some(marked), Some(found)) if marked != found => {
                Err(Loss::Replaced { sequence: self.sequence, marked: marked.time, found: found.time })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number")
    }

    fn message(second: i64, body: &str) -> Fingerprint {
        Fingerprint { time: at(second), hash: RecordHash::of(body.as_bytes()) }
    }

    fn mark() -> Mark {
        Mark {
            stream: "HISTORY".into(),
            created: at(1),
            sequence: 7,
            message: Some(message(5, "a")),
            written_at: at(6),
        }
    }

    fn seen(last_sequence: u64, at_mark: Option<Fingerprint>) -> Seen {
        Seen { created: at(1), last_sequence, at_mark }
    }

    #[test]
    fn a_stream_that_has_grown_or_stood_still_is_sound() {
        assert_eq!(mark().check(&seen(7, Some(message(5, "a")))), Ok(()));
        assert_eq!(mark().check(&seen(900, Some(message(5, "a")))), Ok(()));
    }

    #[test]
    fn a_message_that_is_gone_proves_nothing() {
        assert_eq!(mark().check(&seen(7, None)), Ok(()));
        let of_a_queue = Mark { message: None, ..mark() };
        assert_eq!(of_a_queue.check(&seen(8, Some(message(5, "a")))), Ok(()));
    }

    #[test]
    fn a_stream_that_became_shorter_is_noticed() {
        assert_eq!(mark().check(&seen(6, None)), Err(Loss::Shorter { marked: 7, found: 6 }));
        assert_eq!(mark().check(&seen(0, None)), Err(Loss::Shorter { marked: 7, found: 0 }));
    }

    #[test]
    fn a_sequence_that_was_used_again_is_noticed_by_time_or_by_body() {
        let replaced = |found| Err(Loss::Replaced { sequence: 7, marked: at(5), found });
        assert_eq!(mark().check(&seen(9, Some(message(8, "a")))), replaced(at(8)));
        assert_eq!(mark().check(&seen(9, Some(message(5, "b")))), replaced(at(5)));
    }

    #[test]
    fn another_stream_of_the_same_name_is_noticed_although_it_is_longer() {
        let other = Seen { created: at(2), ..seen(900, None) };
        assert_eq!(mark().check(&other), Err(Loss::CreatedAnew { marked: at(1), found: at(2) }));
        let empty = Mark { sequence: 0, message: None, ..mark() };
        assert!(empty.check(&other).is_err(), "also when nothing was stored in the first one");
    }
}
