//! Which webhooks are authentic. There is no server to store them on, so one that is authentic is answered 503.

use super::*;

impl Running {
    /// A webhook as it is, with a signature as it is.
    async fn webhook(&self, body: &str, signature: &str) -> Answer {
        let headers = [("content-type", "application/json"), (sandbox::SIGNATURE_HEADER, signature)];
        self.send("POST", "/payment_webhook", &headers, body.as_bytes()).await
    }
}

#[tokio::test]
async fn an_authentic_webhook_is_not_taken_while_it_cannot_be_stored() {
    let gateway = start(Config::default()).await;
    let secrets: WebhookSecrets = SECRET.parse().expect("a secret");
    let sign = |body: &str| secrets.sign(body.as_bytes(), time::now());
    let paid = paid_event();
    gateway.webhook(&paid, &sign(&paid)).await.assert_problem(503, "unavailable");

    gateway.webhook(&paid, "t=1,v1=00").await.assert_problem(400, "webhook_refused");
    gateway.webhook(&paid, "").await.assert_problem(400, "webhook_refused");
    gateway.webhook(&paid.replace("paid", "PAID"), &sign(&paid)).await.assert_problem(400, "webhook_refused");
    gateway.webhook("nonsense", &sign("nonsense")).await.assert_problem(400, "webhook_refused");
    for (from, to) in [("client_reference_id", "other"), ("0198c0de", "order/..")] {
        let without_reference = paid.replace(from, to);
        let answer = gateway.webhook(&without_reference, &sign(&without_reference)).await;
        answer.assert_problem(400, "webhook_refused");
    }
    // About no checkout, but it decides nothing: it would be kept.
    let dispute = r#"{"id":"evt_2","type":"charge.dispute.created","amount":1000,"currency":"eur"}"#;
    gateway.webhook(dispute, &sign(dispute)).await.assert_problem(503, "unavailable");
}

fn paid_event() -> String {
    let id = checkout_view::tests::id();
    format!(
        r#"{{"id":"evt_1","type":"payment.paid","session_id":"ps_1","client_reference_id":"{id}","payment_status":"paid","amount":1000,"currency":"eur"}}"#
    )
}

/// FT1: a gateway whose clock is ten minutes ahead of the provider's, or behind it, takes none of its webhooks, and an alert
/// can see it. They come again for days, so a clock that was set right gets them all.
#[tokio::test]
async fn a_gateway_whose_clock_is_wrong_refuses_webhooks_and_counts_them() {
    common::service::telemetry::init_metrics();
    let gateway = start(Config::default()).await;
    let secrets: WebhookSecrets = SECRET.parse().expect("a secret");
    let (paid, minutes) = (paid_event(), |minutes| jiff::SignedDuration::from_mins(minutes));
    for off_by in [minutes(-10), minutes(10), minutes(60)] {
        let signature = secrets.sign(paid.as_bytes(), time::now() + off_by);
        gateway.webhook(&paid, &signature).await.assert_problem(400, "webhook_refused");
    }
    let counted = gateway.get("/metrics").await.body;
    let line = counted.lines().find(|line| line.contains(r#"gateway_webhooks_total{outcome="wrong_time"}"#));
    let count: u64 = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default();
    assert!(count >= 3, "{counted}");
}

/// FW10, D12: while a secret is replaced, what either has signed is authentic (503 here, for want of a server to store it
/// on), also when a header brings a value of each.
#[tokio::test]
async fn while_a_secret_is_replaced_webhooks_of_both_are_authentic() {
    let gateway = start(Config::default()).await;
    let paid = paid_event();
    for (signers, status, code) in [
        (SECRET.to_owned(), 503, "unavailable"),
        (OLD_SECRET.to_owned(), 503, "unavailable"),
        (format!("the-webhook-secret-2,{SECRET}"), 503, "unavailable"),
        (format!("{OLD_SECRET},{SECRET}"), 503, "unavailable"),
        ("the-webhook-secret-2".to_owned(), 400, "webhook_refused"),
    ] {
        let signers: WebhookSecrets = signers.parse().expect("secrets");
        gateway.webhook(&paid, &signers.sign(paid.as_bytes(), time::now())).await.assert_problem(status, code);
    }
}
