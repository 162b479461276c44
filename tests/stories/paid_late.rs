//! Money comes after the checkout has ended.

use serde_json::json;
use stories::{Shop, ShopOptions};

async fn late_money(shop: &Shop) -> String {
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
    shop.until_status(&id, "expired").await;
    shop.fault(json!({ "call": "submit_payment", "fault": "pay_after_close" })).await;
    shop.pay(&checkout).await;
    id
}

/// Refunded once, stock untouched, the checkout stays what it was.
#[tokio::test]
async fn money_that_comes_after_the_deadline_goes_back() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "1s", ..ShopOptions::default() }).await;
    let id = late_money(&shop).await;
    let view = shop.until(&id, "the money has gone back", |view| view["refund"] == "refunded").await;
    assert_eq!(view["status"], "expired");
    assert_eq!(shop.event_types(&id).await[6..], ["late_payment_received", "refunded"]);
    let books = shop.books(&id).await;
    assert_eq!(books[0]["charges"].as_array().map(Vec::len), Some(1));
    assert_eq!(books[0]["refunds"].as_array().map(Vec::len), Some(1));
    assert_eq!(books[0]["refunds"][0]["amount"], 2980);
    shop.until_stock("MUG-01", 100, 0, 0).await;
    shop.is_healthy().await;
}

/// A refund that the provider answers with errors, after doing it, is still one refund.
#[tokio::test]
async fn a_refund_whose_answer_is_lost_is_one_refund() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "1s", ..ShopOptions::default() }).await;
    shop.fault(json!({ "call": "refund", "fault": "lost_answer", "times": 5 })).await;
    let id = late_money(&shop).await;
    shop.until(&id, "the money has gone back", |view| view["refund"] == "refunded").await;
    assert_eq!(shop.books(&id).await[0]["refunds"].as_array().map(Vec::len), Some(1));
    shop.is_healthy().await;
}

/// What the provider will not give back is shown to a person, never dropped.
#[tokio::test]
async fn a_refund_that_is_refused_needs_attention() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "1s", ..ShopOptions::default() }).await;
    shop.fault(json!({ "call": "refund", "fault": "refuse_400" })).await;
    let id = late_money(&shop).await;
    let view = shop.until(&id, "a person has to look", |view| view["refund"] == "needs_attention").await;
    assert_eq!(view["status"], "expired");
    shop.is_healthy().await;
}
