//! CASES G2, G15, FP17, FP18: recorded histories of every version through this build, and what a build that differs leads
//! to.

use std::path::PathBuf;

use bytes::Bytes;
use common::ids::{WorkflowId, WorkflowKind, WorkflowRef};

use super::{
    check::replay,
    history::{Line, OwedHeaders, StoredBytes, StoredHistory},
    result::Tally,
};

/// A recorded history of the workflow-worker, as the workflow with this number.
fn golden(path: &str, number: u128) -> StoredHistory {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "workflow-worker", "tests", "golden", path].iter().collect();
    let text = std::fs::read_to_string(&file).expect("a recorded history");
    let id: WorkflowId = uuid::Uuid::from_u128(number).into();
    let record = |(sequence, line): (u64, &str)| StoredBytes {
        sequence,
        payload: Bytes::copy_from_slice(line.as_bytes()),
        headers: OwedHeaders::default(),
    };
    let records = (1..).zip(text.lines()).map(record).collect();
    StoredHistory { workflow: WorkflowRef { kind: WorkflowKind::Checkout, id }, records }
}

const WAYS: [&str; 4] = ["paid", "expired", "paid_after_the_end", "provider_down_and_back"];

fn all_of(version: &str) -> Vec<StoredHistory> {
    WAYS.iter().zip(1..).map(|(way, number)| golden(&format!("checkout/{version}/{way}.jsonl"), number)).collect()
}

fn tally(histories: &[StoredHistory]) -> super::ReplayResult {
    let mut tally = Tally::new();
    histories.iter().for_each(|history| tally.take(history));
    tally.finish(None)
}

/// The same history with some words of one record replaced, and a sound chain.
fn changed(history: &StoredHistory, index: usize, from: &str, to: &str) -> StoredHistory {
    let mut changed = history.clone();
    let mut before: Option<String> = None;
    for (place, stored) in changed.records.iter_mut().enumerate() {
        let mut text = String::from_utf8(stored.payload.to_vec()).expect("JSON");
        if place == index {
            assert!(text.contains(from), "{text}");
            text = text.replacen(from, to, 1);
        }
        if let Some(before) = before {
            let start = text.find(r#""previous":""#).expect("a predecessor") + 12;
            text.replace_range(start..start + 64, &before);
        }
        before = Some(common::record::RecordHash::of(text.as_bytes()).to_string());
        stored.payload = text.into();
    }
    changed
}

#[test]
fn every_version_of_a_history_gives_the_same_result_and_no_divergence() {
    let (older, today) = (tally(&all_of("v1")), tally(&all_of("v2")));
    assert_eq!(older.divergences, [], "version 1");
    assert_eq!(today.divergences, [], "version 2");
    assert_eq!(older.hash, today.hash, "what is written differently means the same");
    // Another hash means that this build makes something else of what is stored in production.
    assert_eq!(today.hash, "a9aab2ce440dff9ac4a5789debbeb22869629dd8339c835a1184b4a8f6901e35");
}

#[test]
fn the_order_of_the_histories_does_not_matter_but_each_of_them_does() {
    let mut histories = all_of("v2");
    let forwards = tally(&histories);
    histories.reverse();
    assert_eq!(tally(&histories), forwards);
    histories.pop();
    assert_ne!(tally(&histories).hash, forwards.hash);
}

#[test]
fn a_status_a_type_or_a_next_step_that_this_build_does_not_lead_to_is_named_with_its_place() {
    let expired = golden("checkout/v2/expired.jsonl", 1);
    let of = |history: &StoredHistory| replay(history).divergence.expect("a divergence");
    let status = of(&changed(&expired, 2, "awaiting_payment", "paid"));
    assert_eq!((status.index, status.sequence, status.what), (2, 3, "status"));
    assert_eq!((status.recorded.as_str(), status.replayed.as_str()), ("paid", "awaiting_payment"));
    let types = of(&changed(&expired, 1, r#""type":"stock_reserved""#, r#""type":"stock_lent""#));
    assert_eq!((types.index, types.what), (1, "type"));
    let mut owed = expired.clone();
    owed.records[2].headers = OwedHeaders { next: Some("done".into()), wait_until: None };
    let owed = of(&owed);
    assert_eq!((owed.index, owed.what, owed.recorded.as_str()), (2, "owed next", "done"));
    assert!(owed.replayed.starts_with("wait until 2026-"), "{owed:?}");
}

#[test]
fn a_missing_a_changed_and_an_unknown_record_are_divergences_too() {
    let expired = golden("checkout/v2/expired.jsonl", 1);
    let mut hole = expired.clone();
    hole.records.remove(1);
    let mut flipped = expired.clone();
    let text = String::from_utf8(flipped.records[0].payload.to_vec()).expect("JSON");
    flipped.records[0].payload = text.replace("Mug", "Cup").into();
    let unknown = changed(&expired, 4, r#"[{"type":"payment_session_closed"}]"#, r#"[{"type":"teleported"}]"#);
    let newer = changed(&expired, 0, r#""version":2"#, r#""version":3"#);
    for (history, index, words) in [
        (hole, 1, "record 1 expected"),
        (flipped, 1, "does not continue"),
        (unknown, 4, "teleported"),
        (newer, 0, "needs a newer version"),
    ] {
        let found = replay(&history).divergence.expect("a divergence");
        assert_eq!((found.index, found.what), (index, "record"), "{found:?}");
        assert!(found.replayed.contains(words), "{found:?}");
    }
}

#[test]
fn a_line_of_a_file_keeps_every_byte() {
    let workflow = golden("checkout/v2/paid.jsonl", 1).workflow;
    let headers = OwedHeaders { next: Some("wait".into()), wait_until: Some("2026-01-01T00:00:00Z".into()) };
    for payload in [&b"{\"a\": \"\\u00e4 \xc3\xa4\"}\n"[..], &b"\xff\x00 damaged"[..], &b""[..]] {
        let stored = StoredBytes { sequence: 7, payload: Bytes::copy_from_slice(payload), headers: headers.clone() };
        let line = serde_json::to_string(&Line::of(workflow, &stored)).expect("writable");
        assert!(!line.contains('\n'), "{line}");
        let read: Line = serde_json::from_str(&line).expect("readable");
        assert_eq!(read.read(), Ok((workflow, stored)));
    }
}

#[test]
fn the_verdict_says_what_to_do() {
    let history = changed(&golden("checkout/v2/paid.jsonl", 1), 4, r#""status":"paid""#, r#""status":"expired""#);
    let text = tally(&[history]).to_text();
    assert!(text.contains("DIVERGED checkout"), "{text}");
    assert!(text.contains("record 4 (sequence 5)") && text.contains("do not deploy this build"), "{text}");
    let mut unexpected = Tally::new();
    unexpected.take(&golden("checkout/v2/paid.jsonl", 1));
    let unexpected = unexpected.finish(Some("00".into()));
    assert!(!unexpected.is_as_it_was() && unexpected.to_text().contains("was to be 00"), "{unexpected:?}");
}
