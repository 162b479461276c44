//! An operator brings a checkout to its end that no worker may touch: its history is damaged or lost, and its goods are still
//! held. Whatever the provider says is what counts: goods go back only when nobody can pay any more.

use std::process::{Command, Output};

use common::streams::StreamName;
use rstest::rstest;
use serde_json::{Value, json};
use stories::{Shop, eventually};

use crate::{
    dead_letters::dead_letters_json,
    quarantine::{Damage, damage},
};

fn repair_with(shop: &Shop, id: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    repair_at(&shop.server.client_url(), shop, id, arguments, environment)
}

/// Repair at a server's address, in which the user may be named.
pub(crate) fn repaired_at(url: &str, shop: &Shop, id: &str) {
    let output = repair_at(url, shop, id, &[], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn repair_at(url: &str, shop: &Shop, id: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(crate::SERVICE)
        .args(["repair", "--nats-url", url, "--payment-url", &shop.payment_url()])
        .args(["--payment-call-timeout", "1s", "--because", "the disk was bad", id])
        .args(arguments)
        .env("CHECKOUT_OPERATOR", "anna")
        .envs(environment.iter().copied())
        .output()
        .expect("run the operator's command")
}

/// What it printed for programs, when it did its work.
fn repaired(shop: &Shop, id: &str, arguments: &[&str]) -> Value {
    let output = repair_with(shop, id, &[&["--json"], arguments].concat(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What it said when it refused.
fn refused(shop: &Shop, id: &str, arguments: &[&str]) -> String {
    let output = repair_with(shop, id, arguments, &[]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A checkout that waits for its money, with its mug held.
async fn waiting(shop: &Shop) -> (String, Value) {
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    (checkout["workflow_id"].as_str().expect("an id").to_owned(), checkout)
}

/// What is recorded of repairs: who, why, and what was wrong.
fn is_recorded_once(shop: &Shop, id: &str, fault: &str) {
    let letters = dead_letters_json(shop, &["list", "--settled", "--reason", "began to repair"]);
    let [letter] = &letters.as_array().expect("letters")[..] else { panic!("one letter: {letters}") };
    assert_eq!(letter["original_subject"], format!("history.checkout.{id}"));
    assert!(letter["reason"].as_str().is_some_and(|reason| reason.contains(fault)), "{letter}");
    let settled = &letter["settled"];
    assert_eq!(
        (&settled["type"], &settled["by"], &settled["because"]),
        (&json!("repaired"), &json!("anna"), &json!("the disk was bad")),
    );
}

/// Nobody has been charged for a mug that went back, and the worker was asked nothing.
async fn is_given_back(shop: &Shop, id: &str) {
    shop.until_stock("MUG-01", 100, 0, 0).await;
    let books = shop.books(id).await;
    assert_eq!((books.len(), &books[0]["charges"]), (1, &json!([])), "{books:?}");
    assert_ne!(books[0]["status"], "open", "nobody can pay any more");
}

/// I4: a damaged history; nobody has paid. The session is closed, then the goods go back. Once more changes nothing.
#[rstest]
#[tokio::test]
async fn a_damaged_checkout_that_nobody_has_paid_gives_its_goods_back(
    #[values(Damage::WrongHash, Damage::NoJson)] kind: Damage,
) {
    let shop = Shop::open(crate::SERVICE).await;
    let (id, _) = waiting(&shop).await;
    damage(&shop, &id, kind).await;
    let done = repaired(&shop, &id, &[]);
    assert_eq!(done, json!({ "outcome": "released", "status": "cancelled" }));
    is_given_back(&shop, &id).await;
    is_recorded_once(&shop, &id, "its history is damaged");
    assert_eq!(repaired(&shop, &id, &[]), json!({ "outcome": "nothing_held", "ledger": "released" }));
    shop.until_idle().await;
    assert_eq!(shop.records(&id).await.len(), 4, "nothing was written into the damaged history");
    assert_eq!(shop.parked().await.len(), 1, "no worker was told anything: only the operator's own letter is there");
}

/// I4: a damaged history; the customer has paid, which the worker could not take. The goods are sold.
#[tokio::test]
async fn a_damaged_checkout_that_somebody_has_paid_gets_its_goods() {
    let shop = Shop::open(crate::SERVICE).await;
    let (id, checkout) = waiting(&shop).await;
    damage(&shop, &id, Damage::WrongIndex).await;
    shop.pay(&checkout).await;
    shop.until_parked(1).await;
    let output = repair_with(&shop, &id, &[], &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("somebody had paid, so its goods are sold (paid)"), "{said}");
    shop.until_stock("MUG-01", 99, 0, 1).await;
    let books = shop.books(&id).await;
    assert_eq!(books[0]["charges"].as_array().map(Vec::len), Some(1), "{books:?}");
    assert_eq!(books[0]["refunds"], json!([]));
}

/// B16, I4: a lost history. Without its session nothing is done, nor while the session can be paid.
#[tokio::test]
async fn a_lost_checkout_is_brought_to_its_end_by_its_session() {
    let shop = Shop::open(crate::SERVICE).await;
    let (id, checkout) = waiting(&shop).await;
    shop.lose(StreamName::History, &format!("history.checkout.{id}")).await;
    let report = shop.examine().await.to_text();
    assert!(report.contains("stock is held for it, but there is no such checkout"), "{report}");

    let said = refused(&shop, &id, &[]);
    assert!(said.contains("its history is lost") && said.contains("--session"), "{said}");
    let session = checkout["payment"]["session_id"].as_str().expect("a session");
    let said = refused(&shop, &id, &["--session", session]);
    assert!(said.contains("can still be paid"), "{said}");
    shop.until_stock("MUG-01", 99, 1, 0).await;

    shop.at_provider("cancel_payment", &checkout).await;
    assert_eq!(repaired(&shop, &id, &["--session", session])["outcome"], "released");
    is_given_back(&shop, &id).await;
    is_recorded_once(&shop, &id, "its history is lost");
    let report = shop.examine().await.to_text();
    assert!(!report.contains("stock is held for it"), "{report}");
}

/// A lost history whose session was paid before: the customer gets the goods.
#[tokio::test]
async fn a_lost_checkout_that_somebody_has_paid_gets_its_goods() {
    let mut shop = Shop::open(crate::SERVICE).await;
    let (id, checkout) = waiting(&shop).await;
    shop.kill(stories::Service::Worker(0));
    shop.pay(&checkout).await;
    shop.lose(StreamName::History, &format!("history.checkout.{id}")).await;
    let session = checkout["payment"]["session_id"].as_str().expect("a session");
    assert_eq!(repaired(&shop, &id, &["--session", session])["outcome"], "sold");
    shop.until_stock("MUG-01", 99, 0, 1).await;
}

/// A checkout that the shop can bring to its end by itself is none of an operator's business, in any phase.
#[tokio::test]
async fn a_sound_checkout_is_not_repaired() {
    let shop = Shop::open(crate::SERVICE).await;
    let (id, checkout) = waiting(&shop).await;
    let said = refused(&shop, &id, &[]);
    assert!(said.contains("is sound") && said.contains("cancel it"), "{said}");
    shop.pay(&checkout).await;
    shop.until_status(&id, "paid").await;
    shop.until_idle().await;
    assert_eq!(repaired(&shop, &id, &[]), json!({ "outcome": "nothing_held", "ledger": "sold" }));
    let nobody = common::ids::WorkflowId::random().to_string();
    assert_eq!(repaired(&shop, &nobody, &[]), json!({ "outcome": "nothing_held", "ledger": "nothing" }));
    shop.is_healthy().await;
}

/// While the provider does not answer, nobody knows whether somebody pays: the goods stay held, and that somebody has begun
/// is seen. The same command again brings it to its end.
#[tokio::test]
async fn nothing_goes_back_while_the_provider_does_not_answer() {
    let shop = Shop::open(crate::SERVICE).await;
    let (id, _) = waiting(&shop).await;
    damage(&shop, &id, Damage::NoJson).await;
    shop.fault(json!({ "call": "expire_session", "fault": "down" })).await;
    let said = refused(&shop, &id, &[]);
    assert!(
        said.contains("the provider did not close session") && said.contains("Run the same command again"),
        "{said}"
    );
    shop.until_stock("MUG-01", 99, 1, 0).await;
    let waiting = dead_letters_json(&shop, &["list", "--reason", "began to repair"]);
    assert_eq!(waiting.as_array().map(Vec::len), Some(1), "{waiting}");
    shop.no_faults().await;
    assert_eq!(repaired(&shop, &id, &[])["outcome"], "released");
    is_given_back(&shop, &id).await;
    is_recorded_once(&shop, &id, "its history is damaged");
}

/// Killed at any place, it is simply run again.
#[rstest]
#[tokio::test]
async fn a_repair_that_was_killed_is_run_again(
    #[values("operator.repair.after_begin", "operator.repair.before_publish", "operator.repair.after_publish")]
    point: &str,
) {
    let shop = Shop::open(crate::SERVICE).await;
    let (id, _) = waiting(&shop).await;
    damage(&shop, &id, Damage::NoJson).await;
    let killed = repair_with(&shop, &id, &[], &[("CHECKOUT_CRASH_AT", point)]);
    assert!(!killed.status.success());
    eventually("what was asked of the inventory is done", async || {
        (shop.messages_in(StreamName::InventoryCommands).await == 0).then_some(())
    })
    .await;
    repaired(&shop, &id, &[]);
    is_given_back(&shop, &id).await;
    is_recorded_once(&shop, &id, "its history is damaged");
}
