//! What customers and operators tell about themselves does not get into logs, subjects, headers or streams.

use common::{nats::read, streams::StreamName};
use serde_json::json;
use stories::{ALICE_TOKEN, OPERATOR_TOKEN, Shop, ShopOptions, password_of, permissions};

/// Stands in everything that only its owner should know.
const MARKER: &str = "leak-marker";

/// FX5: a buyer sends a mail address and secrets wherever they can be sent, in good requests and in bad ones; then every log
/// line of every service, and every message of every stream, is searched for them and for the services' own secrets.
#[tokio::test]
async fn secrets_and_mail_addresses_are_in_no_log_and_in_no_stream() {
    let options = ShopOptions { permissions: Some(permissions()), ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    let mail = format!("anna.{MARKER}@example.org");
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let post = |url: &str| shop.http.post(url.to_owned()).header("Cookie", format!("session={MARKER}"));
    let start = format!("{}/api/checkout_session?email={mail}", shop.shop_url());
    let bought = post(&start)
        .header("Idempotency-Key", &mail)
        .bearer_auth(format!("{MARKER}-of-a-tenant"))
        .header("User-Agent", &mail)
        .json(&json!({ "items": items }))
        .send()
        .await
        .expect("an answer");
    assert_eq!(bought.status(), 201);
    let checkout: serde_json::Value = bought.json().await.expect("JSON");
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;

    let refused = post(&start).json(&json!({ "items": items, "email": mail })).send().await.expect("an answer");
    assert_eq!(refused.status(), 400);
    let conflict = post(&start).header("Idempotency-Key", &mail).bearer_auth(format!("{MARKER}-of-a-tenant"));
    let conflict = conflict.json(&json!({ "items": [{ "sku": "MUG-01", "quantity": 2 }] })).send().await;
    assert_eq!(conflict.expect("an answer").status(), 422);
    let webhook =
        post(&format!("{}/payment_webhook", shop.shop_url())).header("Payment-Signature", format!("t=1,v1={MARKER}"));
    assert_eq!(webhook.json(&json!({ "id": mail })).send().await.expect("an answer").status(), 400);
    let restock = format!("{}/api/products/MUG-01/restock", shop.shop_url());
    let stranger = post(&restock).bearer_auth(MARKER).header("Idempotency-Key", &mail).json(&json!({ "quantity": 1 }));
    assert_eq!(stranger.send().await.expect("an answer").status(), 401);
    let operator = post(&restock).bearer_auth(OPERATOR_TOKEN).header("Idempotency-Key", &mail);
    assert_eq!(operator.json(&json!({ "quantity": 1 })).send().await.expect("an answer").status(), 200);
    shop.until_idle().await;

    let mut secrets = vec![MARKER.to_owned(), OPERATOR_TOKEN.to_owned(), ALICE_TOKEN.to_owned()];
    secrets.extend(["gateway", "workflow-worker", "inventory-service", "break-glass"].map(password_of));
    let logs = shop.whole_logs();
    assert!(logs.contains("decided"), "there is something to search");
    let mut messages = 0;
    for secret in &secrets {
        let told: Vec<&str> = logs.lines().filter(|line| line.contains(secret.as_str())).collect();
        assert!(told.is_empty(), "{secret} is in the logs: {told:#?}");
        for stream in StreamName::ALL {
            let batch = read::stretch(&shop.nats, stream, 1, 1_000, ">").await.expect("a stream of the shop");
            messages += batch.messages.len();
            for message in batch.messages {
                let text =
                    format!("{} {:?} {}", message.subject, message.headers, String::from_utf8_lossy(&message.payload));
                assert!(!text.contains(secret.as_str()), "{secret} is in {}: {text}", stream.as_str());
            }
        }
    }
    assert!(messages > 50, "there is something to search: {messages}");
    shop.is_healthy().await;
}
