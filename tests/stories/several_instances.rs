//! Several instances of everything: any of them can answer, any of them can die.

use serde_json::{Value, json};
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

/// G11: every instance of everything is asked to stop and started again, one after another, while customers buy: the old
/// and the new share the work, nobody is stranded, nothing happens twice.
#[tokio::test]
async fn a_rolling_restart_strands_nobody_and_doubles_nothing() {
    let options = ShopOptions { gateways: 2, workers: 2, inventories: 2, ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let items = json!([{ "sku": "TEE-01", "quantity": 1 }]);
    let mut bought = Vec::new();
    for (round, service) in [
        Service::Worker(0),
        Service::Inventory(0),
        Service::Gateway(0),
        Service::Worker(1),
        Service::Inventory(1),
        Service::Gateway(1),
    ]
    .into_iter()
    .enumerate()
    {
        // One is waiting for its money and one is being started while the instance stops.
        let waiting = until_payable(&shop, round, &format!("waiting-{round}"), &items).await;
        shop.signal(service, rustix::process::Signal::TERM);
        let gateway = if service == Service::Gateway(0) { 1 } else { 0 };
        let started = until_payable(&shop, gateway, &format!("started-{round}"), &items).await;
        let status = shop.exit_status(service).await;
        assert!(status.success(), "{service:?}: {status}");
        for checkout in [waiting, started] {
            shop.pay(&checkout).await;
            bought.push(checkout);
        }
        shop.start(service);
        shop.until_ready().await;
    }
    for checkout in &bought {
        let id = checkout["workflow_id"].as_str().expect("an id");
        shop.until_status(id, "paid").await;
        assert_eq!(shop.event_types(id).await.len(), 5, "{id}");
        assert_eq!(shop.books(id).await.len(), 1, "{id}");
    }
    shop.until_stock("TEE-01", 48, 0, 12).await;
    shop.is_healthy().await;
}

/// Ask with a key until there is a payment link.
async fn until_payable(shop: &Shop, gateway: usize, key: &str, items: &Value) -> Value {
    eventually(&format!("{key} has its payment link"), async || {
        let answer = shop.post_checkout_at(gateway % 2, Some(key), items).send().await.ok()?;
        if answer.status() != 201 {
            return None;
        }
        answer.json().await.ok()
    })
    .await
}
