//! A customer waits for the payment link: is told at once when it cannot be had, may go away and come back, and may lose
//! the gateway that was about to answer.

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, header};
use common::ids::{IdempotencyKey, WorkflowId};
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

fn mug() -> Value {
    json!([{ "sku": "MUG-01", "quantity": 1 }])
}

/// The checkout that a key means, known before there is an answer.
fn checkout_of(key: &str) -> String {
    let key: IdempotencyKey = key.parse().expect("a key");
    WorkflowId::from_idempotency_key("", &key).to_string()
}

/// A13: the checkout is taken out of everybody's hands while its customer waits: the answer comes then, not at the end of
/// the time to wait.
#[tokio::test]
async fn who_waits_is_told_at_once_that_the_checkout_cannot_go_on() {
    let options = ShopOptions { answer_timeout: "60s", retry_wait: "30s", ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    shop.fault(json!({ "call": "create_session", "fault": "down" })).await;
    let id = checkout_of("waits-1");

    let began = Instant::now();
    let (answer, ()) = tokio::join!(shop.post_checkout(Some("waits-1"), &mug()).send(), async {
        // The next round is half a minute away, so nobody else writes to this history now.
        eventually("the customer waits for the provider", async || {
            shop.event_types(&id).await.contains(&"payment_step_failed").then_some(())
        })
        .await;
        let last = shop.records(&id).await.last().expect("a history").sequence;
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
        shop.store_with_headers(&format!("history.checkout.{id}"), headers, "no record").await;
    });
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 500);
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!((&problem["code"], &problem["workflow_id"]), (&json!("internal"), &json!(id)));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// FA10: the client hangs up before the answer; the checkout goes on, and the same key finds it.
#[tokio::test]
async fn who_hangs_up_before_the_answer_finds_the_checkout_again() {
    let shop =
        Shop::open_with(crate::SERVICE, ShopOptions { payment_call_timeout: "20s", ..ShopOptions::default() }).await;
    shop.fault(json!({ "call": "create_session", "fault": "slow", "millis": 2_000, "times": 1 })).await;
    let id = checkout_of("hangs-up-1");
    let body = json!({ "items": mug() }).to_string();
    let request = format!(
        "POST /api/checkout_session HTTP/1.1\r\nhost: shop\r\nidempotency-key: hangs-up-1\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(shop.shop_url().replace("http://", "")).await.expect("connect");
    connection.write_all(request.as_bytes()).await.expect("send");
    eventually("it is accepted", async || (!shop.records(&id).await.is_empty()).then_some(())).await;
    drop(connection);

    let view = shop.until_status(&id, "awaiting_payment").await;
    let answer = shop.post_checkout(Some("hangs-up-1"), &mug()).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["idempotent-replayed"], "true");
    let checkout: Value = answer.json().await.expect("JSON");
    assert_eq!(checkout["payment"], view["payment"]);
    assert_eq!(shop.books(&id).await.len(), 1);
    shop.pay(&checkout).await;
    shop.until_status(&id, "paid").await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// A10, G17: the gateway dies after it has stored the start and before it answers; another one answers the same key.
#[tokio::test]
async fn another_gateway_answers_for_one_that_died_before_it_could() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { gateways: 2, ..ShopOptions::default() }).await;
    let dying = Service::Gateway(0);
    shop.kill(dying);
    shop.start_to_crash(dying, "gateway.start.after_publish");
    shop.until_ready().await;
    let lost = shop.post_checkout_at(0, Some("dies-1"), &mug()).send().await;
    assert!(lost.is_err(), "the gateway died, but it answered {lost:?}");
    let status = shop.exit_status(dying).await;
    assert!(!status.success(), "a crash is no orderly end: {status}");

    let answer = shop.post_checkout_at(1, Some("dies-1"), &mug()).send().await.expect("the other gateway answers");
    assert_eq!(answer.status(), 201);
    let checkout: Value = answer.json().await.expect("JSON");
    let id = checkout_of("dies-1");
    assert_eq!(checkout["workflow_id"], json!(id));
    shop.start(dying);
    shop.pay(&checkout).await;
    shop.until_status(&id, "paid").await;
    let expected = ["checkout_started", "stock_reserved", "payment_session_opened", "payment_received", "stock_sold"];
    assert_eq!(shop.event_types(&id).await, expected);
    assert_eq!(shop.books(&id).await.len(), 1);
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}
