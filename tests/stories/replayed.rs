//! CASES G2, G15, FP17, FP18, K7: before a new build is deployed, it replays every stored history, on the spot or from a
//! file; a build that would make something else of one says so, and does nothing.

use std::path::Path;

use async_nats::HeaderMap;
use common::{headers, ids::WorkflowId};
use serde_json::{Value, json};
use stories::{OPERATOR_TOKEN, Service, Shop, ShopOptions};

/// Run the operator's command line; what it printed and whether it says that all is as it was.
pub(crate) async fn replay(shop: &Shop, more: &[&str]) -> (Value, bool) {
    let mut command = tokio::process::Command::new(crate::SERVICE);
    command.args(["replay", "--json", "--nats-url", &shop.server.client_url()]).args(more).env("RUST_LOG", "warn");
    let output = command.output().await.expect("run a replay");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    assert!([Some(0), Some(1)].contains(&output.status.code()), "{errors}");
    (printed, output.status.success())
}

fn id(checkout: &Value) -> &str {
    checkout["workflow_id"].as_str().expect("an id")
}

/// Some of every way: paid, refunded by hand, declined, cancelled, out of stock, and one that goes on.
pub(crate) async fn a_busy_day(shop: &Shop) {
    let sell = async || {
        let checkout = shop.checkout("MUG-01", 1).await;
        shop.pay(&checkout).await;
        shop.until_status(id(&checkout), "paid").await;
        id(&checkout).to_owned()
    };
    let sold = sell().await;
    for _ in 0..5 {
        sell().await;
    }
    let url = format!("{}/api/checkout_session/{sold}/refund", shop.shop_url());
    let asked = shop.http.post(url).bearer_auth(OPERATOR_TOKEN).json(&json!({ "reason": "broken" })).send().await;
    assert!(asked.expect("an answer").status().is_success());
    shop.until(&sold, "refunded", |view| view["refund"] == "refunded").await;
    let declined = shop.checkout("MUG-01", 2).await;
    shop.at_provider("decline_payment", &declined).await;
    shop.until_status(id(&declined), "declined").await;
    let cancelled = shop.checkout("MUG-01", 3).await;
    let url = format!("{}/api/checkout_session/{}/cancel", shop.shop_url(), id(&cancelled));
    shop.http.post(url).send().await.expect("an answer");
    shop.until_status(id(&cancelled), "cancelled").await;
    shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 1_000 }])).send().await.expect("an answer");
    shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
}

#[tokio::test]
async fn the_same_histories_give_the_same_result_whenever_and_wherever_they_are_replayed() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { workers: 2, ..ShopOptions::default() }).await;
    a_busy_day(&shop).await;

    let (first, is_as_it_was) = replay(&shop, &["--all"]).await;
    assert!(is_as_it_was, "{first:#}");
    assert_eq!(first["histories"], json!({ "checkout": 10, "refund": 1 }));
    assert!(first["records"].as_u64() > Some(40), "{first:#}");
    let hash = first["hash"].as_str().expect("a hash").to_owned();
    assert_eq!(replay(&shop, &["--all"]).await.0, first, "again");

    let folder = tempfile::tempdir().expect("a folder for the export");
    let file = path(folder.path(), "histories.jsonl");
    assert_eq!(replay(&shop, &["--all", "--export", &file]).await.0, first, "while it is exported");
    shop.kill_all();
    shop.restart_server().await;
    assert_eq!(replay(&shop, &["--all", "--expect", &hash]).await.0["hash"], first["hash"], "after a restart");

    let (offline, is_as_it_was) = replay(&shop, &["--from-file", &file, "--expect", &hash]).await;
    assert!(is_as_it_was, "from the file: {offline:#}");
    let (other, is_as_it_was) = replay(&shop, &["--from-file", &file, "--expect", &"0".repeat(64)]).await;
    assert!(!is_as_it_was && other["diverging"] == 0, "another result was expected: {other:#}");
}

#[tokio::test]
async fn one_history_that_this_build_would_lead_elsewhere_is_named_with_its_place() {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    let (one, is_as_it_was) = replay(&shop, &[id(&checkout)]).await;
    assert!(is_as_it_was && one["histories"]["checkout"] == 1, "{one:#}");

    // Another build has called it paid when it had only begun.
    let tampered = WorkflowId::random();
    let record = &shop.records(id(&checkout)).await[0];
    let body = String::from_utf8(record.payload.to_vec()).expect("JSON").replacen("reserving", "paid", 1);
    let mut stored = HeaderMap::new();
    stored.insert(headers::NEXT, "done");
    let sequence = shop.store_with_headers(&format!("history.checkout.{tampered}"), stored, body).await;

    let (all, is_as_it_was) = replay(&shop, &["--all"]).await;
    assert!(!is_as_it_was, "{all:#}");
    assert_eq!((&all["diverging"], &all["histories"]["checkout"]), (&json!(1), &json!(2)));
    let expected = json!([{
        "workflow": format!("checkout {tampered}"), "index": 0, "sequence": sequence,
        "what": "status", "recorded": "paid", "replayed": "reserving",
    }]);
    assert_eq!(all["divergences"], expected);
    let (still, is_as_it_was) = replay(&shop, &[id(&checkout)]).await;
    assert!(is_as_it_was && still["hash"] == one["hash"], "the other one is as it was");
}

/// CASES G7, G11, FP17: while a new version is deployed, workers of the old one meet its records. They leave them alone,
/// and keep their commands for a worker that can; everybody else is served.
#[tokio::test]
async fn a_history_of_a_newer_version_is_left_to_a_newer_worker() {
    let mut shop = Shop::open(crate::SERVICE).await;
    let model = shop.checkout("MUG-01", 1).await;
    let records = shop.records(id(&model)).await;
    let newer = WorkflowId::random();
    let text = String::from_utf8(records[0].payload.to_vec()).expect("JSON");
    assert!(text.contains(r#""version":2"#), "{text}");
    let body = text.replacen(r#""version":2"#, r#""version":99"#, 1).replacen("checkout_started", "teleported", 2);
    shop.store(&format!("history.checkout.{newer}"), body).await;
    let cancel = r#"{"type":"cancel","by":"operator"}"#;
    shop.store(&format!("command.checkout.{newer}"), cancel).await;
    let kept = async |shop: &Shop| shop.messages_in(common::streams::StreamName::Commands).await;
    stories::eventually("the command is handed back", async || {
        shop.logs().contains("needs a newer version").then_some(())
    })
    .await;

    shop.pay(&model).await;
    shop.until_status(id(&model), "paid").await;
    assert_eq!((kept(&shop).await, shop.dead_letters().await), (1, 0), "kept, not parked");
    assert_eq!(shop.messages_in(common::streams::StreamName::History).await, 6, "nothing was added to it");

    // Another worker of the same version leaves it alone as well.
    shop.kill(Service::Worker(0));
    shop.start(Service::Worker(0));
    let after = shop.checkout("MUG-01", 1).await;
    shop.pay(&after).await;
    shop.until_status(id(&after), "paid").await;
    assert_eq!((kept(&shop).await, shop.dead_letters().await), (1, 0), "still kept, still not parked");
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path of plain text").to_owned()
}
