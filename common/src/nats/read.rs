//! Reading what is stored: one history, or a stretch of a stream, in one request each (batched direct get).
//!
//! A direct get may be answered by a replica that is behind. That is fine here: a history is proved current by the
//! guarded append that follows, and readers that only show it are told again by the live subject.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, Subscriber, jetstream::stream::LastRawMessageErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::connect::{Nats, REQUEST_TIMEOUT};
use crate::{
    headers,
    ids::WorkflowRef,
    streams::StreamName,
    subject::Subject,
    time::{Timestamp, to_milliseconds},
};

/// A stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// When the server stored it.
    pub time: Timestamp,
    /// Its headers, ours and the server's.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Bytes,
}

/// A read that did not work; nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stream} could not be read: {reason}")]
pub struct ReadError {
    /// Which stream.
    pub stream: &'static str,
    /// What was seen.
    pub reason: String,
}

/// As many messages as one request asks for; more are fetched by further requests.
const BATCH: usize = 512;

/// After so long without a word the question is put once more: a node that retires or dies takes questions and answers none of
/// them. Once only, since a server that is slow because it is busy must not be given more to do.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Put a question that may be put twice, and hear the answer to the second one when the first one is not answered soon.
pub async fn ask_again<Answer: Future>(ask: impl Fn() -> Answer) -> Answer::Output {
    match timeout(ASK_AGAIN_AFTER, ask()).await {
        Ok(answer) => answer,
        Err(_) => ask().await,
    }
}

/// A whole history, oldest first; empty when the workflow does not exist.
///
/// # Errors
/// [`ReadError`] when the server cannot be asked.
pub async fn history(nats: &Nats, workflow: WorkflowRef) -> Result<Vec<Stored>, ReadError> {
    subject(nats, StreamName::History, &Subject::History(workflow)).await
}

/// All messages of one subject, oldest first.
///
/// # Errors
/// [`ReadError`] when the server cannot be asked.
pub async fn subject(nats: &Nats, stream: StreamName, subject: &Subject) -> Result<Vec<Stored>, ReadError> {
    let (stream, subject) = placed(nats, stream, subject);
    let (mut messages, mut from) = (Vec::new(), 1);
    loop {
        let batch = stretch(nats, stream, from, BATCH, &subject).await?;
        let more = batch.more;
        from = batch.messages.last().map_or(from, |last| last.sequence + 1);
        messages.extend(batch.messages);
        if !more {
            return Ok(messages);
        }
    }
}

/// The part of a stream that a subject is in, and how it is written there.
fn placed(nats: &Nats, stream: StreamName, subject: &Subject) -> (StreamName, String) {
    let shard = nats.shards.of_subject(subject);
    (stream.part(shard), subject.in_shard(shard))
}

/// The last message of a subject, as the leader of the stream that it is in knows it. In a cluster a server that was the leader
/// and has not heard of the new one may answer ([`super::read_index`] cannot be fooled so).
///
/// # Errors
/// [`ReadError`] when the leader cannot be asked.
pub async fn newest(nats: &Nats, stream: StreamName, subject: &Subject) -> Result<Option<LastAtLeader>, ReadError> {
    let (stream, subject) = placed(nats, stream, subject);
    last_at_leader(nats, stream, &subject).await
}

/// The last message of one subject, as the replica that answers knows it.
///
/// # Errors
/// [`ReadError`] when the server cannot be asked.
pub async fn last(nats: &Nats, stream: StreamName, subject: &Subject) -> Result<Option<Stored>, ReadError> {
    let (stream, subject) = placed(nats, stream, subject);
    let request = serde_json::json!({ "last_by_subj": subject });
    let answer = ask_again(|| nats.client.request(direct_get(stream), request.to_string().into()))
        .await
        .map_err(|error| ReadError { stream: stream.as_str(), reason: error.to_string() })?;
    match answer.status {
        None => parse(stream, answer).map(Some),
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => Err(ReadError { stream: stream.as_str(), reason: status.to_string() }),
    }
}

/// The last message of each subject, all as of one moment and as the replica that answers knows them; none of a subject without
/// messages.
///
/// # Errors
/// [`ReadError`] when the server cannot be asked or stops in the middle.
pub async fn last_of_each(nats: &Nats, stream: StreamName, subjects: &[&str]) -> Result<Vec<Stored>, ReadError> {
    let request = serde_json::json!({ "multi_last": subjects, "batch": subjects.len() });
    Ok(several(nats, stream, &request).await?.messages)
}

/// The last message of a subject, as the stream's leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAtLeader {
    /// Its place in the stream.
    pub sequence: u64,
    /// The id of the append that stored it.
    pub record_id: Option<String>,
    /// The dead letter that it was driven again from.
    pub redriven_from: Option<u64>,
}

/// Ask the stream's leader for the last message of a subject. Unlike a direct get this is never answered by a replica that is
/// behind, and it costs an API request; but a server that was the leader and has not heard of the new one may answer.
///
/// # Errors
/// [`ReadError`] when the leader cannot be asked.
pub async fn last_at_leader(nats: &Nats, stream: StreamName, subject: &str) -> Result<Option<LastAtLeader>, ReadError> {
    let failed = |reason: String| ReadError { stream: stream.as_str(), reason };
    let stream = nats.jetstream.get_stream_no_info(stream.as_str()).await.map_err(|error| failed(error.to_string()))?;
    match ask_again(|| stream.get_last_raw_message_by_subject(subject)).await {
        Ok(message) => {
            let record_id = message.headers.get(headers::RECORD_ID).map(|id| id.as_str().to_owned());
            let redriven_from =
                message.headers.get(headers::REDRIVEN_FROM).and_then(|letter| letter.as_str().parse().ok());
            Ok(Some(LastAtLeader { sequence: message.sequence, record_id, redriven_from }))
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Some messages of a stream.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The messages, oldest first.
    pub messages: Vec<Stored>,
    /// Whether there are more after them.
    pub more: bool,
}

/// Up to `count` messages from a sequence on, on the subjects that match `filter`, oldest first.
///
/// # Errors
/// [`ReadError`] when the server cannot be asked or stops in the middle.
pub async fn stretch(
    nats: &Nats,
    stream: StreamName,
    from: u64,
    count: usize,
    filter: &str,
) -> Result<Batch, ReadError> {
    let request = serde_json::json!({ "batch": count, "seq": from.max(1), "next_by_subj": filter });
    several(nats, stream, &request).await
}

/// A batched direct get.
async fn several(nats: &Nats, stream: StreamName, request: &serde_json::Value) -> Result<Batch, ReadError> {
    let (mut answers, first) = ask_again(|| ask_for_several(nats, stream, request)).await?;
    let batch = collect(stream, first, &mut answers).await;
    // The server may already have forgotten the subscription; the read is complete either way.
    let _ = answers.unsubscribe().await;
    batch
}

/// Where the answers come, and the first of them.
async fn ask_for_several(
    nats: &Nats,
    stream: StreamName,
    request: &serde_json::Value,
) -> Result<(Subscriber, async_nats::Message), ReadError> {
    let failed = |reason: String| ReadError { stream: stream.as_str(), reason };
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
    nats.client
        .publish_with_reply(direct_get(stream), inbox, request.to_string().into())
        .await
        .map_err(|error| failed(error.to_string()))?;
    let first = next(&mut answers, REQUEST_TIMEOUT).await.map_err(failed)?;
    Ok((answers, first))
}

async fn collect(stream: StreamName, first: async_nats::Message, answers: &mut Subscriber) -> Result<Batch, ReadError> {
    let failed = |reason: String| ReadError { stream: stream.as_str(), reason };
    let (mut messages, mut more) = (Vec::new(), false);
    let mut answer = first;
    loop {
        match answer.status {
            None => {
                more = number(&answer.headers, "Nats-Num-Pending").is_some_and(|pending| pending > 0);
                messages.push(parse(stream, answer)?);
            }
            // The end of the batch, or nothing (more) that matches.
            Some(status) if status.as_u16() == 204 || status == StatusCode::NOT_FOUND => {
                return Ok(Batch { messages, more });
            }
            Some(status) if status == StatusCode::NO_RESPONDERS => {
                return Err(failed("no stream answers: it does not exist or has no leader at the moment".into()));
            }
            Some(status) => return Err(failed(format!("status {status}"))),
        }
        answer = next(answers, REQUEST_TIMEOUT).await.map_err(failed)?;
    }
}

async fn next(answers: &mut Subscriber, patience: Duration) -> Result<async_nats::Message, String> {
    match timeout(patience, answers.next()).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err("the connection is closed".into()),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}

fn direct_get(stream: StreamName) -> String {
    format!("$JS.API.DIRECT.GET.{}", stream.as_str())
}

fn number(headers: &Option<HeaderMap>, name: &str) -> Option<u64> {
    headers.as_ref()?.get(name)?.as_str().parse().ok()
}

fn parse(stream: StreamName, message: async_nats::Message) -> Result<Stored, ReadError> {
    let failed = |what: &str| ReadError { stream: stream.as_str(), reason: format!("an answer without {what}") };
    let headers = message.headers.unwrap_or_default();
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    let time: Timestamp = text("Nats-Time-Stamp").and_then(|at| at.parse().ok()).ok_or_else(|| failed("a time"))?;
    Ok(Stored {
        sequence: text("Nats-Sequence").and_then(|n| n.parse().ok()).ok_or_else(|| failed("a sequence"))?,
        subject: text("Nats-Subject").ok_or_else(|| failed("a subject"))?,
        time: to_milliseconds(time),
        headers,
        payload: message.payload,
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_not_answered_is_put_once_more() {
        let (begun, asked) = (Instant::now(), Cell::new(0));
        let answer = ask_again(|| {
            asked.set(asked.get() + 1);
            let first = asked.get() == 1;
            async move { if first { pending().await } else { "answered" } }
        });
        assert_eq!((answer.await, asked.get(), begun.elapsed()), ("answered", 2, ASK_AGAIN_AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_answered_in_time_is_put_once_and_the_second_one_is_waited_for() {
        let asked = Cell::new(0);
        let ask = |takes: Duration| {
            let asked = &asked;
            ask_again(move || {
                asked.set(asked.get() + 1);
                tokio::time::sleep(takes)
            })
        };
        ask(ASK_AGAIN_AFTER / 2).await;
        assert_eq!(asked.get(), 1);
        let begun = Instant::now();
        ask(ASK_AGAIN_AFTER * 4).await;
        assert_eq!((asked.get(), begun.elapsed()), (3, ASK_AGAIN_AFTER * 5));
    }
}
