use std::time::Duration;

use common::{
    payment::sandbox::{DEVELOPMENT_SECRET, SandboxProvider},
    subject::DeadLetterArea,
};
use serde_json::{Value, json};

use super::super::samples::*;
use super::*;

fn body(event: &str, status: &str, session: &str) -> Value {
    json!({
        "id": event, "type": "payment_session.changed", "session_id": session,
        "client_reference_id": id(1), "payment_status": status, "amount": TOTAL, "currency": "eur",
    })
}

fn webhook(sequence: u64, body: &Value) -> Stored {
    let event = body["id"].as_str().expect("an id").parse().expect("an event id");
    let subject = Subject::Webhook("sandbox".parse().expect("a provider"), event);
    stored(sequence, &subject, at(4), body.to_string().into_bytes())
}

fn readers() -> Vec<Arc<dyn PaymentProvider>> {
    let secrets = DEVELOPMENT_SECRET.parse().expect("a secret");
    let sandbox = SandboxProvider::new("http://127.0.0.1:1", secrets, Duration::from_secs(1)).expect("a provider");
    vec![Arc::new(sandbox)]
}

/// Judge webhooks, of which so many are acked.
fn judged(
    events: Vec<common::contracts::checkout::CheckoutEvent>,
    letters: &DeadLetters,
    acked_up_to: u64,
    webhooks: &[Stored],
) -> (WebhookCounts, Findings) {
    let (histories, _) = read(&checkout_history(events));
    let (readers, mut findings) = (readers(), Findings::default());
    let mut check = WebhookCheck::new(&histories, letters, &readers, acked_up_to, at(10));
    for webhook in webhooks {
        check.look_at(webhook, &mut findings);
    }
    (check.finish(&mut findings), findings)
}

#[test]
fn a_webhook_is_applied_or_decides_nothing_or_waits_or_is_parked() {
    let mut letters = DeadLetters::default();
    letters.read_on(&parked(1, DeadLetterArea::Webhook, "webhook.sandbox.evt_3", "another session"));
    let webhooks = [
        webhook(1, &body("evt_1", "paid", "cs_1")),
        webhook(2, &body("evt_2", "processing", "cs_1")),
        webhook(3, &body("evt_3", "paid", "cs_9")),
        webhook(4, &body("evt_4", "failed", "cs_1")),
        webhook(5, &body("evt_5", "paid", "cs_9")),
    ];
    let (counts, findings) = judged(the_paid_way(), &letters, 4, &webhooks);
    assert!(findings.all().is_empty(), "{:?}", findings.all());
    let expected =
        WebhookCounts { stored: 5, waiting: 1, applied: 2, deciding_nothing: 1, parked: 1, ..WebhookCounts::default() };
    assert_eq!(counts, expected);
}

#[test]
fn a_webhook_that_was_taken_and_left_no_trace_is_found() {
    let paid_elsewhere = webhook(1, &body("evt_1", "paid", "cs_1"));
    let refused = webhook(1, &body("evt_1", "failed", "cs_1"));
    let of_nobody = webhook(1, &json!({ "id": "evt_1", "payment_status": "paid" }));
    let waiting_for_payment = the_paid_way()[..3].to_vec();
    for (events, webhook, expected) in [
        (the_expired_way(), &paid_elsewhere, "it says that checkout"),
        (waiting_for_payment.clone(), &refused, "should have been told that it will not be paid"),
        (Vec::new(), &paid_elsewhere, "does not exist"),
        (waiting_for_payment, &of_nobody, "it decides a payment but has no client_reference_id"),
    ] {
        let (_, findings) = judged(events, &DeadLetters::default(), 1, std::slice::from_ref(webhook));
        let broken = findings.broken_texts();
        assert!(broken.len() == 1 && broken[0].starts_with("1 webhook.sandbox.evt_1"), "{broken:?}");
        assert!(broken[0].contains(expected), "{broken:?}");
    }
}

#[test]
fn where_letters_are_gone_a_webhook_without_a_trace_may_have_been_dealt_with() {
    let mut letters = DeadLetters::default();
    letters.some_are_gone = true;
    let (_, findings) = judged(the_expired_way(), &letters, 1, &[webhook(1, &body("evt_1", "paid", "cs_1"))]);
    assert!(findings.broken_texts().is_empty());
    assert_eq!(findings.all().len(), 1);
    assert!(findings.all()[0].text.contains("may have been parked and dealt with"));
}

#[test]
fn money_from_a_webhook_that_is_not_stored_is_told() {
    let (_, findings) = judged(the_paid_way(), &DeadLetters::default(), 0, &[]);
    assert_eq!(findings.all().len(), 1);
    assert_eq!(findings.all()[0].subject, "webhook.sandbox.evt_1");
}
