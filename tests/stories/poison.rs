//! Messages that nobody can use: each is parked with its reason, and everybody else's go on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{ids::WorkflowId, streams::StreamName};
use stories::{Parked, Shop};

const NUDGE: &str = r#"{"type":"nudge"}"#;

/// Subject, body, the area where it must be parked, and a word of the reason.
fn poison() -> Vec<(String, Bytes, &'static str, &'static str)> {
    let id = WorkflowId::random();
    let body = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let not_ours =
        r#"{"id":"evt_2","type":"payment_session.paid","payment_status":"paid","amount":1490,"currency":"eur"}"#;
    vec![
        (format!("command.checkout.{id}"), body("buy me a mug"), "command", "cannot be read"),
        (format!("command.checkout.{id}"), body(""), "command", "cannot be read"),
        (format!("command.checkout.{id}"), Bytes::from_static(b"\xff\xfe\x00"), "command", "cannot be read"),
        (format!("command.checkout.{id}"), body(r#"{"type":"teleport"}"#), "command", "teleport"),
        (format!("command.checkout.{id}"), body(r#"{"type":"start","lines":[]}"#), "command", "missing field"),
        (format!("command.refund.{id}"), body(r#"{"type":"cancel","by":"customer"}"#), "command", "cancel"),
        (format!("command.teleport.{id}"), body(NUDGE), "command", "checkout or refund"),
        ("command.checkout.number-1".into(), body(NUDGE), "command", "workflow id"),
        (format!("command.checkout.{}", id.to_string().to_uppercase()), body(NUDGE), "command", "workflow id"),
        ("command.checkout.☃".into(), body(NUDGE), "command", "workflow id"),
        ("webhook.sandbox.evt_1".into(), body("paid, honestly"), "webhook", "not JSON"),
        ("webhook.sandbox.evt_2".into(), body(not_ours), "webhook", "client_reference_id"),
        ("webhook.sandbox.evt_3".into(), Bytes::from_static(b"\xff\xfe\x00"), "webhook", "not JSON"),
        ("webhook.piggybank.evt_1".into(), body("{}"), "webhook", "piggybank"),
        ("due.strange".into(), body(""), "due", "subject"),
        ("due.checkout.number-1".into(), body(""), "due", "workflow id"),
        (format!("due.teleport.{id}"), body(""), "due", "checkout or refund"),
        (format!("due.checkout.{id}.again"), body(""), "due", "subject"),
    ]
}

/// FP5, FX6, D10: of each kind of message that a worker takes, every way to be of no use.
#[tokio::test]
async fn what_no_worker_can_use_is_parked_with_its_reason_and_the_others_go_on() {
    let shop = Shop::open(crate::SERVICE).await;
    let before = shop.checkout("MUG-01", 1).await;
    let poison = poison();
    for (subject, body, ..) in &poison {
        shop.store(subject, body.clone()).await;
    }
    let after = shop.checkout("MUG-01", 1).await;
    for checkout in [&before, &after] {
        shop.pay(checkout).await;
        shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    }

    let parked = shop.until_parked(poison.len()).await;
    for (subject, body, area, reason) in &poison {
        let is_it = |one: &&Parked| one.original_subject == *subject && one.payload == *body;
        let found: Vec<&Parked> = parked.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{subject} {body:?}: {parked:#?}");
        assert_eq!(found[0].area, *area, "{subject}");
        assert!(found[0].reason.contains(reason), "{subject} {body:?}: {}", found[0].reason);
    }
    shop.until_idle().await;
    assert_eq!(shop.messages_in(StreamName::Commands).await, 0, "parked and gone");
    assert_eq!(shop.dead_letters().await, u64::try_from(poison.len()).expect("a few"), "each once");
    shop.is_healthy().await;
    let report = shop.examine().await;
    assert!(report.findings.iter().any(|finding| finding.text.contains("teleport")), "{}", report.to_text());
}

/// FX6: the largest message that the server takes has no room for a reason any more. It must not hold up the others,
/// nor come again for ever.
#[tokio::test]
async fn a_message_of_the_largest_size_is_parked_without_holding_up_the_others() {
    let shop = Shop::open(crate::SERVICE).await;
    let size = shop.nats.client.max_payload();
    let started = Instant::now();
    let id = WorkflowId::random();
    let subjects = [
        format!("command.checkout.{id}"),
        "webhook.sandbox.evt_large".into(),
        "due.large".into(),
        format!("inventory.command.{id}"),
    ];
    for subject in &subjects {
        shop.store(subject, vec![b'x'; size]).await;
    }
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    assert!(started.elapsed() < Duration::from_secs(10), "it held up the others: {:?}", started.elapsed());

    let parked = shop.until_parked(subjects.len()).await;
    for one in &parked {
        assert!(subjects.contains(&one.original_subject), "{}", one.original_subject);
        assert!(one.payload.len() > size / 2, "most of it is kept: {}", one.payload.len());
        assert!(one.reason.contains(&size.to_string()), "the reason tells that it was cut: {}", one.reason);
    }
    shop.until_idle().await;
    for stream in [StreamName::Commands, StreamName::InventoryCommands] {
        assert_eq!(shop.messages_in(stream).await, 0, "parked and gone from {}", stream.as_str());
    }
    shop.is_healthy().await;
}
