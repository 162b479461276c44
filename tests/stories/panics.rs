//! Work for one checkout that panics is tried for a while, parked with its reason, and resumes when it is sent again; what needs
//! a newer worker is left to it. Nobody else is harmed.

use async_nats::{HeaderMap, header};
use common::{headers, record::RecordHash};
use rstest::rstest;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

use crate::dead_letters::dead_letters;

fn id_of(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

/// FP5, G6: a panic while deciding, while replaying and in a step. The webhook of the one is tried three times and parked,
/// and so is a cancel of the same checkout; the other is paid meanwhile, by the same worker. With the defect mended, what was
/// parked is sent again and the checkout is paid.
#[rstest]
#[tokio::test]
async fn a_checkout_whose_work_panics_is_parked_alone_and_resumes(
    #[values("worker.decide", "worker.evolve", "worker.step")] place: &str,
) {
    let worker_flags = &["--most-failures=3"];
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { worker_flags, ..ShopOptions::default() }).await;
    let (poisoned, other) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    let id = id_of(&poisoned);
    shop.until_idle().await;
    shop.kill(Service::Worker(0));
    shop.start_with(Service::Worker(0), "CHECKOUT_PANIC_AT", &format!("{place}:{id}"));

    shop.pay(&poisoned).await;
    shop.pay(&other).await;
    shop.until_status(&id_of(&other), "paid").await;
    let parked = shop.until_parked(1).await;
    let reason = &parked[0].reason;
    assert!(reason.contains("panicked") && reason.contains(place) && reason.contains("tried 3 times"), "{reason}");
    assert_eq!(parked[0].area, "webhook");
    shop.store(&format!("command.checkout.{id}"), r#"{"type":"nudge"}"#).await;
    let parked = shop.until_parked(2).await;
    assert_eq!(parked[1].area, "command", "{parked:#?}");
    assert!(!shop.has_ended(Service::Worker(0)), "the worker lives");
    assert_ne!(shop.view(&id).await["status"], "paid");
    assert_eq!(shop.books(&id).await[0]["refunds"], json!([]), "the money is not touched");

    shop.kill(Service::Worker(0));
    shop.start(Service::Worker(0));
    let redriven = dead_letters(&shop, &["redrive", "--all", "--reason", "panicked"]);
    assert!(redriven.status.success(), "{}", String::from_utf8_lossy(&redriven.stderr));
    shop.until_status(&id, "paid").await;
    assert_eq!(shop.books(&id).await[0]["charges"].as_array().map(Vec::len), Some(1));
    shop.until_stock("MUG-01", 98, 0, 2).await;
    shop.is_healthy().await;
}

/// G6: the start itself panics. Nothing was reserved or charged; sent again, it becomes a checkout like any other.
#[tokio::test]
async fn a_start_that_panics_is_parked_and_resumes() {
    let options = ShopOptions { worker_flags: &["--most-failures=2"], answer_timeout: "1s", ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    shop.kill(Service::Worker(0));
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let accepted = shop.post_checkout(Some("panics"), &items).send().await.expect("an answer");
    assert_eq!(accepted.status(), 202);
    let id = id_of(&accepted.json().await.expect("JSON"));
    shop.start_with(Service::Worker(0), "CHECKOUT_PANIC_AT", &format!("worker.decide:{id}"));
    shop.until_parked(1).await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    assert!(shop.books(&id).await.is_empty());

    shop.kill(Service::Worker(0));
    shop.start(Service::Worker(0));
    assert!(dead_letters(&shop, &["redrive", "--all"]).status.success());
    let checkout = shop.until_status(&id, "awaiting_payment").await;
    shop.pay(&checkout).await;
    shop.until_status(&id, "paid").await;
    shop.is_healthy().await;
}

/// G7, FP17: a newer worker has continued a checkout, with an event that this version does not know. This one declines: it does
/// nothing for the checkout, skips nothing, and hands its messages back for a newer one, also when that takes longer than any
/// failure may; the order is shown as continued by a newer version, which is not "damaged".
#[tokio::test]
async fn a_checkout_that_a_newer_worker_has_continued_is_left_to_it() {
    let worker_flags = &["--most-failures=2"];
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { worker_flags, ..ShopOptions::default() }).await;
    let (newer, other) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    let id = id_of(&newer);
    shop.until_idle().await;
    continue_as_a_newer_worker(&shop, &id).await;
    let records = shop.records(&id).await.len();

    shop.pay(&newer).await;
    shop.pay(&other).await;
    shop.until_status(&id_of(&other), "paid").await;
    eventually("it was handed back again and again", async || {
        let logs = shop.whole_logs();
        let declined = |line: &&str| line.contains("needs a newer version") && line.contains("handed back");
        (logs.lines().filter(declined).count() >= 4).then_some(())
    })
    .await;
    assert_eq!(shop.dead_letters().await, 0, "nothing is wrong with it");
    assert_eq!(shop.records(&id).await.len(), records, "nothing was appended");
    assert_eq!(shop.books(&id).await[0]["refunds"], json!([]), "the money is not touched");
    let url = format!("{}/api/checkout_session/{id}", shop.shop_url());
    let shown = shop.http.get(url).send().await.expect("an answer");
    assert_eq!(shown.status(), 503);
    let problem: Value = shown.json().await.expect("JSON");
    assert_eq!(problem["workflow_id"], json!(id));
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("newer version")), "{problem}");
    let report = shop.examine().await;
    assert!(report.findings.iter().any(|one| one.text.contains("needs a newer version")), "{}", report.to_text());
}

/// Put a sound record at the end of a checkout's history, with an event of tomorrow.
async fn continue_as_a_newer_worker(shop: &Shop, id: &str) {
    let records = shop.records(id).await;
    let last = records.last().expect("a history");
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.sequence.to_string());
    headers.insert(headers::NEXT, "wait");
    let record = json!({
        "type": "gift_wrapped", "version": 99, "index": records.len(), "status": "awaiting_payment", "at": common::time::now(),
        "events": [{ "type": "gift_wrapped", "ribbon": "red" }], "previous": RecordHash::of(&last.payload),
    });
    shop.store_with_headers(&format!("history.checkout.{id}"), headers, record.to_string()).await;
}
