//! What operators may do to streams while the shop is open: a purge of everything that is not a truth heals by itself; a
//! stream that is deleted makes the shop say that it is not ready, and nobody but the provisioner makes it again.

use common::streams::{Durability, Placement, StreamName};
use deploy::provision::provision;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

fn id_of(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

/// A sweep that soon finds what is late by a second.
fn watchful() -> ShopOptions {
    let worker_flags = &["--sweep-interval=300ms", "--forgotten-after=1s"];
    ShopOptions { worker_flags, answer_timeout: "500ms", ..ShopOptions::default() }
}

async fn purge(shop: &Shop, stream: StreamName) {
    let found = shop.nats.jetstream.get_stream(stream.as_str()).await.expect("a stream of the shop");
    found.purge().await.expect("a purge");
}

/// FN15: with one checkout paid but its webhook not yet taken, one whose stock is not yet reserved, and one whose start is not
/// yet taken, everything but the two truths and the catalogue is purged. The first is found out at its deadline, when the
/// provider is asked; the second is nudged; the third is not known, and its key starts it anew.
#[tokio::test]
async fn a_purge_of_everything_that_is_not_a_truth_loses_no_money_and_no_stock() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "8s", ..watchful() }).await;
    let paid = shop.checkout("MUG-01", 1).await;
    shop.kill(Service::Inventory(0));
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let reserving: Value =
        shop.post_checkout(None, &items).send().await.expect("an answer").json().await.expect("JSON");
    eventually("its start is recorded", async || {
        (!shop.records(&id_of(&reserving)).await.is_empty()
            && shop.messages_in(StreamName::InventoryCommands).await == 1)
            .then_some(())
    })
    .await;
    shop.kill(Service::Worker(0));
    shop.pay(&paid).await;
    eventually("the webhook is stored", async || (shop.messages_in(StreamName::Webhooks).await == 1).then_some(()))
        .await;
    let lost: Value =
        shop.post_checkout(Some("again"), &items).send().await.expect("an answer").json().await.expect("JSON");
    shop.store("webhook.sandbox.evt_poison", "no JSON").await;

    for stream in [
        StreamName::Commands,
        StreamName::InventoryCommands,
        StreamName::Webhooks,
        StreamName::Timers,
        StreamName::Stock,
        StreamName::DeadLetters,
    ] {
        purge(&shop, stream).await;
    }
    shop.start(Service::Worker(0));
    shop.start(Service::Inventory(0));
    let url = format!("{}/api/checkout_session/{}", shop.shop_url(), id_of(&lost));
    assert_eq!(shop.http.get(url).send().await.expect("an answer").status(), 404);

    // Found out at its deadline, by asking the provider.
    shop.until_status(&id_of(&paid), "paid").await;
    assert!(shop.event_types(&id_of(&reserving)).await.contains(&"stock_reserved"), "it was nudged");
    shop.until_status(&id_of(&reserving), "expired").await;
    let again = shop.post_checkout(Some("again"), &items).send().await.expect("an answer");
    let again: Value = again.json().await.expect("JSON");
    assert_eq!(id_of(&again), id_of(&lost), "the same key is the same checkout");
    shop.until_status(&id_of(&again), "expired").await;
    // A gateway that has not seen the stock before the purge reads what the inventory has written again.
    shop.kill(Service::Gateway(0));
    shop.start(Service::Gateway(0));
    shop.until_ready().await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    assert_eq!(shop.books(&id_of(&paid)).await[0]["charges"].as_array().map(Vec::len), Some(1));
    shop.is_healthy().await;
}

/// A purge of TIMERS takes the sweep's own call away with the deadlines. The worker that lives sets it again, and the sweep
/// finds the deadline in the history.
#[tokio::test]
async fn a_purge_of_the_timers_under_a_living_worker_delays_a_deadline_and_no_more() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "2s", ..watchful() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    purge(&shop, StreamName::Timers).await;
    shop.until_status(&id_of(&checkout), "expired").await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    shop.is_healthy().await;
}

/// FD11: nothing is accepted that cannot be stored, the shop says that it is not ready and why, and no service makes the
/// stream again: an empty stream in the place of a lost one would look like a shop without a past.
#[tokio::test]
async fn a_stream_that_is_deleted_closes_the_shop_until_the_provisioner_has_made_it_again() {
    let shop = Shop::open(crate::SERVICE).await;
    let open = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    shop.nats.jetstream.delete_stream("COMMANDS").await.expect("deleted");

    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let refused = shop.post_checkout(Some("while-deleted"), &items).send().await.expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let ready = shop.http.get(format!("{}/readyz", shop.shop_url())).send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    let why = ready.text().await.expect("a body");
    assert!(why.contains("COMMANDS"), "{why}");
    eventually("the worker says what to run", async || shop.logs().contains("deploy provision").then_some(())).await;
    assert!(shop.nats.jetstream.get_stream("COMMANDS").await.is_err(), "nobody has made it again");

    let placement = Placement {
        replicas: shop.server.replicas(),
        storage_bytes: 100 * 1024 * 1024,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&shop.nats, &placement).await.expect("provision");
    eventually("the shop is open again", async || {
        let answer = shop.post_checkout(Some("while-deleted"), &items).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    shop.pay(&open).await;
    shop.until_status(&id_of(&open), "paid").await;
    shop.is_healthy().await;
}

/// FD11: the same for the histories: an order that cannot be read is not "unknown".
#[tokio::test]
async fn without_its_histories_the_shop_does_not_say_that_an_order_is_unknown() {
    let shop = Shop::open(crate::SERVICE).await;
    let open = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    shop.nats.jetstream.delete_stream("HISTORY").await.expect("deleted");
    let url = format!("{}/api/checkout_session/{}", shop.shop_url(), id_of(&open));
    assert_eq!(shop.http.get(url).send().await.expect("an answer").status(), 503);
    let ready = shop.http.get(format!("{}/readyz", shop.shop_url())).send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.expect("a body").contains("HISTORY"));
    shop.pay(&open).await;
    eventually("the webhook is stored, and waits", async || {
        (shop.messages_in(StreamName::Webhooks).await == 1).then_some(())
    })
    .await;
    assert!(shop.nats.jetstream.get_stream("HISTORY").await.is_err(), "nobody has made it again");
}
