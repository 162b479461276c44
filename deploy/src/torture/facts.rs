//! Everything that is judged: what is stored, what the provider has in its books, and what customers were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use common::{
    headers,
    ids::{Sku, WorkflowRef},
    nats::{
        Nats,
        read::{Stored, stretch},
    },
    streams::StreamName,
    subject::Subject,
    time::Timestamp,
};
use payment_sandbox::session::Session;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{told::Told, watch::LastMessages};
use crate::doctor::Finding;

/// Messages per request.
const BATCH: usize = 500;

/// How long a replica may be behind what was seen of its stream: a healthy one is milliseconds behind, one whose node has just
/// come back some seconds.
const REPLICA_PATIENCE: Duration = Duration::from_secs(15);

/// Between two reads of a replica that is behind.
const REPLICA_PAUSE: Duration = Duration::from_millis(200);

/// Sessions per page of the provider's books, the most that it gives.
const PAGE: usize = 1_000;

/// Everything that is judged. Nothing in here is a verdict, but for the doctor's own.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// What customers were told.
    pub(super) told: Vec<Told>,
    /// What was delivered to begin with.
    pub(super) stocked: BTreeMap<Sku, u64>,
    /// The stored records of every workflow, oldest first.
    pub(super) histories: BTreeMap<WorkflowRef, Vec<Bytes>>,
    /// The stored entries of the ledger, oldest first.
    pub(super) ledger: Vec<Bytes>,
    /// The subjects of all stored webhooks.
    pub(super) webhooks: BTreeSet<String>,
    /// What was parked.
    pub(super) letters: Vec<Letter>,
    /// The provider's books.
    pub(super) sessions: Vec<Session>,
    /// The subjects of the webhooks that the provider was answered 2xx for.
    pub(super) delivered: BTreeSet<String>,
    /// What was the last message of a stream at some time.
    pub(super) last_messages: LastMessages,
    /// When each message of these streams was stored, by stream and sequence, as it is in the end.
    pub(super) stored_at: BTreeMap<&'static str, BTreeMap<u64, Timestamp>>,
    /// What had not settled in time, in words.
    pub(super) unsettled: Vec<String>,
    /// What went wrong beyond the faults, in words.
    pub(super) accidents: Vec<String>,
    /// What the doctor calls broken.
    pub(super) broken: Vec<Finding>,
}

/// A parked message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    /// Such as `deadletter.webhook`.
    pub(super) subject: String,
    /// Where it was meant to go.
    pub(super) origin: String,
    /// Why it was parked.
    pub(super) reason: String,
    /// Its body.
    pub(super) payload: Bytes,
}

impl Facts {
    /// Read the streams, as far as they were seen to go.
    pub(super) async fn read_streams(&mut self, nats: &Nats) -> anyhow::Result<()> {
        for part in nats.shards.streams(StreamName::History) {
            for stored in self.read_grown(nats, part).await? {
                if let Ok(Subject::History(workflow)) = stored.subject.parse() {
                    self.histories.entry(workflow).or_default().push(stored.payload);
                }
            }
        }
        let ledger = self.read_grown(nats, StreamName::Inventory).await?;
        self.ledger = ledger.into_iter().map(|stored| stored.payload).collect();
        let webhooks = self.read_grown(nats, StreamName::Webhooks).await?;
        self.webhooks = webhooks.into_iter().map(|stored| stored.subject).collect();
        for_each(nats, StreamName::DeadLetters, "deadletter.>", |stored| self.letters.push(Letter::from(stored))).await
    }

    /// Everything in a stream that only grows. A replica may answer that is behind; for messages that were seen and never come it
    /// is not waited for ever, so that they can be missed.
    async fn read_grown(&mut self, nats: &Nats, stream: StreamName) -> anyhow::Result<Vec<Stored>> {
        let seen = self.last_messages.get(stream.as_str());
        let highest = seen.and_then(|seen| seen.last()).map_or(0, |last| last.sequence);
        let deadline = Instant::now() + REPLICA_PATIENCE;
        let messages = loop {
            let mut messages = Vec::new();
            for_each(nats, stream, ">", |stored| messages.push(stored)).await?;
            let reached = messages.last().map_or(0, |stored| stored.sequence);
            if reached >= highest || Instant::now() > deadline {
                break messages;
            }
            sleep(REPLICA_PAUSE).await;
        };
        let times = messages.iter().map(|stored| (stored.sequence, stored.time)).collect();
        self.stored_at.insert(stream.as_str(), times);
        Ok(messages)
    }

    /// Read the provider's books, and which webhooks it has delivered.
    pub(super) async fn read_books(&mut self, http: &Client, sandbox_url: &str) -> anyhow::Result<()> {
        self.sessions = sessions(http, sandbox_url).await?;
        for session in &self.sessions {
            for event in events(http, sandbox_url, session).await? {
                if event.delivered_at.is_some() {
                    self.delivered.insert(event.subject());
                }
            }
        }
        Ok(())
    }
}

impl From<Stored> for Letter {
    fn from(stored: Stored) -> Self {
        let header = |name: async_nats::HeaderName| {
            stored.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default()
        };
        Self {
            origin: header(headers::ORIGINAL_SUBJECT),
            reason: header(headers::REASON),
            subject: stored.subject,
            payload: stored.payload,
        }
    }
}

/// A webhook as the provider knows it.
#[derive(Debug, Deserialize)]
pub(super) struct SentWebhook {
    event_id: String,
    /// None while it is to be sent again.
    pub(super) delivered_at: Option<Value>,
}

impl SentWebhook {
    fn subject(&self) -> String {
        format!("webhook.sandbox.{}", self.event_id)
    }
}

/// All sessions in the provider's books, oldest first.
pub(super) async fn sessions(http: &Client, sandbox_url: &str) -> anyhow::Result<Vec<Session>> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Session>,
        has_more: bool,
    }
    let mut sessions: Vec<Session> = Vec::new();
    loop {
        let after = sessions.last().map(|last| last.session_id.to_string()).unwrap_or_default();
        let url = format!("{sandbox_url}/api/books?limit={PAGE}&after={after}");
        let answer = http.get(&url).send().await.with_context(|| format!("ask for the books at {url}"))?;
        let page: Page =
            answer.error_for_status()?.json().await.with_context(|| format!("read the answer of {url}"))?;
        sessions.extend(page.data);
        if !page.has_more {
            return Ok(sessions);
        }
    }
}

/// The webhooks of one session.
pub(super) async fn events(http: &Client, sandbox_url: &str, session: &Session) -> anyhow::Result<Vec<SentWebhook>> {
    #[derive(Deserialize)]
    struct Events {
        data: Vec<SentWebhook>,
    }
    let url = format!("{sandbox_url}/api/events?session_id={}", session.session_id);
    let answer = http.get(&url).send().await.with_context(|| format!("ask for webhooks at {url}"))?;
    let events: Events =
        answer.error_for_status()?.json().await.with_context(|| format!("read the answer of {url}"))?;
    Ok(events.data)
}

/// Everything that a stream holds, oldest first.
pub(super) async fn for_each(
    nats: &Nats,
    stream: StreamName,
    filter: &str,
    mut each: impl FnMut(Stored),
) -> anyhow::Result<()> {
    let mut next = 1;
    loop {
        let batch = stretch(nats, stream, next, BATCH, filter).await?;
        let Some(last) = batch.messages.last() else { return Ok(()) };
        next = last.sequence + 1;
        batch.messages.into_iter().for_each(&mut each);
        if !batch.more {
            return Ok(());
        }
    }
}
