//! Somebody cancels here.

use stories::Shop;

/// I1, C8: the session is closed, then the stock goes back; cancelling twice is cancelling once.
#[tokio::test]
async fn a_customer_cancels_while_the_payment_is_open() {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let cancel = async || {
        let url = format!("{}/api/checkout_session/{id}/cancel", shop.shop_url());
        shop.http.post(url).send().await.expect("an answer").status().as_u16()
    };
    assert!([200, 202].contains(&cancel().await));
    shop.until_status(id, "cancelled").await;
    assert_eq!(cancel().await, 200);
    shop.until_stock("MUG-01", 100, 0, 0).await;
    assert_eq!(shop.books(id).await[0]["status"], "expired", "nobody can pay any more");
    let pay =
        shop.sandbox("submit_payment", &serde_json::json!({ "session_id": checkout["payment"]["session_id"] })).await;
    assert_eq!(pay.status(), 409);
    shop.is_healthy().await;
}

/// I2: what is paid is not cancelled.
#[tokio::test]
async fn a_paid_checkout_cannot_be_cancelled() {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    let url = format!("{}/api/checkout_session/{id}/cancel", shop.shop_url());
    let answer = shop.http.post(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 409);
    assert_eq!(shop.view(id).await["status"], "paid");
    shop.is_healthy().await;
}

/// I5: an id that nobody knows is told at once.
#[tokio::test]
async fn an_unknown_checkout_cannot_be_cancelled() {
    let shop = Shop::open(crate::SERVICE).await;
    let url = format!("{}/api/checkout_session/0198c0de-0000-7000-8000-000000000000/cancel", shop.shop_url());
    assert_eq!(shop.http.post(url).send().await.expect("an answer").status(), 404);
    shop.is_healthy().await;
}
