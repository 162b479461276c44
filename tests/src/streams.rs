//! What stories see in the streams, and put there past the services.

use async_nats::{HeaderMap, jetstream::consumer::pull};
use bytes::Bytes;
use common::{
    contracts::inventory::{LedgerEntry, Movement},
    headers,
    ids::{WorkflowKind, WorkflowRef},
    nats::read::{self, Stored},
    streams::{ConsumerName, StreamName},
    subject::Subject,
};
use deploy::doctor::{self, Report};
use futures_util::TryStreamExt as _;

use crate::{shop::Shop, wait::eventually};

/// A message that could not be handled.
#[derive(Debug, Clone)]
pub struct Parked {
    /// What kind of message it was, as in `deadletter.<area>`.
    pub area: String,
    /// Why it was parked.
    pub reason: String,
    /// Where it came from.
    pub original_subject: String,
    /// Its body.
    pub payload: Bytes,
}

impl From<Stored> for Parked {
    fn from(stored: Stored) -> Self {
        let header = |name: async_nats::HeaderName| {
            stored.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default()
        };
        Self {
            area: stored.subject.trim_start_matches("deadletter.").to_owned(),
            reason: header(headers::REASON),
            original_subject: header(headers::ORIGINAL_SUBJECT),
            payload: stored.payload,
        }
    }
}

impl Shop {
    /// Store a message as a stranger would; its sequence.
    pub async fn store(&self, subject: &str, payload: impl Into<Bytes>) -> u64 {
        self.store_with_headers(subject, HeaderMap::new(), payload).await
    }

    /// Store a message with headers; its sequence.
    pub async fn store_with_headers(&self, subject: &str, headers: HeaderMap, payload: impl Into<Bytes>) -> u64 {
        let sent = self.nats.jetstream.publish_with_headers(subject.to_owned(), headers, payload.into()).await;
        sent.expect("send a message").await.expect("store a message").sequence
    }

    /// How many messages a stream holds; of a queue, which keeps for some seconds what is done, how many are not done; of
    /// `HISTORY`, how many records, without the proofs of readers in a cluster.
    pub async fn messages_in(&self, stream: StreamName) -> u64 {
        match stream {
            StreamName::Commands => self.not_done(ConsumerName::WorkerCommands).await,
            StreamName::InventoryCommands => self.not_done(ConsumerName::Inventory).await,
            StreamName::History => self.messages_on(stream, "history.>").await,
            other => self.state_of(other).await.messages,
        }
    }

    /// Wait until nothing that is done is left in a queue.
    pub async fn until_taken_out(&self, queue: StreamName) {
        eventually(&format!("{} is empty", queue.as_str()), async || {
            (self.state_of(queue).await.messages == 0).then_some(())
        })
        .await;
    }

    async fn messages_on(&self, stream: StreamName, filter: &str) -> u64 {
        let stream = self.nats.jetstream.get_stream(stream.as_str()).await.expect("a stream of the shop");
        let subjects = stream.info_with_subjects(filter).await.expect("its subjects");
        let counts: Vec<(String, usize)> = subjects.try_collect().await.expect("how many there are on each");
        counts.iter().map(|(_, count)| *count as u64).sum()
    }

    /// Every movement of the ledger, oldest first; an entry of repeats has none.
    pub async fn movements(&self) -> Vec<Movement> {
        let stored = read::subject(&self.nats, StreamName::Inventory, &Subject::InventoryLedger).await;
        let entries = stored.expect("read the ledger").into_iter();
        let entry = |stored: Stored| serde_json::from_slice::<LedgerEntry>(&stored.payload).expect("an entry");
        entries.flat_map(|stored| entry(stored).movements).collect()
    }

    /// How many messages wait for a service or are being worked on.
    async fn not_done(&self, consumer: ConsumerName) -> u64 {
        let (name, stream) = (consumer.as_str(), consumer.stream().as_str());
        let found = self.nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, stream).await;
        let info = found.expect("a consumer of the shop").cached_info().clone();
        info.num_pending + u64::try_from(info.num_ack_pending).expect("a number of messages")
    }

    /// How many messages a stream has ever taken.
    pub async fn messages_ever_in(&self, stream: StreamName) -> u64 {
        self.state_of(stream).await.last_sequence
    }

    async fn state_of(&self, stream: StreamName) -> async_nats::jetstream::stream::State {
        let mut stream = self.nats.jetstream.get_stream(stream.as_str()).await.expect("a stream of the shop");
        stream.info().await.expect("its state").state.clone()
    }

    /// Take all messages of a subject out of a stream, as a fault would.
    pub async fn lose(&self, stream: StreamName, subject: &str) {
        let stream = self.nats.jetstream.get_stream(stream.as_str()).await.expect("a stream of the shop");
        stream.purge().filter(subject).await.expect("purge a subject");
    }

    /// The records of a checkout as they are stored, oldest first.
    pub async fn records(&self, id: &str) -> Vec<Stored> {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: id.parse().expect("a workflow id") };
        read::history(&self.nats, workflow).await.expect("read a history")
    }

    /// Everything that is parked, oldest first.
    pub async fn parked(&self) -> Vec<Parked> {
        let read = read::stretch(&self.nats, StreamName::DeadLetters, 1, 1_000, "deadletter.*").await;
        read.expect("read the dead letters").messages.into_iter().map(Parked::from).collect()
    }

    /// Wait until at least so many messages are parked; all of them.
    pub async fn until_parked(&self, count: usize) -> Vec<Parked> {
        eventually(&format!("{count} messages are parked"), async || {
            let parked = self.parked().await;
            (parked.len() >= count).then_some(parked)
        })
        .await
    }

    /// Wait until no message waits for a service, nor is being worked on.
    pub async fn until_idle(&self) {
        for consumer in self.nats.shards.all_consumers(&ConsumerName::ALL) {
            let (name, stream) = (consumer.as_str(), consumer.stream().as_str());
            eventually(&format!("{name} has taken everything in {stream}"), async || {
                (self.not_done(consumer).await == 0).then_some(())
            })
            .await;
        }
    }

    /// What the doctor says now.
    pub async fn examine(&self) -> Report {
        doctor::examine(&self.nats, doctor::Options::default()).await.expect("examine the streams")
    }
}
