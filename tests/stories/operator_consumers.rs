//! What operators may do to consumers while the shop is open: reset, pause, delete. Nothing happens twice and nothing is
//! lost; only the provisioner makes again what was deleted.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{consumer::pull, stream::Stream};
use common::streams::{ConsumerName, Durability, Placement, StreamName};
use deploy::provision::provision;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually, eventually_within};

fn id_of(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

async fn stream_of(shop: &Shop, consumer: ConsumerName) -> Stream {
    shop.nats.jetstream.get_stream(consumer.stream().as_str()).await.expect("a stream of the shop")
}

/// What an operator runs after having deleted something.
async fn provision_again(shop: &Shop) {
    // Less room than the shop was opened with: room only ever grows.
    let placement = Placement {
        replicas: shop.server.replicas(),
        storage_bytes: 100 * 1024 * 1024,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&shop.nats, &placement).await.expect("provision");
}

async fn accepted(shop: &Shop) -> String {
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let answer = shop.post_checkout(None, &items).send().await.expect("an answer");
    assert_eq!(answer.status(), 202, "it is stored, and nobody takes it");
    id_of(&answer.json().await.expect("JSON"))
}

/// FN15, FN6: every webhook, wake-up call and command that is still stored comes again, in the midst of open checkouts.
#[tokio::test]
async fn a_reset_of_every_consumer_delivers_everything_again_and_changes_nothing() {
    let mut shop = Shop::open(crate::SERVICE).await;
    let (paid, declined, open) =
        (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    shop.pay(&paid).await;
    shop.at_provider("decline_payment", &declined).await;
    shop.until_status(&id_of(&paid), "paid").await;
    shop.until_status(&id_of(&declined), "declined").await;
    shop.until_stock("MUG-01", 98, 1, 1).await;
    shop.until_idle().await;
    let before = (shop.messages_in(StreamName::History).await, shop.movements().await);

    shop.kill(Service::Worker(0));
    for consumer in ConsumerName::ALL {
        let reset = stream_of(&shop, consumer).await.reset_consumer(consumer.as_str(), Some(1)).await;
        // A ledger of years is never told again: its consumer begins with what is new.
        assert_eq!(reset.is_err(), consumer == ConsumerName::WorkerLedger, "{consumer:?}: {:?}", reset.err());
    }
    let webhooks = ConsumerName::WorkerWebhooks;
    let info = stream_of(&shop, webhooks).await.consumer_info(webhooks.as_str()).await.expect("its state");
    assert_eq!(info.num_pending, 2, "both webhooks come again");
    shop.start(Service::Worker(0));
    shop.until_idle().await;

    let after = (shop.messages_in(StreamName::History).await, shop.movements().await);
    assert_eq!(before, after, "nothing was recorded and nothing moved");
    assert_eq!(shop.dead_letters().await, 0);
    assert_eq!(shop.books(&id_of(&paid)).await[0]["refunds"], json!([]));
    shop.pay(&open).await;
    shop.until_status(&id_of(&open), "paid").await;
    shop.until_stock("MUG-01", 98, 0, 2).await;
    shop.is_healthy().await;
}

/// FN15: nothing moves while the consumers are paused, and the workers say so; resumed, everything goes on.
#[tokio::test]
async fn paused_consumers_are_told_of_and_go_on_when_they_are_resumed() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { answer_timeout: "500ms", ..ShopOptions::default() }).await;
    let open = shop.checkout("MUG-01", 1).await;
    let long = SystemTime::now() + Duration::from_secs(60 * 60);
    for consumer in ConsumerName::ALL {
        let paused = stream_of(&shop, consumer).await.pause_consumer(consumer.as_str(), long.into()).await;
        assert!(paused.expect("a pause").paused);
    }
    let id = accepted(&shop).await;
    shop.pay(&open).await;
    eventually("the worker tells of the pause and of what waits", async || {
        shop.logs().lines().any(|line| line.contains("paused this consumer: 1 messages wait")).then_some(())
    })
    .await;
    assert_eq!(shop.view(&id).await["status"], "reserving");
    assert_eq!(shop.view(&id_of(&open)).await["status"], "awaiting_payment");

    for consumer in ConsumerName::ALL {
        let resumed = stream_of(&shop, consumer).await.resume_consumer(consumer.as_str()).await;
        assert!(!resumed.expect("resumed").paused);
    }
    shop.until_status(&id_of(&open), "paid").await;
    let view = shop.until_status(&id, "awaiting_payment").await;
    shop.pay(&view).await;
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 98, 0, 2).await;
    shop.is_healthy().await;
}

/// I8: an operator lets no new checkout get to the provider for a while, by pausing the consumer of the commands. New ones
/// queue and hold nothing; those that wait for their customer hold their stock and can be paid; then the queue is worked off.
#[tokio::test]
async fn new_checkouts_queue_while_the_consumer_of_the_commands_is_paused() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { answer_timeout: "500ms", ..ShopOptions::default() }).await;
    let (paid, held) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    let consumer = ConsumerName::WorkerCommands;
    let long = SystemTime::now() + Duration::from_secs(60 * 60);
    stream_of(&shop, consumer).await.pause_consumer(consumer.as_str(), long.into()).await.expect("a pause");

    let queued = [accepted(&shop).await, accepted(&shop).await];
    shop.pay(&paid).await;
    shop.until_status(&id_of(&paid), "paid").await;
    shop.until_stock("MUG-01", 98, 1, 1).await;
    assert_eq!(shop.view(&id_of(&held)).await["status"], "awaiting_payment");
    for id in &queued {
        assert_eq!(shop.view(id).await["status"], "reserving");
        assert!(shop.books(id).await.is_empty(), "the provider has not heard of it");
    }

    stream_of(&shop, consumer).await.resume_consumer(consumer.as_str()).await.expect("resumed");
    for id in &queued {
        let view = shop.until_status(id, "awaiting_payment").await;
        shop.pay(&view).await;
        shop.until_status(id, "paid").await;
    }
    shop.pay(&held).await;
    shop.until_status(&id_of(&held), "paid").await;
    shop.until_stock("MUG-01", 96, 0, 4).await;
    shop.is_healthy().await;
}

/// FN15: services do not make consumers; they say what to run, and go on by themselves when it was run. What had been taken
/// before comes again and changes nothing.
#[tokio::test]
async fn deleted_consumers_are_made_again_by_the_provisioner_alone_and_the_services_go_on() {
    let options = ShopOptions { answer_timeout: "500ms", inventories: 2, ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    let (paid, open) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    shop.pay(&paid).await;
    shop.until_status(&id_of(&paid), "paid").await;
    shop.until_idle().await;
    for consumer in ConsumerName::ALL {
        stream_of(&shop, consumer).await.delete_consumer(consumer.as_str()).await.expect("deleted");
    }
    let id = accepted(&shop).await;
    shop.pay(&open).await;
    eventually("the services say what to run", async || shop.logs().contains("deploy provision").then_some(())).await;
    for consumer in ConsumerName::ALL {
        let found = shop
            .nats
            .jetstream
            .get_consumer_from_stream::<pull::Config, _, _>(consumer.as_str(), consumer.stream().as_str())
            .await;
        assert!(found.is_err(), "{} of {} is back", consumer.as_str(), consumer.stream().as_str());
    }

    provision_again(&shop).await;
    let patience = Duration::from_secs(90);
    eventually_within(patience, "the paid one is paid", async || {
        (shop.view(&id_of(&open)).await["status"] == "paid").then_some(())
    })
    .await;
    let view = shop.until_status(&id, "awaiting_payment").await;
    shop.pay(&view).await;
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 97, 0, 3).await;
    assert_eq!(shop.dead_letters().await, 0);
    shop.is_healthy().await;
}
