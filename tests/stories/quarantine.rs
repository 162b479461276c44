//! A history that cannot be trusted: nothing is done for that checkout until a person has looked at it, and everything
//! else goes on.

use std::time::Duration;

use async_nats::{HeaderMap, header};
use common::{headers, record::RecordHash, streams::StreamName, subject::Subject};
use rstest::rstest;
use serde_json::{Value, json};
use stories::{Shop, ShopOptions};

/// What is wrong with the record that somebody has put at the end of a history.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    WrongHash,
    WrongIndex,
    NoJson,
}

impl Damage {
    /// The record, but for the damage a good one.
    fn record(self, index: usize, previous: &RecordHash) -> Vec<u8> {
        let mut record = json!({
            "type": "deadline_passed", "index": index, "status": "settling", "at": common::time::now(),
            "events": [{ "type": "deadline_passed" }], "previous": previous,
        });
        match self {
            Self::WrongHash => record["previous"] = json!(RecordHash::of(b"something else")),
            Self::WrongIndex => record["index"] = json!(index + 4),
            Self::NoJson => return b"\0\0\0\0".to_vec(),
        }
        record.to_string().into_bytes()
    }

    /// What must be said of it.
    fn difference(self) -> &'static str {
        match self {
            Self::WrongHash => "record 3 does not continue the record before it",
            Self::WrongIndex => "record 3 expected, but the next one says that it is 7",
            Self::NoJson => "record 3 cannot be read",
        }
    }
}

/// Put a record at the end of a checkout's history, as a worker would but for its content.
pub(crate) async fn damage(shop: &Shop, id: &str, damage: Damage) {
    let records = shop.records(id).await;
    let last = records.last().expect("a history");
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.sequence.to_string());
    headers.insert(headers::NEXT, "run");
    let record = damage.record(records.len(), &RecordHash::of(&last.payload));
    shop.store_with_headers(&format!("history.checkout.{id}"), headers, record).await;
}

/// FD5, FP18: paid, cancelled and overdue, it stays where it is.
#[rstest]
#[tokio::test]
async fn nothing_is_done_for_a_checkout_whose_history_cannot_be_trusted(
    #[values(Damage::WrongHash, Damage::WrongIndex, Damage::NoJson)] kind: Damage,
) {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let other = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    damage(&shop, id, kind).await;
    let entries = shop.messages_ever_in(StreamName::Inventory).await;

    shop.store(&format!("command.checkout.{id}"), r#"{"type":"cancel","by":"customer"}"#).await;
    shop.store(&format!("due.checkout.{id}"), "").await;
    shop.until_parked(2).await;
    assert_eq!(shop.books(id).await[0]["status"], "open", "the provider was not asked to close it");
    shop.pay(&checkout).await;
    let parked = shop.until_parked(3).await;
    for one in &parked {
        assert_eq!(one.area, "history", "{one:?}");
        assert!(one.reason.contains(id) && one.reason.contains(kind.difference()), "{}", one.reason);
    }
    let mut origins: Vec<&str> = parked.iter().filter_map(|one| one.original_subject.split('.').next()).collect();
    origins.sort_unstable();
    assert_eq!(origins, ["command", "due", "webhook"]);

    assert_eq!(shop.records(id).await.len(), 4, "nothing was appended");
    assert_eq!(shop.messages_ever_in(StreamName::Inventory).await, entries, "the inventory was not asked for anything");
    assert_eq!(shop.books(id).await[0]["refunds"], json!([]), "the provider was not asked for anything");
    let shown =
        shop.http.get(format!("{}/api/checkout_session/{id}", shop.shop_url())).send().await.expect("an answer");
    assert_eq!(shown.status(), 500);
    let problem: Value = shown.json().await.expect("JSON");
    assert_eq!((&problem["code"], &problem["workflow_id"]), (&json!("internal"), &json!(id)));

    shop.pay(&other).await;
    shop.until_status(other["workflow_id"].as_str().expect("an id"), "paid").await;
    shop.until_stock("MUG-01", 98, 1, 1).await;
    only_this_one_is_broken(&shop, id, kind.difference()).await;
}

/// The doctor names the checkout and the difference, and finds nothing else broken.
async fn only_this_one_is_broken(shop: &Shop, id: &str, difference: &str) {
    shop.until_idle().await;
    let report = shop.examine().await;
    assert!(!report.is_healthy());
    let broken: Vec<_> = report.of(deploy::doctor::Severity::Broken).collect();
    assert!(broken.iter().all(|finding| finding.subject == format!("checkout {id}")), "{}", report.to_text());
    assert!(broken.iter().any(|finding| finding.text.contains(difference)), "{}", report.to_text());
}

/// The sweep finds such a checkout again and again, and cannot help it: it asks ever more rarely, so that the dead letters
/// are not filled with the same thing.
#[tokio::test]
async fn the_sweep_does_not_fill_the_dead_letters_with_a_checkout_that_it_cannot_help() {
    let worker_flags = &["--sweep-interval=100ms", "--forgotten-after=200ms"];
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { worker_flags, ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    damage(&shop, id, Damage::NoJson).await;
    let damaged_at = shop.records(id).await.last().expect("a history").time;

    shop.until_parked(4).await;
    // After 200, 400, 800 and 1,600 ms, not after 200, 300, 400 and 500.
    let subject = Subject::DeadLetter(common::subject::DeadLetterArea::History);
    let letters =
        common::nats::read::subject(&shop.nats, StreamName::DeadLetters, &subject).await.expect("the letters");
    let fourth = letters[3].time.duration_since(damaged_at);
    assert!(
        fourth >= jiff::SignedDuration::try_from(Duration::from_millis(1_600)).expect("a short time"),
        "{fourth:?}"
    );
    only_this_one_is_broken(&shop, id, Damage::NoJson.difference()).await;
}
