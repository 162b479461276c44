//! What the provider tells, in every order and number.

use serde_json::{Value, json};
use stories::{Shop, ShopOptions, eventually};

/// D4: told many times at once: 200 each time, one effect.
#[tokio::test]
async fn a_webhook_that_is_told_many_times_counts_once() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.fault(json!({ "call": "webhook", "fault": "duplicate", "copies": 50 })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    assert_eq!(shop.event_types(id).await.len(), 5);
    shop.is_healthy().await;
}

/// D7: told of a session before we have recorded it: kept, and applied once the session is known.
#[tokio::test]
async fn a_webhook_that_comes_before_its_session_is_recorded_is_kept() {
    let options = ShopOptions { retry_wait: "3s", answer_timeout: "1s", ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    // The first round is three calls; each makes the session, and none of the answers arrives.
    shop.fault(json!({ "call": "create_session", "fault": "lost_answer", "times": 3 })).await;
    let answer =
        shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 1 }])).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let started: Value = answer.json().await.expect("JSON");
    let id = started["workflow_id"].as_str().expect("an id");
    let session = shop.books(id).await.pop().expect("the provider has a session");
    assert!(!shop.event_types(id).await.contains(&"payment_session_opened"), "not recorded yet");
    let paid = shop.sandbox("submit_payment", &json!({ "session_id": session["session_id"] })).await;
    assert!(paid.status().is_success());
    shop.until_status(id, "paid").await;
    assert_eq!(shop.books(id).await.len(), 1);
    shop.is_healthy().await;
}

/// D11, D13: another session, another amount, another currency: kept for the operator, the checkout does not move; the
/// provider's own answer at the deadline is the truth.
async fn is_parked(fault: &str) {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { payment_timeout: "4s", ..ShopOptions::default() }).await;
    shop.fault(json!({ "call": "webhook", "fault": fault })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    eventually("the webhook is parked", async || (shop.dead_letters().await == 1).then_some(())).await;
    assert_eq!(shop.view(id).await["status"], "awaiting_payment");
    shop.until_status(id, "paid").await;
    let events = shop.event_types(id).await;
    assert!(events.contains(&"deadline_passed"), "{events:?}");
    shop.is_healthy().await;
}

#[tokio::test]
async fn a_webhook_about_another_session_is_parked() {
    is_parked("wrong_session").await;
}

#[tokio::test]
async fn a_webhook_with_a_wrong_amount_is_parked() {
    is_parked("wrong_amount").await;
}

#[tokio::test]
async fn a_webhook_in_a_wrong_currency_is_parked() {
    is_parked("wrong_currency").await;
}

/// D12, FW1, FW2: what is not authentic is refused and leaves no trace.
#[tokio::test]
async fn a_webhook_that_is_not_authentic_is_refused() {
    let shop = Shop::open(crate::SERVICE).await;
    let url = format!("{}/payment_webhook", shop.shop_url());
    let body = json!({ "id": "evt_forged", "type": "payment.paid", "payment_status": "paid" }).to_string();
    let post = |signature: Option<&str>| {
        let request = shop.http.post(&url).header("content-type", "application/json").body(body.clone());
        match signature {
            Some(signature) => request.header("Payment-Signature", signature),
            None => request,
        }
    };
    let now = jiff::Timestamp::now().as_second();
    for signature in
        [None, Some("t=1,v1=00".to_owned()), Some(format!("t={now},v1={}", "0".repeat(64))), Some("nonsense".into())]
    {
        let status = post(signature.as_deref()).send().await.expect("an answer").status().as_u16();
        assert!([400, 401].contains(&status), "{signature:?}: {status}");
    }
    let mut webhooks = shop.nats.jetstream.get_stream("WEBHOOKS").await.expect("the stream");
    assert_eq!(webhooks.info().await.expect("its state").state.messages, 0);
    shop.is_healthy().await;
}

/// D8, D9: authentic, but about a checkout that does not exist: kept for the operator.
#[tokio::test]
async fn a_webhook_about_an_unknown_checkout_is_kept_for_the_operator() {
    let shop = Shop::open(crate::SERVICE).await;
    let order = json!({
        "client_reference_id": "0198c0de-0000-7000-8000-00000000000f", "amount": 100, "currency": "eur",
        "lines": [{ "name": "Nothing of ours", "quantity": 1, "unit_amount": 100 }],
        "expires_at": "2099-01-01T00:00:00Z",
    });
    let request = shop
        .http
        .post(format!("{}/api/create_payment_session", shop.payment_url()))
        .header("Idempotency-Key", "foreign");
    let session: Value = request.json(&order).send().await.expect("an answer").json().await.expect("JSON");
    assert!(
        shop.sandbox("submit_payment", &json!({ "session_id": session["session_id"] })).await.status().is_success()
    );
    stories::eventually_within(std::time::Duration::from_secs(120), "it is parked", async || {
        (shop.dead_letters().await == 1).then_some(())
    })
    .await;
    shop.is_healthy().await;
}
