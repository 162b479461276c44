//! Files of a stream are damaged below the server, which says nothing. What is left is whole, or nothing is done on it.

use common::streams::StreamName;
use deploy::doctor::Severity;
use serde_json::Value;
use stories::{Service, Shop, ShopOptions, flip_a_bit, place_of};

fn id(checkout: &Value) -> &str {
    checkout["workflow_id"].as_str().expect("an id")
}

/// FD5, G8: one bit flips and the server is restarted in good order: one record is gone, in silence. The checkout stays
/// where it is; the others go on.
#[tokio::test]
async fn a_hole_in_a_history_stops_that_checkout_and_no_other() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions::on_one_server()).await;
    let damaged = shop.checkout("MUG-01", 1).await;
    let other = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    let records = shop.records(id(&damaged)).await;
    assert_eq!(records.len(), 3);
    // A worker that knows the history by heart would not read it again.
    shop.kill(Service::Worker(0));
    shop.server.stop().await.expect("stop nats-server");
    let block = &shop.blocks(StreamName::History)[0];
    flip_a_bit(block, place_of(&records[1].payload, block) + 20);
    shop.server.restart().await.expect("start nats-server again");
    shop.start_all();
    shop.until_ready().await;
    assert_eq!(shop.records(id(&damaged)).await.len(), 2, "the server hides the damaged record");

    shop.pay(&damaged).await;
    let parked = shop.until_parked(1).await;
    assert_eq!(parked[0].area, "history");
    let gap = "record 1 expected, but the next one says that it is 2";
    assert!(parked[0].reason.contains(id(&damaged)) && parked[0].reason.contains(gap), "{}", parked[0].reason);
    let answer = shop.http.get(format!("{}/api/checkout_session/{}", shop.shop_url(), id(&damaged)));
    assert_eq!(answer.send().await.expect("an answer").status(), 500);

    shop.pay(&other).await;
    shop.until_status(id(&other), "paid").await;
    shop.until_idle().await;
    assert_eq!(shop.records(id(&damaged)).await.len(), 2, "nothing was appended");
    shop.until_stock("MUG-01", 98, 1, 1).await;
    let report = shop.examine().await;
    let broken: Vec<_> = report.of(Severity::Broken).collect();
    assert!(broken.iter().any(|finding| finding.text.contains(gap)), "{}", report.to_text());
    assert!(!broken.iter().any(|finding| finding.subject.contains(id(&other))), "{}", report.to_text());
}

/// FD7: the server's own index is only an index.
#[tokio::test]
async fn a_damaged_index_loses_nothing() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions::on_one_server()).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    let before = shop.messages_in(StreamName::History).await;
    shop.server.stop().await.expect("stop nats-server");
    for stream in [StreamName::History, StreamName::Inventory, StreamName::Webhooks] {
        let index = shop.stream_folder(stream).join("index.db");
        let length = std::fs::metadata(&index).expect("an index after an orderly stop").len();
        flip_a_bit(&index, length / 2);
    }
    shop.server.restart().await.expect("start nats-server again");
    shop.until_ready().await;
    assert_eq!(shop.messages_in(StreamName::History).await, before);
    shop.pay(&checkout).await;
    shop.until_status(id(&checkout), "paid").await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}
