//! There is too little.

use serde_json::{Value, json};
use stories::Shop;

/// B1, A15: nothing is opened at the provider, nothing stays reserved, the answer says what lacks.
#[tokio::test]
async fn too_little_stock_is_told_at_once() {
    let shop = Shop::open(crate::SERVICE).await;
    let answer =
        shop.post_checkout(None, &json!([{ "sku": "STIC-01", "quantity": 4 }])).send().await.expect("an answer");
    assert_eq!(answer.status(), 409);
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(problem["code"], "out_of_stock");
    let id = problem["workflow_id"].as_str().expect("an id").to_owned();
    assert_eq!(problem["lacking"][0]["sku"], "STIC-01");
    assert_eq!(shop.view(&id).await["status"], "out_of_stock");
    assert_eq!(shop.books(&id).await.len(), 0, "no session was opened");
    shop.until_stock("STIC-01", 3, 0, 0).await;
    shop.is_healthy().await;
}

/// B10: all lines or none.
#[tokio::test]
async fn one_lacking_line_reserves_none_of_the_cart() {
    let shop = Shop::open(crate::SERVICE).await;
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }, { "sku": "STIC-01", "quantity": 4 }, { "sku": "CAP-01", "quantity": 1 }]);
    let answer = shop.post_checkout(None, &items).send().await.expect("an answer");
    assert_eq!(answer.status(), 409);
    for (sku, available) in [("MUG-01", 100), ("STIC-01", 3), ("CAP-01", 30)] {
        shop.until_stock(sku, available, 0, 0).await;
    }
    shop.is_healthy().await;
}

/// B2, B3, FA11: forty buyers at once for three sheets: exactly three get one.
#[tokio::test]
async fn many_buyers_of_the_last_articles_get_exactly_what_there_is() {
    let shop = Shop::open(crate::SERVICE).await;
    let items = json!([{ "sku": "STIC-01", "quantity": 1 }]);
    let answers = futures_util::future::join_all((0..40).map(|_| shop.post_checkout(None, &items).send())).await;
    let mut statuses: Vec<u16> =
        answers.into_iter().map(|answer| answer.expect("an answer").status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 37, "{statuses:?}");
    shop.until_stock("STIC-01", 0, 3, 0).await;
    shop.is_healthy().await;
}

/// B13: goods that come in are there, once per delivery.
#[tokio::test]
async fn a_delivery_counts_once() {
    let shop = Shop::open(crate::SERVICE).await;
    let restock = async || {
        let url = format!("{}/api/products/STIC-01/restock", shop.shop_url());
        let request = shop.http.post(url).bearer_auth(stories::OPERATOR_TOKEN).header("Idempotency-Key", "delivery-1");
        request.json(&json!({ "quantity": 7 })).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(restock().await, 200);
    assert_eq!(restock().await, 200);
    shop.until_stock("STIC-01", 10, 0, 0).await;
    let checkout = shop.checkout("STIC-01", 10).await;
    shop.pay(&checkout).await;
    shop.until_stock("STIC-01", 0, 0, 10).await;
    shop.is_healthy().await;
}
