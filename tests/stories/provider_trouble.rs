//! The provider is in trouble while the payment session is opened.

use serde_json::{Value, json};
use stories::{Shop, ShopOptions, eventually};

/// C2, C3: refused for good: no retries, the stock goes back, the caller is told.
#[tokio::test]
async fn a_provider_that_refuses_ends_the_checkout() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.fault(json!({ "call": "create_session", "fault": "refuse_400" })).await;
    let answer =
        shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 1 }])).send().await.expect("an answer");
    assert_eq!(answer.status(), 502);
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(problem["code"], "payment_unavailable");
    let id = problem["workflow_id"].as_str().expect("an id").to_owned();
    shop.until_stock("MUG-01", 100, 0, 0).await;
    assert_eq!(shop.event_types(&id).await[2..], ["payment_refused", "stock_released"]);
    shop.is_healthy().await;
}

/// C1: down for a while and back: retries stand in the history, one session in the end.
#[tokio::test]
async fn a_provider_that_comes_back_is_asked_again() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.fault(json!({ "call": "create_session", "fault": "error_500", "times": 7 })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let events = shop.event_types(id).await;
    assert!(events.contains(&"payment_step_failed") && events.contains(&"payment_step_retried"), "{events:?}");
    assert_eq!(shop.books(id).await.len(), 1);
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    shop.is_healthy().await;
}

/// A12: slower than the HTTP wait: 202, and the same key returns the session later.
#[tokio::test]
async fn a_slow_provider_is_202_and_the_same_key_gets_the_session() {
    let options = ShopOptions { answer_timeout: "300ms", payment_call_timeout: "20s", ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    shop.fault(json!({ "call": "create_session", "fault": "slow", "millis": 1500, "times": 1 })).await;
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let answer = shop.post_checkout(Some("slow-1"), &items).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    assert!(answer.headers().contains_key("location"));
    let first: Value = answer.json().await.expect("JSON");
    let checkout = eventually("the same key gets the session", async || {
        let answer = shop.post_checkout(Some("slow-1"), &items).send().await.expect("an answer");
        (answer.status() == 201).then_some(answer)
    })
    .await;
    let checkout: Value = checkout.json().await.expect("JSON");
    assert_eq!(checkout["workflow_id"], first["workflow_id"]);
    assert_eq!(shop.books(checkout["workflow_id"].as_str().expect("an id")).await.len(), 1);
    shop.is_healthy().await;
}

/// C5, C7: the provider made the session and its answer was lost: same key, same session, one session.
#[tokio::test]
async fn a_session_whose_answer_was_lost_is_found_again() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.fault(json!({ "call": "create_session", "fault": "lost_answer", "times": 4 })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let books = shop.books(id).await;
    assert_eq!(books.len(), 1);
    assert_eq!(books[0]["session_id"], checkout["payment"]["session_id"]);
    shop.is_healthy().await;
}

/// C4: an answer without a payment page is no answer; at the deadline the checkout ends and nobody can pay.
#[tokio::test]
async fn an_answer_that_nobody_can_use_ends_in_payment_unavailable() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "2s", ..ShopOptions::default() }).await;
    shop.fault(json!({ "call": "create_session", "fault": "no_url" })).await;
    let answer =
        shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 1 }])).send().await.expect("an answer");
    assert_eq!(answer.status(), 502);
    let problem: Value = answer.json().await.expect("JSON");
    let id = problem["workflow_id"].as_str().expect("an id").to_owned();
    shop.until_stock("MUG-01", 100, 0, 0).await;
    let books = shop.books(&id).await;
    assert!(books.iter().all(|session| session["status"] == "expired"), "{books:?}");
    shop.is_healthy().await;
}
