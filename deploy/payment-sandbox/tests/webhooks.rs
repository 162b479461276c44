//! What the shop is told, and how hard the sandbox tries.

mod stage;

use common::{
    contracts::checkout::PaymentOutcome,
    ids::WorkflowId,
    money::Money,
    payment::{PaymentProvider as _, WebhookRefused, sandbox::SandboxProvider},
    time::now,
};
use http::HeaderMap;
use rstest::rstest;
use serde_json::{Value, json};
use stage::{Arrived, Stage, secrets};

/// What the shop's client makes of a webhook.
fn verified(arrived: &Arrived) -> Result<common::contracts::webhook::WebhookEvent, WebhookRefused> {
    let client = SandboxProvider::new("http://127.0.0.1:1", secrets(), stage::PATIENCE).expect("a client");
    let mut headers = HeaderMap::new();
    headers.insert("payment-signature", arrived.signature.parse().expect("a header value"));
    client.verify_webhook(&headers, &arrived.raw, now())
}

async fn events(stage: &Stage, session: &str) -> Value {
    stage.get(&format!("/api/events?session_id={session}")).await.1["data"].clone()
}

#[rstest]
#[case("submit_payment", PaymentOutcome::Paid)]
#[case("decline_payment", PaymentOutcome::Declined)]
#[case("cancel_payment", PaymentOutcome::Cancelled)]
#[tokio::test]
async fn a_decision_is_told_once_and_signed(#[case] call: &str, #[case] outcome: PaymentOutcome) {
    let stage = Stage::new().await;
    let reference = WorkflowId::random();
    let session = stage.session(&reference.to_string()).await;
    for _ in 0..3 {
        assert_eq!(stage.act(call, &session).await.0, 200);
    }
    let taken = stage.receiver.taken(1).await;
    let event = verified(&taken[0]).expect("it is authentic");
    assert_eq!(
        (event.reference, event.outcome, event.amount),
        (Some(reference), Some(outcome), Some(Money::eur(2599)))
    );
    assert_eq!(event.session_id.map(|id| id.to_string()), Some(session.clone()));
    let deadline = std::time::Instant::now() + stage::PATIENCE;
    while events(&stage, &session).await[0]["delivered_at"].is_null() {
        assert!(std::time::Instant::now() < deadline, "the delivery was never noted");
    }
    assert_eq!(stage.receiver.arrived().len(), 1);
    assert_eq!(events(&stage, &session).await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_session_that_ends_unpaid_by_itself_or_by_the_shop_is_not_told() {
    let stage = Stage::new().await;
    let session = stage.session("order-1").await;
    stage.act("expire_session", &session).await;
    assert_eq!(events(&stage, &session).await, json!([]));
}

#[tokio::test]
async fn a_webhook_is_sent_until_it_is_taken() {
    let stage = Stage::new().await;
    stage.receiver.will_answer(&[400, 500, 302]);
    let session = stage.session("order-1").await;
    stage.act("submit_payment", &session).await;
    stage.receiver.taken(1).await;
    let arrived = stage.receiver.arrived();
    let answers: Vec<u16> = arrived.iter().map(|arrived| arrived.answered).collect();
    assert_eq!(answers, [400, 500, 302, 200]);
    assert!(arrived.iter().all(|one| one.raw == arrived[0].raw), "the same event every time");
    let deadline = std::time::Instant::now() + stage::PATIENCE;
    while events(&stage, &session).await[0]["attempt_count"] != 4 {
        assert!(std::time::Instant::now() < deadline, "the attempts were never noted");
    }
    let noted = events(&stage, &session).await[0]["attempts"].clone();
    assert_eq!(noted[1]["answer"], "500 Internal Server Error");
    assert_eq!(noted[3]["delivered"], true);
}

#[tokio::test]
async fn the_events_of_a_session_come_in_their_order() {
    let stage = Stage::new().await;
    stage.receiver.will_answer(&[500, 500]);
    let session = stage.session("order-1").await;
    stage.act("cancel_payment", &session).await;
    stage.fault(json!({ "fault": "pay_after_close" })).await;
    stage.act("submit_payment", &session).await;
    let taken = stage.receiver.taken(2).await;
    let told: Vec<&Value> = taken.iter().map(|arrived| &arrived.body["payment_status"]).collect();
    assert_eq!(told, ["cancelled", "paid"]);
}

#[tokio::test]
async fn many_webhooks_are_all_delivered() {
    let stage = Stage::new().await;
    let pay = |number: usize| {
        let stage = &stage;
        async move {
            let session = stage.session(&format!("order-{number}")).await;
            stage.act("submit_payment", &session).await;
            session
        }
    };
    let mut paid = futures_util::future::join_all((0..300).map(pay)).await;
    let mut told: Vec<String> = stage
        .receiver
        .taken(300)
        .await
        .iter()
        .map(|arrived| arrived.body["session_id"].as_str().expect("an id").to_owned())
        .collect();
    paid.sort();
    told.sort();
    assert_eq!(told, paid);
}

#[tokio::test]
async fn held_webhooks_come_when_the_script_is_cleared() {
    let stage = Stage::new().await;
    stage.fault(json!({ "call": "webhook", "fault": "hold", "reference": "order-1" })).await;
    let held = stage.session("order-1").await;
    stage.act("submit_payment", &held).await;
    let other = stage.session("order-2").await;
    stage.act("submit_payment", &other).await;
    let taken = stage.receiver.taken(1).await;
    assert_eq!(taken[0].body["session_id"], json!(other), "the other one is not held");
    assert_eq!(events(&stage, &held).await[0]["attempt_count"], 0);
    stage.clear_faults().await;
    let taken = stage.receiver.taken(2).await;
    assert_eq!(taken[1].body["session_id"], json!(held));
}

#[tokio::test]
async fn a_webhook_can_come_more_than_once() {
    let stage = Stage::new().await;
    stage.fault(json!({ "call": "webhook", "fault": "duplicate", "copies": 4, "times": 1 })).await;
    let session = stage.session("order-1").await;
    stage.act("submit_payment", &session).await;
    let taken = stage.receiver.taken(5).await;
    assert!(taken.iter().all(|arrived| arrived.body["id"] == taken[0].body["id"]));
}

#[tokio::test]
async fn a_webhook_can_lie() {
    let stage = Stage::new().await;
    for fault in ["wrong_amount", "wrong_currency", "wrong_session"] {
        stage.fault(json!({ "call": "webhook", "fault": fault, "times": 1 })).await;
    }
    let session = stage.session("order-1").await;
    stage.act("submit_payment", &session).await;
    let taken = stage.receiver.taken(1).await;
    let body = &taken[0].body;
    assert_eq!(
        (&body["amount"], &body["currency"], &body["session_id"]),
        (&json!(2600), &json!("usd"), &json!("cs_of_nobody"))
    );
    assert!(verified(&taken[0]).is_ok(), "the lie is signed");
}

#[rstest]
#[case("wrong_signature", WebhookRefused::WrongSignature)]
#[case("stale", WebhookRefused::WrongTime { tolerance_seconds: 300 })]
#[tokio::test]
async fn a_webhook_can_be_signed_badly_and_comes_again(#[case] fault: &str, #[case] refused: WebhookRefused) {
    let stage = Stage::new().await;
    stage.fault(json!({ "call": "webhook", "fault": fault, "times": 1 })).await;
    stage.receiver.will_answer(&[400]);
    let session = stage.session("order-1").await;
    stage.act("submit_payment", &session).await;
    let taken = stage.receiver.taken(1).await;
    assert_eq!(verified(&stage.receiver.arrived()[0]), Err(refused));
    assert!(verified(&taken[0]).is_ok());
}

#[tokio::test]
async fn what_was_not_delivered_is_delivered_after_a_restart() {
    let stage = Stage::new().await;
    stage.fault(json!({ "fault": "hold" })).await;
    let session = stage.session("order-1").await;
    stage.act("submit_payment", &session).await;
    assert!(stage.receiver.arrived().is_empty());
    let stage = stage.restarted().await;
    let taken = stage.receiver.taken(1).await;
    assert_eq!(taken[0].body["session_id"], json!(session));
    let stage = stage.restarted().await;
    assert_eq!(events(&stage, &session).await[0]["attempts"][0]["delivered"], true);
}
