//! One guarded append: stored once, or refused because somebody else was first, whatever the network does.
//!
//! A publish whose ack did not come is *unknown*, not failed: the client may still send it after a reconnect, and a
//! server may have stored it. So every append names the sequence it expects, and after an unknown outcome we read
//! the last message of the subject from the leader and recognise our own by its id.

use std::time::Duration;

use async_nats::{HeaderMap, Request, RequestErrorKind, header};
use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    acked::Acked,
    connect::Nats,
    read::{LastAtLeader, ReadError, last_at_leader},
};
use crate::{
    headers,
    shards::{Shard, Shards},
    streams::StreamName,
    subject::Subject,
};

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where.
    pub subject: Subject,
    /// What a reader sees before the body; the guard and the id are added to them.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Bytes,
    /// The sequence of the last message on the subject (0: there is none). `None` only where storing twice is harmless.
    pub expected: Option<u64>,
}

/// Why a message is not stored, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else has written to the subject: read again, decide again.
    #[error("{subject} has moved on: sequence {expected} was expected, {found} is the last")]
    Conflict {
        /// Where.
        subject: String,
        /// What we believed to be the last sequence.
        expected: u64,
        /// What is the last sequence.
        found: u64,
    },
    /// The server cannot take it now (full, no leader, no connection). It may still be stored later.
    #[error("{subject} could not be written within {seconds} s: {reason}")]
    Unavailable {
        /// Where.
        subject: String,
        /// How long it was tried.
        seconds: u64,
        /// What was seen last.
        reason: String,
    },
    /// The server will never take it: a defect of ours or a stream that is not what it should be.
    #[error("{subject} was refused by the server: {reason} (error {code})")]
    Refused {
        /// Where.
        subject: String,
        /// JetStream's error code.
        code: u64,
        /// Its words.
        reason: String,
    },
}

/// Something else was stored first. The second one is what the loser of a race on a replicated stream gets.
const WRONG_LAST_SEQUENCE: [u64; 2] = [10071, 10164];
/// Another message with this expectation is under way; its outcome decides ours.
const IN_PROCESS: u64 = 10158;
/// Not stored, worth another try: no leader yet, too many requests, full, out of storage, JetStream warming up.
const TRY_AGAIN: [u64; 7] = [10163, 10167, 10077, 10023, 10008, 10118, 10076];

/// How long an ack is waited for before the outcome is called unknown and the message is sent again. A node that retires
/// or loses the leadership takes publishes and never answers them, and a whole journal waits for the slowest ack of its
/// unit. Less would be within what a busy disk takes for a commit; more is what customers wait for while a server is
/// restarted (`cluster_rolling_restart`). The second copy of a guarded message is refused before anything is written,
/// that of any other is harmless.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// How long the leader is waited for when it is asked what became of a message: whoever does not know sends again.
const READ_BACK_WAIT: Duration = Duration::from_secs(2);

/// How the server answered one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is stored.
    Stored {
        /// Its place in the stream.
        sequence: u64,
    },
    /// Something was stored on the subject since, perhaps this very message.
    MovedOn,
    /// It is not stored; worth another try.
    TryAgain(String),
    /// Nobody knows.
    Unknown(String),
    /// It is not stored and never will be.
    Refused {
        /// JetStream's error code.
        code: u64,
        /// Its words.
        reason: String,
    },
}

impl Answer {
    /// What an error of the server means.
    #[must_use]
    pub fn of_error(code: u64, reason: String) -> Self {
        if WRONG_LAST_SEQUENCE.contains(&code) || code == IN_PROCESS {
            Self::MovedOn
        } else if TRY_AGAIN.contains(&code) {
            Self::TryAgain(reason)
        } else {
            Self::Refused { code, reason }
        }
    }
}

/// What the guarded append needs of a server.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Send one message and read the answer.
    async fn publish(&self, subject: async_nats::Subject, headers: HeaderMap, payload: Bytes) -> Answer;

    /// The last message of a subject, from the stream's leader; none when there is none.
    ///
    /// # Errors
    /// [`ReadError`] when the leader cannot be asked.
    async fn last_at_leader(&self, stream: StreamName, subject: &str) -> Result<Option<LastAtLeader>, ReadError>;

    /// In how many parts histories and commands are.
    fn shards(&self) -> Shards {
        Shards::ONE
    }
}

#[async_trait]
impl Wire for Nats {
    async fn publish(&self, subject: async_nats::Subject, headers: HeaderMap, payload: Bytes) -> Answer {
        publish_once(self, subject, headers, payload).await
    }

    async fn last_at_leader(&self, stream: StreamName, subject: &str) -> Result<Option<LastAtLeader>, ReadError> {
        last_at_leader(self, stream, subject).await
    }

    fn shards(&self) -> Shards {
        self.shards
    }
}

#[derive(Deserialize)]
struct RawAck {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    error: Option<RawError>,
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Send one message and read the server's answer.
pub(super) async fn publish_once(
    nats: &Nats,
    subject: async_nats::Subject,
    headers: HeaderMap,
    payload: Bytes,
) -> Answer {
    let request = Request::new().headers(headers).payload(payload).timeout(Some(ACK_WAIT));
    match nats.client.send_request(subject, request).await {
        Ok(reply) => read_ack(&reply.payload, &nats.acked),
        Err(error) => match error.kind() {
            // Nobody listens on the subject: the stream has no leader at the moment, or does not exist.
            RequestErrorKind::NoResponders => Answer::TryAgain("no stream answers on this subject".into()),
            // It was not even sent, and never will be.
            RequestErrorKind::MaxPayloadExceeded => Answer::Refused { code: 0, reason: error.to_string() },
            _ => Answer::Unknown(error.to_string()),
        },
    }
}

fn read_ack(payload: &[u8], acked: &Acked) -> Answer {
    match serde_json::from_slice::<RawAck>(payload) {
        Ok(RawAck { error: None, stream, seq }) if seq > 0 => {
            acked.note(&stream, seq);
            Answer::Stored { sequence: seq }
        }
        Ok(RawAck { error: Some(RawError { err_code, description }), .. }) => Answer::of_error(err_code, description),
        Ok(_) | Err(_) => Answer::Unknown(format!("unreadable ack {:?}", String::from_utf8_lossy(payload))),
    }
}

/// A message with its guard and its id in the headers, ready to be sent any number of times.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) subject: async_nats::Subject,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    pub(super) expected: Option<u64>,
    pub(super) record_id: String,
}

impl Prepared {
    pub(super) fn new(outgoing: Outgoing, shard: Shard) -> Self {
        let Outgoing { subject, mut headers, payload, expected } = outgoing;
        let record_id = Uuid::now_v7().as_hyphenated().to_string();
        headers.insert(headers::RECORD_ID, record_id.as_str());
        if let Some(expected) = expected {
            headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        Self { subject: subject.in_shard(shard).into(), headers, payload, expected, record_id }
    }

    async fn send(&self, wire: &impl Wire) -> Answer {
        wire.publish(self.subject.clone(), self.headers.clone(), self.payload.clone()).await
    }
}

/// The waits between tries: from 20 ms, doubling to 1 s, with jitter so that many writers do not come back together.
fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Append one message, and do not come back before it is known what became of it or the time is over.
///
/// # Errors
/// [`AppendError::Conflict`] when somebody else was first; [`AppendError::Unavailable`] when the server could not take it
/// for `patience`, in which case it may still be stored later; [`AppendError::Refused`] when it never will.
pub async fn append(
    nats: &impl Wire,
    stream: StreamName,
    outgoing: Outgoing,
    patience: Duration,
) -> Result<u64, AppendError> {
    let shard = nats.shards().of_subject(&outgoing.subject);
    append_prepared(nats, stream.part(shard), &Prepared::new(outgoing, shard), patience).await
}

pub(super) async fn append_prepared(
    nats: &impl Wire,
    stream: StreamName,
    message: &Prepared,
    patience: Duration,
) -> Result<u64, AppendError> {
    let answer = message.send(nats).await;
    settle(nats, stream, message, answer, patience).await
}

/// Go on from an answer until the outcome is known.
pub(super) async fn settle(
    nats: &impl Wire,
    stream: StreamName,
    message: &Prepared,
    first: Answer,
    patience: Duration,
) -> Result<u64, AppendError> {
    let deadline = Instant::now() + patience;
    let mut waits = waits();
    let mut answer = first;
    loop {
        let reason = match answer {
            Answer::Stored { sequence } => return Ok(sequence),
            Answer::Refused { code, reason } => {
                return Err(AppendError::Refused { subject: message.subject.to_string(), code, reason });
            }
            Answer::TryAgain(reason) => reason,
            Answer::MovedOn => match read_back(nats, stream, message).await {
                ReadBack::Decided(outcome) => return outcome,
                ReadBack::NotStored => "another write was under way".into(),
                ReadBack::Unreadable(reason) => reason,
            },
            Answer::Unknown(reason) => match read_back(nats, stream, message).await {
                ReadBack::Decided(outcome) => return outcome,
                ReadBack::NotStored | ReadBack::Unreadable(_) => reason,
            },
        };
        let wait = waits.next().unwrap_or(Duration::from_secs(1));
        if Instant::now() + wait >= deadline {
            return Err(AppendError::Unavailable {
                subject: message.subject.to_string(),
                seconds: patience.as_secs(),
                reason,
            });
        }
        tokio::time::sleep(wait).await;
        answer = message.send(nats).await;
    }
}

enum ReadBack {
    Decided(Result<u64, AppendError>),
    NotStored,
    Unreadable(String),
}

/// Ask the stream's leader for the last message of the subject (a direct get could be answered by a replica that is
/// behind) and see whether it is ours, somebody else's, or still the one we expected.
async fn read_back(nats: &impl Wire, stream: StreamName, message: &Prepared) -> ReadBack {
    let Some(expected) = message.expected else {
        // Storing this one twice is harmless, so it is simply sent again.
        return ReadBack::NotStored;
    };
    let asked = nats.last_at_leader(stream, message.subject.as_str());
    let last = match timeout(READ_BACK_WAIT, asked).await {
        Ok(Ok(last)) => last,
        Ok(Err(error)) => return ReadBack::Unreadable(error.reason),
        Err(_) => return ReadBack::Unreadable("the leader did not say what the last message is".into()),
    };
    let (found, record_id) = last.map_or((0, None), |last| (last.sequence, last.record_id));
    if record_id.as_deref() == Some(&message.record_id) {
        ReadBack::Decided(Ok(found))
    } else if found == expected {
        ReadBack::NotStored
    } else {
        ReadBack::Decided(Err(AppendError::Conflict { subject: message.subject.to_string(), expected, found }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_answers_are_told_apart() {
        let acked = Acked::default();
        let read = |payload: &[u8]| read_ack(payload, &acked);
        let error = |code: u64| {
            read(
                format!(r#"{{"error":{{"code":400,"err_code":{code},"description":"d"}},"stream":"S","seq":0}}"#)
                    .as_bytes(),
            )
        };
        assert_eq!(read(br#"{"stream":"HISTORY","seq":7}"#), Answer::Stored { sequence: 7 });
        assert_eq!(acked.highest(StreamName::History), 7);
        assert_eq!(read(br#"{"stream":"S","seq":7,"duplicate":true}"#), Answer::Stored { sequence: 7 });
        assert_eq!(error(10071), Answer::MovedOn);
        assert_eq!(error(10164), Answer::MovedOn);
        assert_eq!(error(10158), Answer::MovedOn);
        assert_eq!(error(10077), Answer::TryAgain("d".into()));
        assert_eq!(error(10060), Answer::Refused { code: 10060, reason: "d".into() });
        assert!(matches!(read(b"nonsense"), Answer::Unknown(_)));
    }
}
