//! The same key is the same checkout.

use serde_json::{Value, json};
use stories::{Shop, ShopOptions};

/// A2, FA1: fifty at once on two gateways: one checkout, one session, fifty equal answers.
#[tokio::test]
async fn the_same_key_many_times_at_once_is_one_checkout() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { gateways: 2, workers: 2, ..ShopOptions::default() }).await;
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let answers =
        futures_util::future::join_all((0..50).map(|n| shop.post_checkout_at(n % 2, Some("\"once\""), &items).send()))
            .await;
    let mut bodies = Vec::new();
    for answer in answers {
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 201);
        bodies.push(answer.json::<Value>().await.expect("JSON"));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "all answers are equal");
    let id = bodies[0]["workflow_id"].as_str().expect("an id");
    assert_eq!(shop.books(id).await.len(), 1);
    assert_eq!(shop.event_types(id).await.len(), 3);
    shop.until_stock("MUG-01", 99, 1, 0).await;
    shop.is_healthy().await;
}

/// A1, A3, A5, A6: the same answer for ever, 422 for another cart, and nothing new.
#[tokio::test]
async fn a_key_keeps_its_checkout_through_payment_and_restart() {
    let mut shop = Shop::open(crate::SERVICE).await;
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let first = shop.post_checkout(Some("order-7"), &items).send().await.expect("an answer");
    assert_eq!(first.status(), 201);
    let first: Value = first.json().await.expect("JSON");
    let again = shop.post_checkout(Some("order-7"), &items).send().await.expect("an answer");
    assert_eq!(again.status(), 201);
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.json::<Value>().await.expect("JSON"), first);

    let other = shop
        .post_checkout(Some("order-7"), &json!([{ "sku": "CAP-01", "quantity": 1 }]))
        .send()
        .await
        .expect("an answer");
    assert_eq!(other.status(), 422);
    assert_eq!(other.json::<Value>().await.expect("JSON")["code"], "idempotency_conflict");

    let id = first["workflow_id"].as_str().expect("an id");
    shop.pay(&first).await;
    shop.until_status(id, "paid").await;
    shop.kill_all();
    shop.restart_server().await;
    shop.start_all();
    shop.until_ready().await;
    let later = shop.post_checkout(Some("order-7"), &items).send().await.expect("an answer");
    assert!(later.status().is_success(), "{}", later.status());
    let later: Value = later.json().await.expect("JSON");
    assert_eq!((&later["workflow_id"], &later["status"]), (&first["workflow_id"], &json!("paid")));
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.until_stock("CAP-01", 30, 0, 0).await;
    assert_eq!(shop.event_types(id).await.len(), 5);
    assert_eq!(shop.books(id).await.len(), 1, "one session");
    shop.is_healthy().await;
}

/// A4: without a key every request is a checkout of its own.
#[tokio::test]
async fn requests_without_a_key_are_different_checkouts() {
    let shop = Shop::open(crate::SERVICE).await;
    let (one, two) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    assert_ne!(one["workflow_id"], two["workflow_id"]);
    shop.until_stock("MUG-01", 98, 2, 0).await;
    shop.is_healthy().await;
}
