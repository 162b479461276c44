//! Several instances of everything: any of them can answer, any of them can die.

use serde_json::json;
use stories::{Service, Shop, ShopOptions, eventually};

/// Any gateway can answer for any checkout; workers share the work; a stand-by inventory takes over.
#[tokio::test]
async fn the_stand_by_inventory_takes_over_and_nothing_is_counted_twice() {
    let options = ShopOptions { gateways: 2, workers: 2, inventories: 2, ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let items = json!([{ "sku": "TEE-01", "quantity": 1 }]);
    for round in 0..6 {
        if round == 2 {
            shop.kill(Service::Inventory(0));
        }
        if round == 4 {
            shop.start(Service::Inventory(0));
            shop.kill(Service::Inventory(1));
            shop.kill(Service::Worker(round % 2));
        }
        let checkout = eventually("a gateway has the session", async || {
            let answer = shop
                .post_checkout_at(usize::from(round % 2), Some(&format!("round-{round}")), &items)
                .send()
                .await
                .expect("an answer");
            (answer.status() == 201).then_some(answer)
        })
        .await;
        let checkout: serde_json::Value = checkout.json().await.expect("JSON");
        shop.pay(&checkout).await;
        shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    }
    shop.until_stock("TEE-01", 54, 0, 6).await;
    shop.is_healthy().await;
}
