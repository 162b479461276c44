//! Things are killed in the middle.

use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions};

/// Everything is killed while customers are at the provider; they pay while nobody listens; everything goes on.
#[tokio::test]
async fn a_purchase_goes_on_after_everything_was_killed() {
    let mut shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
    shop.kill(Service::Gateway(0));
    shop.kill(Service::Worker(0));
    shop.kill(Service::Inventory(0));
    shop.pay(&checkout).await;
    shop.kill_all();
    shop.restart_server().await;
    shop.start_all();
    shop.until_ready().await;
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// FT3: a deadline that passes while nothing runs is kept when something runs again.
#[tokio::test]
async fn a_deadline_that_passed_while_nothing_ran_is_kept() {
    let mut shop =
        Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "2s", ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
    shop.kill_all();
    shop.server.kill().expect("kill nats-server");
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    shop.server.restart().await.expect("start nats-server again");
    shop.start_all();
    shop.until_ready().await;
    shop.until_status(&id, "expired").await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    shop.is_healthy().await;
}

/// A14: while NATS is down nothing is accepted; afterwards the same key works.
#[tokio::test]
async fn while_nats_is_down_nothing_is_accepted_and_nothing_half_done() {
    let mut shop = Shop::open(crate::SERVICE).await;
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    shop.server.kill().expect("kill nats-server");
    let answer = shop.post_checkout(Some("down-1"), &items).send().await.expect("an answer");
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], "unavailable");
    shop.server.restart().await.expect("start nats-server again");
    shop.until_ready().await;
    let answer = stories::eventually("the same key works", async || {
        let answer = shop.post_checkout(Some("down-1"), &items).send().await.expect("an answer");
        (answer.status() == 201).then_some(answer)
    })
    .await;
    let checkout: Value = answer.json().await.expect("JSON");
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    assert_eq!(shop.books(id).await.len(), 1);
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// FP8: asked to stop, every service ends by itself, in order, with exit code 0.
#[tokio::test]
async fn services_that_are_asked_to_stop_end_in_order() {
    let mut shop = Shop::open(crate::SERVICE).await;
    shop.checkout("MUG-01", 1).await;
    for service in [Service::Gateway(0), Service::Sandbox, Service::Worker(0), Service::Inventory(0)] {
        shop.signal(service, rustix::process::Signal::TERM);
        let status = shop.exit_status(service).await;
        assert!(status.success(), "{service:?}: {status}\n{}", shop.logs());
    }
}
