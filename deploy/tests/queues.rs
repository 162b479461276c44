//! What is done leaves the queues, and nothing else does.

use async_nats::jetstream::{Message, consumer::pull};
use common::{
    nats::{
        Nats, NatsOptions,
        connect::connect,
        permissions::{Needs, check_permissions},
        trim::trim,
    },
    streams::{ConsumerName, Durability, Placement, StreamName},
};
use deploy::{nats_server::NatsServer, provision::provision};
use futures_util::StreamExt as _;

const QUEUE: StreamName = StreamName::Commands;
const CONSUMER: ConsumerName = ConsumerName::WorkerCommands;

async fn with_commands(count: usize) -> (NatsServer, Nats) {
    let server = NatsServer::start_for_test().await;
    let options = NatsOptions { nats_url: server.client_url(), nats_creds: None };
    let nats = connect(&options, "queues-test").await.expect("the server answers");
    let placement = Placement {
        replicas: 1,
        storage_bytes: 1 << 30,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&nats, &placement).await.expect("provisioned");
    for _ in 0..count {
        let id = common::ids::WorkflowId::random();
        let sent = nats.jetstream.publish(format!("command.checkout.{id}"), "{}".into()).await.expect("sent");
        sent.await.expect("stored");
    }
    (server, nats)
}

async fn taken(nats: &Nats, count: usize) -> Vec<Message> {
    let consumer =
        nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(CONSUMER.as_str(), QUEUE.as_str()).await;
    let messages = consumer
        .expect("the consumer")
        .fetch()
        .group(CONSUMER.group())
        .max_messages(count)
        .messages()
        .await
        .expect("a pull");
    messages.map(|message| message.expect("a message")).collect().await
}

async fn kept(nats: &Nats) -> Vec<u64> {
    let read = common::nats::read::stretch(nats, QUEUE, 1, 100, "command.>").await.expect("the queue can be read");
    read.messages.iter().map(|stored| stored.sequence).collect()
}

#[tokio::test]
async fn only_what_is_done_without_a_gap_is_taken_out() {
    let (_server, nats) = with_commands(4).await;
    assert_eq!(trim(&nats, CONSUMER, 0).await.expect("trimmed"), 0, "nothing is done yet");
    let messages = taken(&nats, 3).await;
    for done in [0, 2] {
        messages[done].double_ack().await.expect("acked");
    }
    assert_eq!(trim(&nats, CONSUMER, 0).await.expect("trimmed"), 1);
    assert_eq!(kept(&nats).await, [2, 3, 4], "the second is not done, and the fourth has not been taken");
    messages[1].double_ack().await.expect("acked");
    assert_eq!(trim(&nats, CONSUMER, 1).await.expect("trimmed"), 3);
    assert_eq!(kept(&nats).await, [4]);
    taken(&nats, 1).await[0].double_ack().await.expect("acked");
    assert_eq!(trim(&nats, CONSUMER, 3).await.expect("trimmed"), 4);
    assert_eq!(kept(&nats).await, [0_u64; 0]);
}

/// The consumer is deleted and made again: it has acked nothing, so nothing is taken out, and everything comes again.
#[tokio::test]
async fn a_consumer_that_is_made_anew_takes_nothing_out() {
    let (_server, nats) = with_commands(2).await;
    taken(&nats, 1).await[0].double_ack().await.expect("acked");
    let stream = nats.jetstream.get_stream(QUEUE.as_str()).await.expect("the stream");
    stream.delete_consumer(CONSUMER.as_str()).await.expect("deleted");
    stream.create_consumer(CONSUMER.config()).await.expect("made anew");
    assert_eq!(trim(&nats, CONSUMER, 0).await.expect("trimmed"), 0);
    assert_eq!(kept(&nats).await, [1, 2]);
    assert_eq!(taken(&nats, 2).await.len(), 2);
}

/// nats-server takes a purge with a body that it cannot read for a purge of everything.
#[tokio::test]
async fn asking_whether_one_may_take_out_takes_nothing_out() {
    let (_server, nats) = with_commands(2).await;
    let needs = Needs { trims: &[QUEUE], ..Needs::default() };
    check_permissions(&nats, "test", &needs).await.expect("allowed");
    assert_eq!(kept(&nats).await, [1, 2]);
}
