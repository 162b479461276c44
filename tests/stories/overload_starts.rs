//! More checkouts than there is room for: whoever is not served is told when to come back, whoever is, is served to the end.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions};

fn refusal_is_complete(answer: &Response) -> bool {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    header("content-type").as_deref() == Some("application/problem+json")
        && header("retry-after").and_then(|wait| wait.parse::<u64>().ok()).is_some_and(|wait| wait > 0)
}

/// FA9, FX3: with room for twenty at a time.
#[tokio::test]
async fn what_is_too_much_is_shed_and_what_is_accepted_settles() {
    let options = ShopOptions {
        payment_timeout: "3s",
        gateway_flags: &["--max-waiting=20", "--rate-limit=0"],
        ..ShopOptions::default()
    };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    let before = shop.footprint(Service::Gateway(0));
    let items = json!([{ "sku": "NOTE-01", "quantity": 1 }]);
    let asking = join_all((0..600).map(async |_| shop.post_checkout(None, &items).send().await.expect("an answer")));
    let probing = async {
        for _ in 0..10 {
            let live = shop.http.get(format!("{}/livez", shop.shop_url())).timeout(Duration::from_secs(10));
            assert_eq!(live.send().await.expect("an answer in time").status(), 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (answers, ()) = tokio::join!(asking, probing);
    let (mut accepted, mut out_of_stock, mut shed) = (Vec::new(), 0, 0);
    for answer in answers {
        match answer.status().as_u16() {
            201 | 202 => accepted.push(answer.json::<Value>().await.expect("JSON")),
            409 => out_of_stock += 1,
            503 => {
                assert!(refusal_is_complete(&answer), "{answer:?}");
                shed += 1;
            }
            other => panic!("{other}: {:?}", answer.text().await),
        }
    }
    println!("{} accepted, {out_of_stock} out of stock, {shed} shed", accepted.len());
    assert!(accepted.len() >= 20 && shed > 0, "{} accepted, {shed} shed", accepted.len());
    let cost = shop.footprint(Service::Gateway(0)).peak_memory.saturating_sub(before.memory);
    assert!(cost < 128 * 1024 * 1024, "{cost} bytes");
    for checkout in accepted {
        let id = checkout["workflow_id"].as_str().expect("an id");
        shop.until(id, "it has ended", |view| {
            view["status"].as_str().is_some_and(|status| ["expired", "out_of_stock"].contains(&status))
        })
        .await;
    }
    shop.is_healthy().await;
}

/// FA9: one client that asks too often is slowed down; the payment provider is not.
#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back_and_webhooks_are_taken() {
    let shop =
        Shop::open_with(crate::SERVICE, ShopOptions { gateway_flags: &["--rate-limit=20"], ..ShopOptions::default() })
            .await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let url = format!("{}/api/products", shop.shop_url());
    let answers = join_all((0..200).map(|_| shop.http.get(&url).send())).await;
    let limited: Vec<Response> =
        answers.into_iter().map(|answer| answer.expect("an answer")).filter(|answer| answer.status() == 429).collect();
    assert!(limited.len() > 50, "{}", limited.len());
    assert!(limited.iter().all(refusal_is_complete));
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    shop.is_healthy().await;
}
