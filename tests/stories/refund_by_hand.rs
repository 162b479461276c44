//! An operator gives the money of a paid checkout back.

use serde_json::json;
use stories::{OPERATOR_TOKEN, Shop};

#[tokio::test]
async fn an_operator_refunds_a_paid_checkout_once() {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let refund = async |token: &str| {
        let url = format!("{}/api/checkout_session/{id}/refund", shop.shop_url());
        let request = shop.http.post(url).bearer_auth(token).json(&json!({ "reason": "arrived broken" }));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(refund(OPERATOR_TOKEN).await, 409, "it is not paid yet");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    assert!([401, 403].contains(&refund("somebody-else").await));
    assert!([200, 202].contains(&refund(OPERATOR_TOKEN).await));
    assert!([200, 202].contains(&refund(OPERATOR_TOKEN).await));
    shop.until(id, "the money has gone back", |view| view["refund"] == "refunded").await;
    assert_eq!(shop.view(id).await["status"], "paid");
    let books = shop.books(id).await;
    assert_eq!(books[0]["refunds"].as_array().map(Vec::len), Some(1));
    assert_eq!(books[0]["refunds"][0]["amount"], 2980);
    shop.until_stock("MUG-01", 98, 0, 2).await;
    shop.is_healthy().await;
}
