//! The doctor on real streams of a real server.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use common::{
    contracts::inventory::{Balance, StockLevel, StockProjection, StockProjectionType},
    nats::{Nats, NatsOptions, connect::connect, read::Stored},
    streams::{ConsumerName, Durability, Placement, StreamName},
    subject::Subject,
};
use workflow_worker::workflows::checkout::Checkout;

use super::{samples::*, *};
use crate::{nats_server::NatsServer, provision::provision};

/// A server with streams to write to; gone when it is dropped.
pub(super) struct TestStreams {
    _server: NatsServer,
    pub(super) nats: Nats,
}

const PLACEMENT: Placement = Placement {
    replicas: 1,
    storage_bytes: 1024 * 1024 * 1024,
    durability: Durability::SyncAlways,
    shards: common::shards::Shards::ONE,
};

impl TestStreams {
    async fn without_streams() -> Self {
        let server = NatsServer::start_for_test().await;
        let options = NatsOptions { nats_url: server.client_url(), nats_creds: None };
        let nats = connect(&options, "doctor-test").await.expect("the server answers");
        Self { _server: server, nats }
    }

    pub(super) async fn provisioned() -> Self {
        let streams = Self::without_streams().await;
        provision(&streams.nats, &PLACEMENT).await.expect("streams are created");
        streams
    }

    /// Streams from which messages can be taken away, as a failing disk does it.
    async fn unprotected() -> Self {
        let streams = Self::without_streams().await;
        for stream in StreamName::ALL {
            let config = async_nats::jetstream::stream::Config { deny_delete: false, ..PLACEMENT.config(stream) };
            streams.nats.jetstream.create_stream(config).await.expect("a stream is created");
        }
        for consumer in ConsumerName::ALL {
            let stream = consumer.stream().as_str();
            let created = streams.nats.jetstream.create_consumer_on_stream(consumer.config(), stream).await;
            created.expect("a consumer is created");
        }
        streams
    }

    /// Store messages as they are.
    pub(super) async fn store(&self, messages: &[Stored]) {
        for message in messages {
            let Stored { subject, headers, payload, .. } = message.clone();
            let ack = self.nats.jetstream.publish_with_headers(subject, headers, payload).await.expect("published");
            ack.await.expect("stored");
        }
    }

    async fn tell_readers(&self, balance: Balance, ledger_index: u64) {
        let level = StockLevel { sku: mug(), balance };
        let projection = StockProjection { projection_type: StockProjectionType::Stock, level, ledger_index };
        let payload = serde_json::to_vec(&projection).expect("writable");
        self.store(&[stored(1, &Subject::Stock(mug()), at(0), payload)]).await;
    }

    /// Take and ack whatever waits at a consumer.
    pub(super) async fn ack_all(&self, consumer: ConsumerName) {
        let found = self
            .nats
            .jetstream
            .get_consumer_from_stream::<pull::Config, _, _>(consumer.as_str(), consumer.stream().as_str());
        let mut messages = found
            .await
            .expect("the consumer")
            .fetch()
            .group(consumer.group())
            .max_messages(100)
            .messages()
            .await
            .expect("a pull");
        while let Some(message) = futures_util::StreamExt::next(&mut messages).await {
            message.expect("a message").double_ack().await.expect("acked");
        }
    }

    async fn remove(&self, stream: StreamName, sequence: u64) {
        let stream = self.nats.jetstream.get_stream(stream.as_str()).await.expect("the stream");
        assert!(stream.delete_message(sequence).await.expect("removed"));
    }

    async fn examined(&self) -> Report {
        let options = Options { replica_patience: Duration::from_millis(300), ..Options::default() };
        examine(&self.nats, options).await.expect("the streams can be read")
    }
}

/// One paid and one expired checkout, a webhook for the first, and what the ledger makes of them.
async fn two_checkouts(streams: &TestStreams) {
    let ledger = LedgerWriter::with([restocked(10), held(1), held(2), sold(1), released(2)]);
    streams.store(&checkout_history(the_paid_way())).await;
    streams.store(&HistoryWriter::<Checkout>::with(id(2), expired_in_its_own_session()).records).await;
    streams.store(&ledger.entries).await;
    streams.tell_readers(Balance { available: 8, reserved: 0, sold: 2 }, 4).await;
    let webhook = serde_json::json!({
        "id": "evt_1", "type": "payment_session.paid", "session_id": "cs_1", "client_reference_id": id(1),
        "payment_status": "paid", "amount": TOTAL, "currency": "eur",
    });
    let subject: Subject = "webhook.sandbox.evt_1".parse().expect("a subject");
    streams.store(&[stored(1, &subject, at(3), webhook.to_string().into_bytes())]).await;
}

fn expired_in_its_own_session() -> Vec<common::contracts::checkout::CheckoutEvent> {
    let mut way = the_expired_way();
    way[2] = common::contracts::checkout::CheckoutEvent::PaymentSessionOpened {
        session_id: "cs_2".parse().expect("a session"),
        payment_url: "http://127.0.0.1/payment/cs_2".into(),
    };
    way
}

fn texts(report: &Report, severity: Severity) -> Vec<String> {
    report.of(severity).map(|finding| format!("{}: {}", finding.subject, finding.text)).collect()
}

#[tokio::test]
async fn an_empty_shop_and_a_sound_one_have_no_findings() {
    let streams = TestStreams::provisioned().await;
    let empty = streams.examined().await;
    assert_eq!(empty.findings, []);

    two_checkouts(&streams).await;
    let waiting = streams.examined().await;
    assert_eq!(waiting.findings, []);
    assert_eq!((waiting.summary.webhooks.waiting, waiting.summary.webhooks.applied), (1, 0));

    streams.ack_all(ConsumerName::WorkerWebhooks).await;
    let sound = streams.examined().await;
    assert_eq!(sound.findings, []);
    assert!(sound.is_healthy());
    let Summary { checkouts, history_records, ledger_entries, articles, webhooks, .. } = sound.summary;
    assert_eq!(checkouts, std::collections::BTreeMap::from([("expired", 1), ("paid", 1)]));
    assert_eq!((history_records, ledger_entries, articles), (11, 5, 1));
    assert_eq!((webhooks.stored, webhooks.waiting, webhooks.applied), (1, 0, 1));
}

#[tokio::test]
async fn messages_that_the_server_has_lost_are_found_even_at_the_end_of_a_history() {
    let streams = TestStreams::unprotected().await;
    two_checkouts(&streams).await;
    // The last record of the paid checkout: its index and chain are sound without it.
    streams.remove(StreamName::History, 5).await;
    let report = streams.examined().await;
    let broken = texts(&report, Severity::Broken);
    assert!(broken.iter().any(|text| text.starts_with("stream HISTORY: sequences 5–5 are missing")), "{broken:?}");
    let attention = texts(&report, Severity::Attention);
    assert!(
        attention.iter().any(|text| text.starts_with("stream HISTORY") && text.contains("deny delete")),
        "{attention:?}"
    );

    // The last message of all: the leader knows that there was one.
    streams.remove(StreamName::Inventory, 5).await;
    let broken = texts(&streams.examined().await, Severity::Broken);
    assert!(broken.iter().any(|text| text.starts_with("stream INVENTORY: sequences 5–5 are missing")), "{broken:?}");
    assert!(broken.iter().any(|text| text.contains("it has ended, but its goods are still held")), "{broken:?}");
    assert!(broken.iter().any(|text| text.contains("but it has only 4: the ledger has lost entries")), "{broken:?}");
}

#[tokio::test]
async fn a_record_that_somebody_else_has_written_is_found() {
    let streams = TestStreams::provisioned().await;
    two_checkouts(&streams).await;
    let forged = HistoryWriter::<Checkout>::with(id(1), [started()]).records;
    streams.store(&forged).await;
    let report = streams.examined().await;
    assert!(!report.is_healthy());
    let broken = texts(&report, Severity::Broken);
    assert!(broken.len() == 1 && broken[0].contains("record 5 expected"), "{broken:?}");
    assert_eq!(report.summary.checkouts.get("untrusted"), Some(&1));
}

#[tokio::test]
async fn readers_of_stock_are_given_the_time_to_be_told() {
    let streams = TestStreams::provisioned().await;
    streams.store(&LedgerWriter::with([restocked(10)]).entries).await;
    let (report, ()) = tokio::join!(streams.examined(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        streams.tell_readers(Balance { available: 10, reserved: 0, sold: 0 }, 0).await;
    });
    assert_eq!(report.findings, []);

    streams.tell_readers(Balance { available: 9, reserved: 0, sold: 0 }, 0).await;
    let broken = texts(&streams.examined().await, Severity::Broken);
    assert!(broken.len() == 1 && broken[0].contains("purge stream STOCK"), "{broken:?}");
}

#[tokio::test]
async fn without_streams_nothing_is_said_but_what_to_do() {
    let streams = TestStreams::without_streams().await;
    let error = examine(&streams.nats, Options::default()).await.expect_err("there is nothing to read");
    assert!(format!("{error:#}").contains("deploy provision"), "{error:#}");
}
