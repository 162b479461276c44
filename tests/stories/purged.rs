//! Somebody with the rights of an administrator purges the history of a paid checkout, and its customer asks again under
//! the same key. While the ledger and the provider remember the checkout, nobody is charged a second time and nothing is
//! sold a second time, and the loss does not go unnoticed.

use common::streams::StreamName;
use serde_json::{Value, json};
use stories::{Parked, Service, Shop, ShopOptions};

/// Sell a mug, let the worker forget what it knows or not, purge the history, and ask again.
async fn sold_purged_and_asked_again(worker_forgets: bool) -> (Shop, String, Vec<Parked>) {
    let options = ShopOptions { answer_timeout: "2s", ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let ask = async |shop: &Shop| shop.post_checkout(Some("once"), &items).send().await.expect("an answer");
    let checkout: Value = ask(&shop).await.json().await.expect("JSON");
    let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
    shop.pay(&checkout).await;
    shop.until_status(&id, "paid").await;
    shop.until_idle().await;
    // Until then its start is still there, and the gateway takes it for one that waits.
    shop.until_taken_out(StreamName::Commands).await;
    if worker_forgets {
        shop.kill(Service::Worker(0));
    }
    shop.lose(StreamName::History, &format!("history.checkout.{id}")).await;
    if worker_forgets {
        shop.start(Service::Worker(0));
    }
    // One that was there remembers for a while how it ended, and says so.
    shop.kill(Service::Gateway(0));
    shop.start(Service::Gateway(0));
    shop.until_ready().await;
    let again = ask(&shop).await;
    assert_eq!(again.status(), 202, "neither a new payment page nor an old result");
    let again: Value = again.json().await.expect("JSON");
    assert_eq!((&again["workflow_id"], &again["payment"]), (&json!(id), &Value::Null));
    let parked = shop.until_parked(1).await;
    (shop, id, parked)
}

/// One session, one charge, one sale; and the doctor says what is missing.
async fn nothing_happened_twice_and_it_is_noticed(shop: &Shop, id: &str) {
    let books = shop.books(id).await;
    assert_eq!(books.len(), 1, "{books:?}");
    assert_eq!(books[0]["charges"].as_array().map(Vec::len), Some(1), "{books:?}");
    shop.until_stock("MUG-01", 99, 0, 1).await;
    let report = shop.examine().await;
    assert!(!report.is_healthy());
    let lost = |text: &str| text.contains("are missing: the server has lost them");
    assert!(report.findings.iter().any(|finding| lost(&finding.text)), "{}", report.to_text());
}

/// A7: a worker that still knows the history sees that it has shrunk, and does nothing for it.
#[tokio::test]
async fn a_worker_that_remembers_a_purged_checkout_does_nothing_for_it() {
    let (shop, id, parked) = sold_purged_and_asked_again(false).await;
    assert_eq!(parked[0].area, "history", "{parked:?}");
    assert!(parked[0].reason.contains("the stream has lost records"), "{}", parked[0].reason);
    assert!(shop.records(&id).await.is_empty(), "nothing was begun");
    nothing_happened_twice_and_it_is_noticed(&shop, &id).await;
}

/// A7: a worker that knows nothing begins anew; the provider refuses the key for another session, and the ledger refuses to
/// take back what is sold, so a person sees it.
#[tokio::test]
async fn a_purged_checkout_that_is_begun_anew_is_not_charged_again() {
    let (shop, id, parked) = sold_purged_and_asked_again(true).await;
    assert!(parked.iter().any(|one| one.reason.contains("is sold, so it cannot be released")), "{parked:?}");
    assert!(!shop.event_types(&id).await.contains(&"payment_session_opened"));
    nothing_happened_twice_and_it_is_noticed(&shop, &id).await;
}
