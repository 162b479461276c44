//! One of two gateways hangs or is stopped while customers buy; the other serves, and the same key is the same checkout.

use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use stories::{Customers, SKU, Service, Shop, ShopOptions};

fn two_gateways() -> ShopOptions {
    ShopOptions { payment_timeout: "20s", gateways: 2, workers: 2, ..ShopOptions::default() }
}

/// FP9: a gateway hangs after it has taken an order; the customer asks the other one with the same key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_gateway_answers_for_one_that_hangs() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "10m", ..two_gateways() }).await;
    let items = json!([{ "sku": SKU, "quantity": 1 }]);
    let first = shop.post_checkout_at(0, Some("hangs"), &items).send().await.expect("an answer");
    let first: Value = first.json().await.expect("JSON");
    shop.signal(Service::Gateway(0), Signal::STOP);
    let health = shop.http.get(format!("{}/readyz", shop.gateway_url(0))).timeout(Duration::from_secs(2)).send().await;
    assert!(health.is_err_and(|error| error.is_timeout()), "a balancer sees that it hangs");
    // A start that the hanging one has on its wire, and that the customer gives up.
    let given_up = shop.post_checkout_at(0, Some("given-up"), &items).timeout(Duration::from_secs(1)).send().await;
    assert!(given_up.is_err_and(|error| error.is_timeout()));

    let mut ids = Vec::new();
    for key in ["hangs", "given-up"] {
        let answer = shop.post_checkout_at(1, Some(key), &items).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED);
        let checkout: Value = answer.json().await.expect("JSON");
        ids.push(checkout["workflow_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(first["workflow_id"].as_str(), Some(ids[0].as_str()), "the same key is the same checkout");
    // It wakes up, and does what it was asked long ago.
    shop.signal(Service::Gateway(0), Signal::CONT);
    for (key, id) in ["hangs", "given-up"].into_iter().zip(&ids) {
        let answer = shop.post_checkout_at(0, Some(key), &items).send().await.expect("an answer");
        let checkout: Value = answer.json().await.expect("JSON");
        assert_eq!(checkout["workflow_id"].as_str(), Some(id.as_str()));
        shop.pay(&checkout).await;
        shop.until_status(id, "paid").await;
        assert_eq!(shop.books(id).await.len(), 1, "{key} has one session");
    }
    shop.is_healthy().await;
}

/// FP8: a gateway is asked to stop under load. It ends in order, the other one serves, nothing that was accepted is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_asked_to_stop_under_load_loses_nothing() {
    let mut shop = Shop::open_with(crate::SERVICE, two_gateways()).await;
    // Webhooks and the story's questions go to the first gateway, so the second one is stopped.
    let customers = Customers::come(&shop, 4, &[1, 0]).await;
    customers.until_served(10).await;
    shop.signal(Service::Gateway(1), Signal::TERM);
    let status = shop.exit_status(Service::Gateway(1)).await;
    assert!(status.success(), "{status}\n{}", shop.logs());
    customers.until_served(10).await;
    customers.go_home().await.end_well(&shop).await;
}

/// FP9: a gateway is killed under load, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_under_load_loses_nothing() {
    let mut shop = Shop::open_with(crate::SERVICE, two_gateways()).await;
    let customers = Customers::come(&shop, 4, &[1, 0]).await;
    for _ in 0..3 {
        customers.until_served(5).await;
        shop.kill(Service::Gateway(1));
        customers.until_served(5).await;
        shop.start(Service::Gateway(1));
    }
    customers.until_served(5).await;
    customers.go_home().await.end_well(&shop).await;
}
