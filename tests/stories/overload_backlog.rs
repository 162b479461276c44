//! Much has gathered while no worker ran: everything goes on when one starts, and who comes meanwhile is served.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use stories::{OPERATOR_TOKEN, Service, Shop, ShopOptions, eventually_within};

/// Checkouts that have their payment page and are paid while no worker runs.
const PAID_MEANWHILE: usize = 60;

/// Checkouts that are accepted while no worker runs, and whose deadlines later come at about the same time.
const STARTED_MEANWHILE: usize = 400;

fn id(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

async fn restock(shop: &Shop, sku: &str, quantity: u32) {
    let url = format!("{}/api/products/{sku}/restock", shop.shop_url());
    let request = shop.http.post(url).bearer_auth(OPERATOR_TOKEN).header("Idempotency-Key", "enough");
    let answer = request.json(&json!({ "quantity": quantity })).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
}

/// E14, FP6, G14.
#[tokio::test]
async fn a_worker_that_finds_hundreds_of_unfinished_checkouts_finishes_them_and_serves_new_ones() {
    let options = ShopOptions {
        payment_timeout: "15s",
        answer_timeout: "2s",
        gateway_flags: &["--rate-limit=0"],
        ..ShopOptions::default()
    };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    restock(&shop, "STIC-01", 2_000).await;
    let items = json!([{ "sku": "STIC-01", "quantity": 1 }]);
    let open: Vec<Value> = stream::iter(0..PAID_MEANWHILE)
        .map(async |_| {
            let answer = shop.post_checkout(None, &items).send().await.expect("an answer");
            let accepted: Value = answer.json().await.expect("JSON");
            shop.until(&id(&accepted), "its payment page is open", |view| view["payment"]["url"].is_string()).await
        })
        .buffer_unordered(20)
        .collect()
        .await;
    shop.until_idle().await;
    shop.kill(Service::Worker(0));
    for checkout in &open {
        shop.pay(checkout).await;
    }
    let started: Vec<String> = join_all((0..STARTED_MEANWHILE).map(async |number| {
        let key = format!("waits-{number}");
        eventually_within(Duration::from_secs(60), "it is accepted", async || {
            let answer = shop.post_checkout(Some(&key), &items).send().await.expect("an answer");
            // A busy machine may not store it in time: the same key is asked again.
            if answer.status() == 202 { Some(id(&answer.json::<Value>().await.expect("JSON"))) } else { None }
        })
        .await
    }))
    .await;

    let began = Instant::now();
    shop.start(Service::Worker(0));
    let new = eventually_within(Duration::from_secs(60), "a new checkout is served meanwhile", async || {
        let answer = shop.post_checkout(Some("comes-meanwhile"), &items).send().await.ok()?;
        if answer.status() == 201 { answer.json::<Value>().await.ok() } else { None }
    })
    .await;
    shop.pay(&new).await;
    shop.until_status(&id(&new), "paid").await;
    println!("the new one was paid {:?} after the worker's start", began.elapsed());
    join_all(open.iter().map(async |checkout| shop.until_status(&id(checkout), "paid").await)).await;
    println!("{PAID_MEANWHILE} were paid {:?} after the worker's start", began.elapsed());
    let ends = stream::iter(&started)
        .map(async |id| {
            let has_ended = |view: &Value| ["expired", "out_of_stock"].contains(&view["status"].as_str().unwrap_or(""));
            shop.until(id, "it has ended", has_ended).await["status"].as_str().unwrap_or_default().to_owned()
        })
        .buffer_unordered(50)
        .collect::<Vec<String>>()
        .await;
    let expired = ends.iter().filter(|status| *status == "expired").count();
    println!("{expired} of {STARTED_MEANWHILE} expired {:?} after the worker's start", began.elapsed());
    let product = shop.product("STIC-01").await;
    let (paid, expired) = (PAID_MEANWHILE + 1, expired == STARTED_MEANWHILE);
    assert_eq!((&product["reserved"], &product["sold"], expired), (&json!(0), &json!(paid), true), "the rest is back");
    assert_eq!(shop.dead_letters().await, 0);
    shop.is_healthy().await;
}
