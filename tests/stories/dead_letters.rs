//! What an operator does about messages that could not be handled: looks, sends them again when the cause is gone, or
//! discards them; each is recorded with who did it, and none of it can do harm when it is repeated or cut short.

use std::process::{Command, Output};

use async_nats::jetstream::stream::Config;
use common::{
    contracts::dead_letter::{Settlement, SettlementAct},
    nats::read,
    streams::StreamName,
};
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

/// Run the operator's `dead-letters` as a process of its own.
pub(crate) fn dead_letters(shop: &Shop, arguments: &[&str]) -> Output {
    dead_letters_with(shop, arguments, &[])
}

fn dead_letters_with(shop: &Shop, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    dead_letters_at(&shop.server.client_url(), arguments, environment)
}

/// The same at a server's address, in which the user may be named.
pub(crate) fn dead_letters_at(url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(crate::SERVICE)
        .args(["dead-letters", "--nats-url", url])
        .args(arguments)
        .env("CHECKOUT_OPERATOR", "anna")
        .envs(environment.iter().copied())
        .output()
        .expect("run the operator's command")
}

/// What the command prints for programs.
pub(crate) fn dead_letters_json(shop: &Shop, arguments: &[&str]) -> Value {
    let output = dead_letters(shop, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is recorded about a letter, straight from the stream.
async fn recorded(shop: &Shop, letter: u64) -> Vec<Settlement> {
    let subject = common::subject::Subject::LetterSettled(letter);
    let stored = read::subject(&shop.nats, StreamName::DeadLetters, &subject).await.expect("the dead letters");
    stored.iter().map(|one| serde_json::from_slice(&one.payload).expect("a settlement")).collect()
}

/// FP5, G6, I10: a webhook that a worker could not handle is parked; when a better worker runs, the operator sends it again.
/// The operator's command is killed half way the first time: the message is sent once, and the letter is marked in the end.
#[tokio::test]
async fn a_parked_webhook_is_sent_again_when_the_cause_is_gone_and_a_killed_redrive_harms_nobody() {
    let worker_flags = &["--most-failures=2"];
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { worker_flags, ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
    shop.kill(Service::Worker(0));
    shop.start_with(Service::Worker(0), "CHECKOUT_PANIC_AT", &format!("worker.decide:{id}"));
    shop.pay(&checkout).await;
    shop.until_parked(1).await;
    shop.kill(Service::Worker(0));
    shop.start(Service::Worker(0));

    let listed = dead_letters_json(&shop, &["list", "--workflow", &id]);
    let letter = &listed[0];
    assert_eq!((&letter["area"], &letter["original_stream"]), (&json!("webhook"), &json!("WEBHOOKS")), "{listed}");
    assert_eq!((&letter["deliveries"], &letter["workflow"]), (&json!(2), &json!(format!("checkout {id}"))), "{listed}");
    assert!(letter["reason"].as_str().is_some_and(|why| why.contains("panicked")), "{listed}");
    let sequence = letter["sequence"].as_u64().expect("a sequence");

    let crash = [("CHECKOUT_CRASH_AT", "operator.redrive.after_send")];
    let killed = dead_letters_with(&shop, &["redrive", &sequence.to_string()], &crash);
    assert!(!killed.status.success());
    assert!(recorded(&shop, sequence).await.is_empty(), "the letter is not marked yet");
    shop.until_status(&id, "paid").await;
    let webhooks = shop.messages_in(StreamName::Webhooks).await;
    assert_eq!(webhooks, 2, "as it came, and as it was sent again");

    let again = dead_letters(&shop, &["redrive", &sequence.to_string(), "--because", "worker 2 runs"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(shop.messages_in(StreamName::Webhooks).await, webhooks, "the message was recognised");
    let third = dead_letters(&shop, &["redrive", &sequence.to_string()]);
    assert!(
        third.status.success() && text(&third.stdout).contains("was driven again by anna"),
        "{}",
        text(&third.stdout)
    );
    let [settlement] = &recorded(&shop, sequence).await[..] else { panic!("one record") };
    assert_eq!((settlement.act, settlement.by.as_str()), (SettlementAct::Redriven, "anna"));
    assert_eq!(settlement.because.as_deref(), Some("worker 2 runs"));

    assert_eq!(dead_letters_json(&shop, &["list"]), json!([]));
    assert_eq!(shop.books(&id).await[0]["charges"].as_array().map(Vec::len), Some(1));
    shop.until_stock("MUG-01", 99, 0, 1).await;
    shop.is_healthy().await;
}

/// I10: what is discarded is not asked about again; who did it and why stays, also when the letter has grown too old.
#[tokio::test]
async fn a_discarded_letter_is_not_asked_about_again_and_the_record_outlives_it() {
    let shop = Shop::open(crate::SERVICE).await;
    for number in 1..=3 {
        shop.store(&format!("webhook.sandbox.evt_{number}"), "paid, honestly").await;
    }
    shop.until_parked(3).await;
    let listed = dead_letters_json(&shop, &["list", "--area", "webhook", "--reason", "not JSON"]);
    let numbers: Vec<String> =
        listed.as_array().expect("letters").iter().map(|one| one["sequence"].to_string()).collect();
    assert_eq!(numbers.len(), 3, "{listed}");
    let table = text(&dead_letters(&shop, &["list"]).stdout);
    assert!(table.contains("webhook.sandbox.evt_2") && table.contains("not JSON"), "{table}");
    let shown = text(&dead_letters(&shop, &["show", &numbers[0]]).stdout);
    assert!(shown.contains("paid, honestly") && shown.contains("waits for you"), "{shown}");

    let because = "a joke, says the provider";
    let done = dead_letters(&shop, &["discard", &numbers[0], &numbers[1], "--because", because]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let late = dead_letters(&shop, &["discard", &numbers[0], "--by", "berta", "--because", "me too"]);
    assert!(late.status.success() && text(&late.stdout).contains("discarded by anna"), "{}", text(&late.stdout));
    let redriven = dead_letters(&shop, &["redrive", &numbers[0]]);
    assert!(text(&redriven.stdout).contains("discarded by anna"), "{}", text(&redriven.stdout));
    assert_eq!(shop.messages_in(StreamName::Webhooks).await, 3, "what was discarded is not sent again");
    let left = dead_letters_json(&shop, &["list"]);
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    assert_eq!(dead_letters_json(&shop, &["list", "--settled"]).as_array().map(Vec::len), Some(3));
    let report = shop.examine().await;
    assert_eq!(report.summary.dead_letters, 1, "{}", report.to_text());

    // A month later.
    let stream = shop.nats.jetstream.get_stream("DEAD_LETTERS").await.expect("the stream");
    let config = stream.cached_info().config.clone();
    let short = Config { max_age: std::time::Duration::from_secs(1), ..config };
    shop.nats.jetstream.update_stream(short).await.expect("a short life");
    eventually("the letters have gone", async || shop.parked().await.is_empty().then_some(())).await;
    for number in &numbers[..2] {
        let [record] = &recorded(&shop, number.parse().expect("a number")).await[..] else { panic!("one record") };
        assert_eq!((record.act, record.by.as_str()), (SettlementAct::Discarded, "anna"));
        assert_eq!(record.because.as_deref(), Some(because));
        assert!(record.original_subject.starts_with("webhook.sandbox.evt_"), "{record:?}");
    }
}

/// What is asked wrongly is refused with words; what is still poison is parked again, with nothing lost; what was cut cannot
/// be sent again.
#[tokio::test]
async fn what_cannot_be_done_is_told_and_what_is_still_poison_is_parked_again() {
    let shop = Shop::open(crate::SERVICE).await;
    let unknown = dead_letters(&shop, &["show", "7"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("there is no dead letter 7"), "{}", text(&unknown.stderr));
    assert_eq!(dead_letters(&shop, &["redrive", "7"]).status.code(), Some(1));
    assert_eq!(dead_letters(&shop, &["discard", "7", "--because", "x"]).status.code(), Some(1));
    for wrong in [&["redrive"][..], &["discard", "7"], &["discard", "7", "--because", " "], &["show", "seven"]] {
        assert_eq!(dead_letters(&shop, wrong).status.code(), Some(2), "{wrong:?}");
    }

    let id = common::ids::WorkflowId::random();
    shop.store(&format!("command.checkout.{id}"), r#"{"type":"teleport"}"#).await;
    shop.store("command.teleport.x", "{}").await;
    shop.store("webhook.sandbox.evt_large", vec![b'x'; shop.nats.client.max_payload()]).await;
    let parked = shop.until_parked(3).await;
    let redriven = dead_letters(&shop, &["redrive", "--all"]);
    assert_eq!(redriven.status.code(), Some(1), "two of three cannot be sent again");
    let told = text(&redriven.stdout);
    assert!(told.contains("no service of this version") && told.contains("too large to be kept whole"), "{told}");
    assert!(told.contains("redriven   "), "{told}");

    let four = shop.until_parked(4).await;
    let teleport = |one: &&stories::Parked| one.original_subject.ends_with(&id.to_string());
    assert_eq!(four.iter().filter(teleport).count(), 2, "{four:#?}");
    assert!(four[3].reason == parked.iter().find(teleport).expect("the first").reason, "{four:#?}");
    let left = dead_letters_json(&shop, &["list", "--workflow", &id.to_string()]);
    assert_eq!(left.as_array().map(Vec::len), Some(1), "the first letter was seen to, the second waits: {left}");
    shop.until_idle().await;
    shop.is_healthy().await;
}
