//! A wake-up call is a hint: told twice, too early, too late or to nobody, the recorded deadline decides.

use std::time::Duration;

use common::{contracts::checkout::CheckoutEvent, ids::WorkflowId, record::Record, time};
use serde_json::Value;
use stories::{Service, Shop, ShopOptions};

fn id(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

async fn wake(shop: &Shop, id: &str) {
    for _ in 0..2 {
        shop.store(&format!("due.checkout.{id}"), "").await;
    }
}

/// FT5: to one that has ended, to one that is unknown, to one that waits: nothing happens.
#[tokio::test]
async fn a_call_that_nobody_waits_for_changes_nothing() {
    let shop = Shop::open(crate::SERVICE).await;
    let paid = shop.checkout("MUG-01", 1).await;
    shop.pay(&paid).await;
    shop.until_status(&id(&paid), "paid").await;
    let waiting = shop.checkout("MUG-01", 1).await;
    let unknown = WorkflowId::random().to_string();
    shop.until_idle().await;

    for id in [&id(&paid), &id(&waiting), &unknown] {
        wake(&shop, id).await;
    }
    shop.store(&format!("due.refund.{unknown}"), "").await;
    shop.until_idle().await;
    assert_eq!(shop.event_types(&id(&paid)).await.len(), 5);
    assert_eq!(shop.event_types(&id(&waiting)).await.len(), 3);
    assert_eq!(shop.records(&unknown).await.len(), 0);
    assert_eq!(shop.dead_letters().await, 0);
    shop.until_stock("MUG-01", 98, 1, 1).await;
    shop.is_healthy().await;
}

/// FT5: calls that come early change nothing, and the deadline is kept all the same, to the second and once.
#[tokio::test]
async fn a_call_that_comes_early_does_not_shorten_the_time_to_pay() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "3s", ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = id(&checkout);
    wake(&shop, &id).await;
    shop.until_idle().await;
    assert_eq!(shop.view(&id).await["status"], "awaiting_payment");
    shop.until_status(&id, "expired").await;

    the_deadline_was_kept(&shop, &id).await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    wake(&shop, &id).await;
    shop.until_idle().await;
    assert_eq!(shop.event_types(&id).await.len(), 6);
    shop.is_healthy().await;
}

/// The deadline that was recorded has passed once, and not before its time.
async fn the_deadline_was_kept(shop: &Shop, id: &str) {
    let records = shop.records(id).await;
    let records = records
        .iter()
        .map(|stored| serde_json::from_slice::<Record<CheckoutEvent>>(&stored.payload).expect("a record"));
    let records: Vec<_> = records.collect();
    let deadline = records.iter().flat_map(|record| &record.events).find_map(|event| match event {
        CheckoutEvent::StockReserved { payment_deadline } => Some(*payment_deadline),
        _ => None,
    });
    let passed: Vec<_> = records.iter().filter(|record| record.events == [CheckoutEvent::DeadlinePassed {}]).collect();
    assert_eq!(passed.len(), 1);
    assert!(Some(passed[0].at) >= deadline, "{records:?}");
}

/// E2: workers die and are started again while the customer has time; each replays the checkout, none moves its deadline.
#[tokio::test]
async fn a_worker_that_dies_again_and_again_does_not_move_the_deadline() {
    let mut shop =
        Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "5s", ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = id(&checkout);
    for _ in 0..4 {
        shop.kill(Service::Worker(0));
        shop.start(Service::Worker(0));
        // So that it looks at the checkout at all.
        wake(&shop, &id).await;
        shop.until_idle().await;
    }
    assert_eq!(shop.view(&id).await["expires_at"], checkout["expires_at"]);
    shop.until_status(&id, "expired").await;
    the_deadline_was_kept(&shop, &id).await;
    assert_eq!(shop.event_types(&id).await.len(), 6);
    shop.until_stock("MUG-01", 100, 0, 0).await;
    shop.is_healthy().await;
}

/// FT3: the call comes late because nothing ran, and the customer had paid in time meanwhile: it is paid.
#[tokio::test]
async fn a_payment_in_time_counts_although_the_deadline_passed_while_nothing_ran() {
    let mut shop =
        Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "4s", ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = id(&checkout);
    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        shop.kill(service);
    }
    shop.pay(&checkout).await;
    shop.server.kill().expect("kill nats-server");
    let deadline: time::Timestamp = checkout["expires_at"].as_str().expect("a deadline").parse().expect("a time");
    tokio::time::sleep(time::until(deadline) + Duration::from_millis(100)).await;
    shop.server.restart().await.expect("start nats-server again");
    shop.start_all();
    shop.until_ready().await;
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    let books = shop.books(&id).await;
    assert_eq!((books.len(), books[0]["refunds"].as_array().map(Vec::len)), (1, Some(0)));
    shop.is_healthy().await;
}
