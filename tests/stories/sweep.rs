//! The safety net: what has been forgotten by a fault that no mechanism covers is found, nudged, and ends.

use std::time::Duration;

use async_nats::{HeaderMap, header};
use common::{
    contracts::checkout::{CheckoutEvent, Line, RequestFingerprint},
    headers,
    ids::WorkflowId,
    money::Money,
    nats::read,
    record::Record,
    streams::{ConsumerName, StreamName},
    subject::Subject,
};
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

/// A sweep that soon finds what is late by a second.
fn watchful() -> ShopOptions {
    let worker_flags = &["--sweep-interval=300ms", "--forgotten-after=1s"];
    ShopOptions { worker_flags, payment_timeout: "2s", ..ShopOptions::default() }
}

fn id(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

/// A checkout whose start is recorded, and whose worker has vanished together with its command.
#[tokio::test]
async fn a_checkout_that_nobody_has_in_hand_is_found_and_goes_on() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "10m", ..watchful() }).await;
    let id = store_a_start(&shop).await;

    let view = shop.until_status(&id, "awaiting_payment").await;
    shop.pay(&view).await;
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// Record the start of a checkout of one mug as a worker would that vanished right after it; its id.
pub(crate) async fn store_a_start(shop: &Shop) -> String {
    let id = WorkflowId::random().to_string();
    let (price, sku) = (Money::eur(1490), "MUG-01".parse().expect("a sku"));
    let started = CheckoutEvent::CheckoutStarted {
        lines: vec![Line { sku, name: "Stoneware mug".into(), quantity: 1, unit_price: price }],
        total: price,
        fingerprint: RequestFingerprint("by hand".into()),
        payment_timeout_ms: 600_000,
        provider: "sandbox".parse().expect("a provider"),
    };
    let record = Record {
        types: "checkout_started".into(),
        index: 0,
        status: "reserving".into(),
        at: common::time::now(),
        events: vec![started],
        previous: None,
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    headers.insert(headers::TYPE, "checkout_started");
    headers.insert(headers::INDEX, "0");
    headers.insert(headers::STATUS, "reserving");
    headers.insert(headers::NEXT, "run");
    let record = record.to_bytes().expect("writable");
    shop.store_with_headers(&format!("history.checkout.{id}"), headers, record).await;
    id
}

/// Its wake-up call is lost, and the worker that knew of it is gone, too: the recorded deadline is the truth.
#[tokio::test]
async fn a_deadline_whose_timer_was_lost_is_kept() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { workers: 2, ..watchful() }).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = id(&checkout);
    shop.lose(StreamName::Timers, &format!("timer.checkout.{id}")).await;
    shop.lose(StreamName::Timers, &format!("due.checkout.{id}")).await;
    shop.kill(Service::Worker(0));
    shop.until_status(&id, "expired").await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    shop.is_healthy().await;
}

/// The command to the inventory is lost before it was taken.
#[tokio::test]
async fn a_reservation_that_was_lost_on_its_way_is_asked_for_again() {
    let options = ShopOptions { answer_timeout: "500ms", payment_timeout: "10m", ..watchful() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    shop.kill(Service::Inventory(0));
    let answer =
        shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 1 }])).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let id = id(&answer.json().await.expect("JSON"));
    shop.lose(StreamName::InventoryCommands, "inventory.command.>").await;
    shop.start(Service::Inventory(0));
    let view = shop.until_status(&id, "awaiting_payment").await;
    shop.until_stock("MUG-01", 99, 1, 0).await;
    shop.pay(&view).await;
    shop.until_status(&id, "paid").await;
    shop.is_healthy().await;
}

/// The answer of the inventory is lost before a worker has taken it: asked again, it answers the same.
#[tokio::test]
async fn an_answer_that_was_lost_on_its_way_is_given_again() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "10m", ..watchful() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = id(&checkout);
    shop.kill(Service::Inventory(0));
    shop.pay(&checkout).await;
    shop.until_status(&id, "settling").await;
    shop.until(&id, "it is recorded as paid", |view| view["timeline"].as_array().is_some_and(|all| all.len() == 4))
        .await;
    shop.kill(Service::Worker(0));
    shop.start(Service::Inventory(0));
    shop.until_stock("MUG-01", 99, 0, 1).await;
    // Somebody deletes the consumer of the ledger; made again, it begins with what is new.
    let (name, stream) = (ConsumerName::WorkerLedger.as_str(), StreamName::Inventory.as_str());
    let ledger = shop.nats.jetstream.get_stream(stream).await.expect("the ledger");
    ledger.delete_consumer(name).await.expect("deleted");
    ledger.create_consumer(ConsumerName::WorkerLedger.config()).await.expect("made again");
    shop.start(Service::Worker(0));
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// The sweep's own call stands there and does not go off: here because somebody has set it for a day that is far away.
#[tokio::test]
async fn a_sweep_whose_call_does_not_go_off_is_called_anew() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "10m", ..watchful() }).await;
    eventually("nothing but a call for a day that is far away is set", async || {
        let far_away = store_a_call_for(&shop, "2199-01-01T00:00:00Z").await;
        // A sweep that was just running has moved its call after that.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let call = read::last(&shop.nats, StreamName::Timers, &Subject::SweepTimer).await.ok()??;
        (call.sequence == far_away).then_some(())
    })
    .await;
    let id = store_a_start(&shop).await;
    shop.until_status(&id, "awaiting_payment").await;
    assert!(shop.logs().contains("does not go off"), "the worker says that it has set the call again");
}

async fn store_a_call_for(shop: &Shop, day: &str) -> u64 {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_SCHEDULE, format!("@at {day}"));
    headers.insert(header::NATS_SCHEDULE_TARGET, Subject::SweepDue.to_string());
    headers.insert(header::NATS_ROLLUP, "sub");
    shop.store_with_headers(&Subject::SweepTimer.to_string(), headers, "{}").await
}

/// What needs no nudge gets none: a checkout that waits for its customer, and one that expires by its own timer.
#[tokio::test]
async fn nobody_is_nudged_without_need() {
    let worker_flags = &["--sweep-interval=100ms", "--forgotten-after=1s"];
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { worker_flags, ..watchful() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.until_status(&id(&checkout), "expired").await;
    shop.until_idle().await;
    let sweeps = shop.messages_ever_in(StreamName::Timers).await;
    stories::eventually("it is swept some more", async || {
        (shop.messages_ever_in(StreamName::Timers).await > sweeps + 10).then_some(())
    })
    .await;
    // The start. What the inventory answered to reserve and release stands in its ledger.
    assert_eq!(shop.messages_ever_in(StreamName::Commands).await, 1);
    shop.is_healthy().await;
}
