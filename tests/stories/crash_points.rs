//! Each service dies at every place where something has just been, or is just going to be, stored, sent or acked. It is
//! started again, and the checkout ends as it would have, with the same books.
//!
//! `point:n` dies at the n-th time that the point is reached. A case whose point is not reached fails.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

#[rstest]
#[tokio::test]
async fn a_worker_dies_during_a_paid_checkout(
    #[values(
        "worker.history.before_append:1",
        "worker.history.before_append:2",
        "worker.history.before_append:3",
        "worker.history.before_append:4",
        "worker.history.before_append:5",
        "worker.history.after_append:1",
        "worker.history.after_append:2",
        "worker.history.after_append:3",
        "worker.history.after_append:4",
        "worker.history.after_append:5",
        "worker.inventory_command.before_publish:1",
        "worker.inventory_command.before_publish:2",
        "worker.inventory_command.after_publish:1",
        "worker.inventory_command.after_publish:2",
        "worker.open_session.before_call",
        "worker.open_session.after_call",
        "worker.timer.before_set",
        "worker.timer.after_set",
        "worker.before_ack:1",
        "worker.before_ack:2",
        "worker.before_ack:3",
        "worker.before_ack:4",
        "worker.after_ack:1",
        "worker.after_ack:2",
        "worker.after_ack:3",
        "worker.after_ack:4"
    )]
    point: &str,
) {
    dies_while_paid(Service::Worker(0), point).await;
}

#[rstest]
#[tokio::test]
async fn a_worker_dies_during_an_expired_checkout(
    #[values(
        "worker.history.before_append:4",
        "worker.history.before_append:5",
        "worker.history.before_append:6",
        "worker.history.after_append:4",
        "worker.history.after_append:5",
        "worker.history.after_append:6",
        "worker.inventory_command.before_publish:2",
        "worker.inventory_command.after_publish:2",
        "worker.close_session.before_call",
        "worker.close_session.after_call",
        "worker.before_ack:3",
        "worker.before_ack:4",
        "worker.after_ack:3",
        "worker.after_ack:4"
    )]
    point: &str,
) {
    dies_while_expired(Service::Worker(0), point).await;
}

#[rstest]
#[tokio::test]
async fn an_inventory_service_dies_during_a_paid_checkout(
    #[values(
        "inventory.before_append:1",
        "inventory.before_append:2",
        "inventory.after_append:1",
        "inventory.after_append:2",
        "inventory.after_answer:1",
        "inventory.after_answer:2",
        "inventory.after_ack:1",
        "inventory.after_ack:2"
    )]
    point: &str,
) {
    dies_while_paid(Service::Inventory(0), point).await;
}

#[rstest]
#[tokio::test]
async fn an_inventory_service_dies_while_an_expired_checkout_gives_its_stock_back(
    #[values(
        "inventory.before_append:2",
        "inventory.after_append:2",
        "inventory.after_answer:2",
        "inventory.after_ack:2"
    )]
    point: &str,
) {
    dies_while_expired(Service::Inventory(0), point).await;
}

#[rstest]
#[tokio::test]
async fn a_gateway_dies_during_a_paid_checkout(
    #[values(
        "gateway.before_publish",
        "gateway.after_publish",
        "gateway.before_webhook_append",
        "gateway.after_webhook_append"
    )]
    point: &str,
) {
    dies_while_paid(Service::Gateway(0), point).await;
}

#[rstest]
#[tokio::test]
async fn a_gateway_dies_during_an_expired_checkout(
    #[values("gateway.before_publish", "gateway.after_publish")] point: &str,
) {
    dies_while_expired(Service::Gateway(0), point).await;
}

#[rstest]
#[tokio::test]
async fn a_worker_dies_while_late_money_goes_back(
    #[values("worker.refund.before_call", "worker.refund.after_call")] point: &str,
) {
    let mut shop = open("1s").await;
    let checkout = checkout(&mut shop, Service::Sandbox).await;
    let id = id(&checkout);
    shop.until_status(&id, "expired").await;
    shop.kill(Service::Worker(0));
    shop.start_to_crash(Service::Worker(0), point);
    shop.fault(json!({ "call": "submit_payment", "fault": "pay_after_close" })).await;
    shop.pay(&checkout).await;
    revive(&mut shop, Service::Worker(0), point).await;
    shop.until(&id, "the money has gone back", |view| view["refund"] == "refunded").await;
    assert_eq!(shop.books(&id).await[0]["refunds"].as_array().map(Vec::len), Some(1));
    shop.is_healthy().await;
}

async fn open(payment_timeout: &'static str) -> Shop {
    let ack_wait = Some(Duration::from_secs(2));
    Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout, ack_wait, ..ShopOptions::default() }).await
}

fn id(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

/// Ask with one key until there is a payment link; the service that dies meanwhile is started again.
async fn checkout(shop: &mut Shop, dying: Service) -> Value {
    let items = json!([{ "sku": "MUG-01", "quantity": 2 }]);
    let started = std::time::Instant::now();
    loop {
        if let Ok(answer) = shop.post_checkout(Some("the-one"), &items).send().await
            && answer.status() == 201
        {
            return answer.json().await.expect("JSON");
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no payment link within a minute\n{}", shop.logs());
        if dying != Service::Sandbox && shop.has_ended(dying) {
            shop.start(dying);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Wait until the service has died at its point, and start it again; or it has been started again already.
async fn revive(shop: &mut Shop, service: Service, point: &str) {
    let what = format!("{service:?} dies at {point}");
    eventually(&what, async || (shop.crashes(service) > 0 || shop.has_ended(service)).then_some(())).await;
    if !shop.is_running(service) {
        shop.start(service);
    }
}

async fn dies_while_paid(service: Service, point: &str) {
    let mut shop = open("10m").await;
    shop.kill(service);
    shop.start_to_crash(service, point);
    let checkout = checkout(&mut shop, service).await;
    let id = id(&checkout);
    shop.pay(&checkout).await;
    revive(&mut shop, service, point).await;
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 98, 0, 2).await;
    let expected = ["checkout_started", "stock_reserved", "payment_session_opened", "payment_received", "stock_sold"];
    assert_eq!(shop.event_types(&id).await, expected);
    let books = shop.books(&id).await;
    assert_eq!(books.len(), 1, "one session");
    assert_eq!(books[0]["charges"].as_array().map(Vec::len), Some(1), "one charge");
    assert_eq!(books[0]["refunds"].as_array().map(Vec::len), Some(0), "no refund");
    shop.is_healthy().await;
}

async fn dies_while_expired(service: Service, point: &str) {
    let mut shop = open("1s").await;
    shop.kill(service);
    shop.start_to_crash(service, point);
    // The deadline may pass before an answer arrives; the order is found by its key either way.
    let items = json!([{ "sku": "MUG-01", "quantity": 2 }]);
    let id = eventually("the key has a checkout", async || {
        if shop.is_running(service) && shop.has_ended(service) {
            shop.start(service);
        }
        let answer = shop.post_checkout(Some("the-one"), &items).send().await.ok()?;
        let body: Value = answer.json().await.ok()?;
        body["workflow_id"].as_str().map(str::to_owned)
    })
    .await;
    revive(&mut shop, service, point).await;
    // A gateway that died before it stored the command has accepted nothing: the customer asks again.
    let _ = shop.post_checkout(Some("the-one"), &items).send().await;
    shop.until_status(&id, "expired").await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    let events = shop.event_types(&id).await;
    assert_eq!(events.iter().filter(|event| **event == "stock_released").count(), 1, "{events:?}");
    assert!(shop.books(&id).await.iter().all(|session| session["charges"].as_array().is_some_and(Vec::is_empty)));
    shop.is_healthy().await;
}

/// No boundary is missing: the points in the code are the points in this file (or in the inventory's own stories).
#[test]
fn every_crash_point_of_the_code_is_in_a_story() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let stories: String =
        files(&root.join("tests/stories")).iter().map(|file| std::fs::read_to_string(file).expect("a story")).collect();
    let mut missing = Vec::new();
    for folder in ["common/src", "gateway/src", "workflow-worker/src", "inventory-service/src"] {
        for file in files(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            for rest in text.split("crash_point!(\"").skip(1) {
                let point = rest.split('"').next().expect("a name");
                if point.contains('.') && !stories.contains(&format!("\"{point}")) {
                    missing.push(point.to_owned());
                }
            }
        }
    }
    assert!(missing.is_empty(), "no story dies at {missing:?}");
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of sources").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
