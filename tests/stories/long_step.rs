//! A call to the provider outlasts the ack wait: the worker tells the server that it is alive, so its lease does not go to
//! another worker in the middle of the call.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use common::streams::ConsumerName;
use serde_json::json;
use stories::{Shop, ShopOptions, eventually};

/// Twice as long as a worker is silent (10 s), and shorter than the call.
const ACK_WAIT: Duration = Duration::from_secs(20);

/// The provider's answer takes this long.
const CALL_MILLIS: u64 = 25_000;

/// What brings a worker to its steps: commands, and what the inventory has booked.
const CONSUMERS: [ConsumerName; 2] = [ConsumerName::WorkerCommands, ConsumerName::WorkerLedger];

/// How often messages were delivered that had been before.
async fn further_deliveries(shop: &Shop) -> u64 {
    let mut further = 0;
    for consumer in CONSUMERS {
        let (name, stream) = (consumer.as_str(), consumer.stream());
        let found = shop.nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, stream.as_str()).await;
        let deliveries = found.expect("the workers' consumer").cached_info().delivered.consumer_sequence;
        further += deliveries.saturating_sub(shop.messages_ever_in(stream).await);
    }
    further
}

/// G13: two workers, one call of 25 s under an ack wait of 20 s: every message is delivered once.
#[tokio::test]
async fn a_step_that_outlasts_the_ack_wait_is_not_run_a_second_time() {
    let options = ShopOptions {
        payment_call_timeout: "40s",
        answer_timeout: "50s",
        ack_wait: Some(ACK_WAIT),
        workers: 2,
        ..ShopOptions::default()
    };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    shop.fault(json!({ "call": "create_session", "fault": "slow", "millis": CALL_MILLIS, "times": 1 })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    shop.until_idle().await;
    assert_eq!(further_deliveries(&shop).await, 0);
    assert_eq!(shop.books(checkout["workflow_id"].as_str().expect("an id")).await.len(), 1);
    shop.is_healthy().await;
}

/// The story above would notice: a worker that dies in the call is silent, and its message is delivered again.
#[tokio::test]
async fn the_command_of_a_worker_that_is_silent_goes_to_another() {
    let options =
        ShopOptions { ack_wait: Some(Duration::from_secs(2)), answer_timeout: "1s", ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    shop.fault(json!({ "call": "create_session", "fault": "slow", "millis": 60_000, "times": 2 })).await;
    let begun = shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 1 }])).send().await.expect("an answer");
    assert_eq!(begun.status(), 202);
    let begun: serde_json::Value = begun.json().await.expect("JSON");
    let id = begun["workflow_id"].as_str().expect("an id");
    // From this record on the worker is at the provider, with the command in hand: for two calls of a
    // second each that get no answer.
    eventually("the worker asks the provider", async || {
        shop.event_types(id).await.contains(&"stock_reserved").then_some(())
    })
    .await;
    shop.kill(stories::Service::Worker(0));
    shop.start(stories::Service::Worker(0));
    shop.until_status(id, "awaiting_payment").await;
    eventually("a message was delivered a second time", async || (further_deliveries(&shop).await > 0).then_some(()))
        .await;
}
