//! What the provider tells, in every order and number.

use common::{
    payment::{WebhookSecrets, sandbox::DEVELOPMENT_SECRET},
    streams::StreamName,
    time,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

/// What the provider would tell of a checkout of one mug.
fn event(id: &str, checkout: &Value, status: &Value) -> Value {
    json!({
        "id": id, "type": "payment_session.changed", "payment_status": status,
        "session_id": checkout["payment"]["session_id"], "client_reference_id": checkout["workflow_id"],
        "amount": 1_490, "currency": "eur",
    })
}

/// Tell a gateway of an event, signed as the provider does it; the status of the answer, and whether it was known.
async fn tell(shop: &Shop, gateway: usize, event: &Value) -> (u16, Value) {
    let secrets: WebhookSecrets = DEVELOPMENT_SECRET.parse().expect("a secret");
    let body = event.to_string();
    let request = shop.http.post(format!("{}/payment_webhook", shop.gateway_url(gateway)));
    let request = request.header("content-type", "application/json");
    let request = request.header("Payment-Signature", secrets.sign(body.as_bytes(), time::now()));
    let answer = request.body(body).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json::<Value>().await.expect("JSON")["duplicate"].clone())
}

/// D4, FW4: fifty times at once on two gateways, and again after everything was restarted: 200 each time, stored once, one
/// effect.
#[tokio::test]
async fn an_event_that_is_told_fifty_times_at_once_on_two_gateways_is_stored_once() {
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { gateways: 2, ..ShopOptions::default() }).await;
    shop.fault(json!({ "call": "webhook", "fault": "hold" })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    let paid = event("evt_by_hand", &checkout, &json!("paid"));

    let answers = join_all((0..50).map(|number| tell(&shop, number % 2, &paid))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, duplicate)| *duplicate == json!(false)).count(), 1, "{answers:?}");
    shop.until_status(id, "paid").await;

    for service in [Service::Gateway(0), Service::Gateway(1), Service::Worker(0)] {
        shop.kill(service);
    }
    shop.restart_server().await;
    shop.start_all();
    shop.until_ready().await;
    for gateway in [0, 1] {
        assert_eq!(tell(&shop, gateway, &paid).await, (200, json!(true)));
    }
    shop.until_idle().await;
    assert_eq!(shop.messages_in(StreamName::Webhooks).await, 1);
    assert_eq!(shop.event_types(id).await.len(), 5);
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// D3: words that decide nothing are taken and kept, and do not end the wait, however much they look like the right one.
#[tokio::test]
async fn a_word_that_decides_nothing_does_not_end_the_wait() {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let words = [json!("processing"), json!("PAID"), json!(" paid"), json!(""), Value::Null, json!(true)];
    for (number, word) in words.iter().enumerate() {
        let told = tell(&shop, 0, &event(&format!("evt_word_{number}"), &checkout, word)).await;
        assert_eq!(told, (200, json!(false)), "{word}");
    }
    shop.until_idle().await;
    assert_eq!(shop.view(id).await["status"], "awaiting_payment");
    assert_eq!(shop.event_types(id).await.len(), 3);
    assert_eq!(shop.dead_letters().await, 0);
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    shop.is_healthy().await;
}

/// D7, D20: it is answered when it is stored, although nobody is there to act on it; it counts once somebody is.
#[tokio::test]
async fn a_webhook_is_answered_without_waiting_for_what_it_leads_to() {
    let mut shop = Shop::open(crate::SERVICE).await;
    shop.fault(json!({ "call": "webhook", "fault": "hold" })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    shop.kill(Service::Worker(0));
    shop.kill(Service::Inventory(0));
    assert_eq!(tell(&shop, 0, &event("evt_by_hand", &checkout, &json!("paid"))).await, (200, json!(false)));
    assert_eq!(shop.view(id).await["status"], "awaiting_payment");
    shop.start_all();
    shop.until_status(id, "paid").await;
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// FW13: what is about no checkout of ours and decides nothing (a dispute, a refund that somebody made in the provider's own
/// pages) is taken and kept, so that the provider does not tell it for ever; it moves nothing.
#[tokio::test]
async fn an_event_that_is_about_no_checkout_and_decides_nothing_is_taken_and_kept() {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    shop.until_idle().await;
    let stored = shop.messages_in(StreamName::Webhooks).await;
    for (event, kind) in [("evt_dispute", "charge.dispute.created"), ("evt_refund", "charge.refunded")] {
        let event = json!({ "id": event, "type": kind, "amount": 1_490, "currency": "eur" });
        assert_eq!(tell(&shop, 0, &event).await, (200, json!(false)), "{kind}");
    }
    shop.until_idle().await;
    assert_eq!(shop.messages_in(StreamName::Webhooks).await, stored + 2);
    assert_eq!(shop.view(id).await["status"], "paid");
    assert_eq!(shop.event_types(id).await.len(), 5);
    assert_eq!(shop.dead_letters().await, 0);
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

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
    let unknown = "0198c0de-0000-7000-8000-00000000000f";
    let order = json!({
        "client_reference_id": unknown, "amount": 100, "currency": "eur",
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
    assert!(shop.records(unknown).await.is_empty(), "no checkout was made of it");
    shop.until_idle().await;
    shop.is_healthy().await;
}
