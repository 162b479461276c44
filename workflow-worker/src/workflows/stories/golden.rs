//! Recorded histories that every later version must replay to the same end. They lie in `tests/golden/<kind>/v<version>/`,
//! one folder for each version of the kind's events, one file for each way and one line for each record, byte for byte as
//! in the stream.
//!
//! A recorded history is never changed. After a new way was added, or the version of the events was raised,
//! `cargo test -p workflow-worker record_new -- --ignored` writes the files that lack, in today's version.

use std::{collections::BTreeSet, fs, path::PathBuf};

use common::{contracts::Versioned as _, nats::read::Stored, record::StoredRecord};

use super::{
    id,
    shapes::variant_names,
    ways::{Way, owed, play, replayed, stored},
};
use crate::workflow::Workflow;

fn folder<W: Workflow>(version: u32) -> PathBuf {
    let version = format!("v{version}");
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", W::KIND.as_str(), &version].iter().collect()
}

/// Every recorded history of one version of a kind's events with its name, in the order of the names.
///
/// # Panics
/// When the files cannot be read or there are none.
pub fn recorded<W: Workflow>(version: u32) -> Vec<(String, Vec<Stored>)> {
    let files = fs::read_dir(folder::<W>(version)).expect("each version has its recorded histories");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are recorded histories");
    paths
        .iter()
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), read::<W>(path)))
        .collect()
}

fn read<W: Workflow>(path: &PathBuf) -> Vec<Stored> {
    let text = fs::read_to_string(path).expect("a recorded history");
    let record = |(index, line): (u64, &str)| {
        let read: StoredRecord = serde_json::from_str(line).expect("a record");
        stored(W::KIND, index, read.at, line.as_bytes().to_vec())
    };
    (0..).zip(text.lines()).map(record).collect()
}

/// Replay each recorded history; one line each tells how it ended and by which hash its last record is known.
///
/// # Panics
/// When a history cannot be replayed, or leads at any record to another status than the one recorded then.
pub fn ends<W: Workflow>() -> String {
    let versions = 1..=W::Event::VERSION;
    let all = versions.flat_map(|version| recorded::<W>(version).into_iter().map(move |one| (version, one)));
    all.map(|(version, (name, stored))| end::<W>(version, &name, &stored)).collect()
}

fn end<W: Workflow>(version: u32, name: &str, stored: &[Stored]) -> String {
    for records in 1..=stored.len() {
        let last: StoredRecord = serde_json::from_slice(&stored[records - 1].payload).expect("a record");
        assert_eq!(last.version, version, "{name} lies where its version is");
        let state = replayed::<W>(&stored[..records]).state;
        assert_eq!(state.status(), last.status, "{name} after {records} records");
    }
    let whole = replayed::<W>(stored);
    let hash = whole.chain.hash.expect("a history has records");
    format!(
        "v{version}/{name}: {}, {}, {} records, {hash}\n",
        whole.state.status(),
        owed(&whole.state.next(id())),
        stored.len()
    )
}

/// Every variant of the kind's events stands in some recorded history of today's version.
///
/// # Panics
/// When one does not.
pub fn holds_every_event<W: Workflow>() {
    let record = |stored: &Stored| serde_json::from_slice::<StoredRecord>(&stored.payload).expect("a record");
    let held: BTreeSet<String> = recorded::<W>(W::Event::VERSION)
        .iter()
        .flat_map(|(_, stored)| stored.iter().flat_map(|stored| record(stored).events))
        .map(|event| event["type"].as_str().expect("an event has a type").to_owned())
        .collect();
    assert_eq!(held, variant_names::<W::Event>(), "each event stands in a recorded history");
}

/// Every way has a recorded history of today's version.
///
/// # Panics
/// When one has none.
pub fn holds_every_way<W: Workflow>(ways: &[Way<W>]) {
    let recorded: BTreeSet<String> = recorded::<W>(W::Event::VERSION).into_iter().map(|(name, _)| name).collect();
    let missing: Vec<&str> = ways.iter().map(|way| way.name).filter(|name| !recorded.contains(*name)).collect();
    assert!(missing.is_empty(), "not recorded yet, see the head of {}: {missing:?}", file!());
}

/// Write the histories of ways that are not recorded yet; what is recorded stays as it is.
///
/// # Panics
/// When a file cannot be written.
pub fn record_new<W: Workflow>(ways: &[Way<W>]) {
    let folder = folder::<W>(W::Event::VERSION);
    fs::create_dir_all(&folder).expect("a folder of recorded histories");
    for way in ways {
        let path = folder.join(format!("{}.jsonl", way.name));
        if !path.exists() {
            let lines: String =
                play(way).iter().map(|record| format!("{}\n", String::from_utf8_lossy(&record.payload))).collect();
            fs::write(&path, lines).expect("a recorded history can be written");
        }
    }
}
