//! The disk below the server is full. A server without limits below its disk freezes: publishes time out. Nothing is
//! said to be stored that is not; with space and a restart of the server everything goes on.

use std::time::Duration;

use deploy::nats_server::NatsServer;
use serde_json::{Value, json};
use stories::{Shop, ShopOptions, SmallDisk, eventually, eventually_within};

/// More than the least that a server starts on.
const LARGE: u64 = 700 * 1024 * 1024;

/// FD1, G12, D14.
#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_accepted() {
    let Some(disk) = SmallDisk::mount(LARGE) else { return };
    let server = NatsServer::start_for_test_in(&disk.path().join("nats")).await.expect("a server on the small disk");
    // The limits are for the large disk; then somebody else fills it.
    let options = ShopOptions { answer_timeout: "7s", ..ShopOptions::default() };
    let mut shop = Shop::open_on(server.into(), crate::SERVICE, options).await;
    let open = shop.checkout("NOTE-01", 1).await;
    shop.until_idle().await;
    disk.resize(disk.used() + 64 * 1024);

    let (mut accepted, mut number) = (vec![open], 0);
    let refused = eventually_within(Duration::from_secs(120), "the disk is full", async || {
        number += 1;
        let items = json!([{ "sku": "NOTE-01", "quantity": 1 }]);
        let answer = shop.post_checkout(Some(&format!("key-{number}")), &items).send().await.expect("an answer");
        match answer.status().as_u16() {
            201 | 202 => {
                accepted.push(answer.json().await.expect("JSON"));
                None
            }
            _ => Some(answer),
        }
    })
    .await;
    println!("{} were accepted before the disk was full", accepted.len());
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let ready = shop.http.get(format!("{}/readyz", shop.shop_url())).send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    let why: Value = ready.json().await.expect("JSON");
    println!("not ready: {}", why["detail"]);
    let detail = why["detail"].as_str().expect("a reason");
    assert!(detail.contains("stored") || detail.contains("stream"), "{detail}");
    let live = shop.http.get(format!("{}/livez", shop.shop_url())).send().await.expect("an answer");
    assert_eq!(live.status(), 200);
    // A customer pays meanwhile; the provider tells again until it is stored.
    if accepted[0]["payment"]["session_id"].is_string() {
        shop.pay(&accepted[0]).await;
    }

    disk.resize(LARGE);
    shop.server.restart().await.expect("start nats-server again, with space");
    shop.until_ready().await;
    for checkout in &accepted {
        let id = checkout["workflow_id"].as_str().expect("an id");
        let view =
            shop.until(id, &format!("{id} has its payment page"), |view| view["payment"]["url"].is_string()).await;
        if view["status"] == "awaiting_payment" {
            shop.pay(&view).await;
        }
        shop.until_status(id, "paid").await;
    }
    let key = format!("key-{number}");
    let again = eventually("the refused one is served", async || {
        let items = json!([{ "sku": "NOTE-01", "quantity": 1 }]);
        let answer = shop.post_checkout(Some(&key), &items).send().await.ok()?;
        if answer.status() == 201 { answer.json::<Value>().await.ok() } else { None }
    })
    .await;
    shop.pay(&again).await;
    shop.until_status(again["workflow_id"].as_str().expect("an id"), "paid").await;
    shop.is_healthy().await;
}
