//! A customer pays in time.

use common::{nats::read, streams::StreamName, subject::Subject};
use serde_json::{Value, json};
use stories::{Shop, ShopOptions, eventually};

/// D1: paid once, sold once, nothing released; the whole story stands in the history.
#[tokio::test]
async fn a_paid_checkout_is_sold() {
    let shop = Shop::open(crate::SERVICE).await;

    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    assert_eq!(checkout["status"], "awaiting_payment");
    assert_eq!(checkout["amount"], json!({ "amount": 2980, "currency": "eur" }));
    assert!(checkout["payment"]["url"].as_str().is_some_and(|url| url.starts_with(&shop.payment_url())));
    shop.until_stock("MUG-01", 98, 2, 0).await;

    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    shop.until_stock("MUG-01", 98, 0, 2).await;

    let expected = ["checkout_started", "stock_reserved", "payment_session_opened", "payment_received", "stock_sold"];
    assert_eq!(shop.event_types(id).await, expected);
    let books = shop.books(id).await;
    assert_eq!(books.len(), 1, "one session: {books:?}");
    assert_eq!(books[0]["charges"].as_array().map(Vec::len), Some(1));
    assert_eq!(books[0]["refunds"].as_array().map(Vec::len), Some(0));
    shop.is_healthy().await;
}

/// The guide's own line: no body at all buys one of the default product.
#[tokio::test]
async fn a_request_without_a_body_buys_one_of_the_default_product() {
    let shop = Shop::open(crate::SERVICE).await;
    let answer = shop.http.post(format!("{}/api/checkout_session", shop.shop_url())).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().expect("a location").to_owned();
    let checkout: serde_json::Value = answer.json().await.expect("JSON");
    assert!(location.ends_with(checkout["workflow_id"].as_str().expect("an id")));
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    shop.is_healthy().await;
}

/// Every line counts with its own price.
#[tokio::test]
async fn several_lines_are_bought_together() {
    let shop = Shop::open(crate::SERVICE).await;
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }, { "sku": "CAP-01", "quantity": 2 }, { "sku": "STIC-01", "quantity": 3 }]);
    let answer = shop.post_checkout(None, &items).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    let checkout: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(checkout["amount"]["amount"], 1490 + 2 * 2200 + 3 * 450);
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    shop.until_stock("STIC-01", 0, 0, 3).await;
    shop.until_stock("CAP-01", 28, 0, 2).await;
    shop.is_healthy().await;
}

/// B17: the price goes up while the provider cannot open the session: what was asked for costs what it cost then.
#[tokio::test]
async fn a_price_that_changes_before_the_session_is_opened_is_not_charged() {
    let options = ShopOptions { answer_timeout: "300ms", ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    shop.fault(json!({ "call": "create_session", "fault": "error_500" })).await;
    let answer =
        shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 2 }])).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let started: Value = answer.json().await.expect("JSON");
    let id = started["workflow_id"].as_str().expect("an id");
    shop.until_stock("MUG-01", 98, 2, 0).await;

    let subject = Subject::Catalogue("MUG-01".parse().expect("a sku"));
    let product = read::last(&shop.nats, StreamName::Catalogue, &subject).await.expect("a read").expect("an article");
    let mut product: Value = serde_json::from_slice(&product.payload).expect("JSON");
    product["price"]["amount"] = json!(9_900);
    shop.store(&subject.to_string(), product.to_string()).await;
    eventually("the shop shows the new price", async || {
        (shop.product("MUG-01").await["price"]["amount"] == 9_900).then_some(())
    })
    .await;

    shop.no_faults().await;
    let view = shop.until_status(id, "awaiting_payment").await;
    assert_eq!(view["amount"]["amount"], 2_980);
    shop.pay(&view).await;
    shop.until_status(id, "paid").await;
    assert_eq!(shop.books(id).await[0]["charges"][0]["amount"], 2_980);
    assert_eq!(shop.checkout("MUG-01", 1).await["amount"]["amount"], 9_900, "the next one costs what it costs now");
    shop.is_healthy().await;
}
