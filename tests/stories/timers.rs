//! A wake-up call is a hint: told twice, too early, too late or to nobody, the recorded deadline decides.

use std::time::Duration;

use common::{
    contracts::{checkout::CheckoutEvent, wake_up::WakeUpCalls},
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::read,
    record::Record,
    streams::StreamName,
    time,
};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use stories::{Service, Shop, ShopOptions, eventually};
use workflow_worker::timers::Timers;

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
    let records = records.iter().map(|stored| Record::<CheckoutEvent>::from_bytes(&stored.payload).expect("a record"));
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

/// So many calls are due at the same moment.
const CROWD: usize = 10_000;

/// The last of them comes this much later at most; 20,000 came within 300 ms on a quiet machine.
const LATENESS: Duration = Duration::from_secs(20);

/// E14: ten thousand calls are due at the same moment as a checkout's deadline. Every one comes, and the deadline is kept.
#[tokio::test]
async fn ten_thousand_calls_that_are_due_at_once_all_come() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "25s", ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let due: time::Timestamp = checkout["expires_at"].as_str().and_then(|text| text.parse().ok()).expect("a deadline");
    let timers = Timers::new(shop.nats.clone());
    let mut setting = stream::iter(0..CROWD)
        .map(|_| {
            let stranger = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
            timers.set(stranger, due, None)
        })
        .buffer_unordered(500);
    while let Some(set) = setting.next().await {
        set.expect("a call is set");
    }
    assert!(time::now() < due, "this machine is too slow to set {CROWD} calls within 25 s");

    shop.until_status(&id(&checkout), "expired").await;
    let calls = eventually("every call has come", async || {
        let calls = whole(&shop, "due.*.*").await;
        (calls.iter().map(woken).sum::<usize>() > CROWD).then_some(calls)
    })
    .await;
    assert_eq!(calls.iter().map(woken).sum::<usize>(), CROWD + 1, "each once");
    assert!(calls.len() < CROWD / 4, "many are woken by one call: {} calls", calls.len());
    let last = calls.iter().map(|call| call.time).max().expect("calls");
    let late = last.duration_since(due);
    assert!(
        late <= jiff::SignedDuration::try_from(LATENESS).expect("a short time"),
        "the last call came {late:?} late"
    );
    shop.until_idle().await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    shop.is_healthy().await;
}

/// How many a call wakes.
fn woken(call: &read::Stored) -> usize {
    if call.subject.starts_with("due.group.") {
        serde_json::from_slice::<WakeUpCalls>(&call.payload).expect("a call for many").workflows.len()
    } else {
        1
    }
}

/// Everything in the stream of timers on some subjects.
async fn whole(shop: &Shop, filter: &str) -> Vec<read::Stored> {
    let (mut all, mut from) = (Vec::new(), 1);
    loop {
        let batch = read::stretch(&shop.nats, StreamName::Timers, from, 1_000, filter).await.expect("read the timers");
        from = batch.messages.last().map_or(from, |last| last.sequence + 1);
        all.extend(batch.messages);
        if !batch.more {
            return all;
        }
    }
}
