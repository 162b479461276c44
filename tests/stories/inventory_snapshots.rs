//! A start from a snapshot and its tail gives the state that the whole ledger gives; a damaged snapshot is ignored; a ledger
//! that has lost entries is not gone on with.

use async_nats::jetstream::object_store::ObjectStore;
use common::{
    contracts::inventory::StockAnswer,
    streams::{INVENTORY_SNAPSHOTS, StreamName},
};
use futures_util::StreamExt as _;
use inventory_service::{Config, Snapshot};
use tokio::io::AsyncReadExt as _;

use crate::inventory_support::{Warehouse, balance, commit, release, reserve, restock, until, workflow};

fn often() -> Config {
    Config { snapshot_every: 4, ..Config::default() }
}

async fn bucket(warehouse: &Warehouse) -> ObjectStore {
    warehouse.nats.jetstream.get_object_store(INVENTORY_SNAPSHOTS).await.expect("the bucket is provisioned")
}

async fn names(bucket: &ObjectStore) -> Vec<String> {
    let list = bucket.list().await.expect("the bucket can be listed");
    let mut names: Vec<String> = list.map(|object| object.expect("an object").name).collect().await;
    names.sort();
    names
}

async fn newest(bucket: &ObjectStore) -> Snapshot {
    let name = names(bucket).await.pop().expect("a snapshot");
    let mut bytes = Vec::new();
    bucket.get(&name).await.expect("the object").read_to_end(&mut bytes).await.expect("its bytes");
    Snapshot::from_bytes(&bytes).expect("a sound snapshot")
}

/// Ten entries: five workflows, one after another, each in a state of its own.
async fn some_trade(warehouse: &Warehouse) {
    let commands = [
        restock(1, "MUG", 10),
        reserve(1, &[("MUG", 1)]),
        reserve(2, &[("MUG", 2)]),
        reserve(3, &[("MUG", 99)]),
        reserve(4, &[("MUG", 1)]),
        release(5),
        commit(1),
        release(2),
        restock(2, "PEN", 3),
        reserve(6, &[("MUG", 1), ("PEN", 1)]),
    ];
    for command in &commands {
        warehouse.send(command).await;
        warehouse.all_commands_are_done().await;
    }
}

/// What was answered before a restart is answered the same after it, and nothing moves.
async fn repeats_are_answered_the_same(warehouse: &Warehouse) {
    let moved = warehouse.movements().await.len();
    let repeats = [
        (1, reserve(1, &[("MUG", 1)])),
        (1, commit(1)),
        (2, release(2)),
        (3, reserve(3, &[("MUG", 99)])),
        (5, release(5)),
        (6, reserve(6, &[("PEN", 1), ("MUG", 1)])),
    ];
    for (number, command) in &repeats {
        let before = warehouse.answers(workflow(*number)).await;
        warehouse.send(command).await;
        let answer = warehouse.answer(workflow(*number), before.len() + 1).await;
        assert!(before.contains(&answer), "{number}: {answer:?} was not said before: {before:?}");
    }
    warehouse.send(&reserve(5, &[("MUG", 1)])).await;
    warehouse.all_commands_are_done().await;
    let late = warehouse.answers(workflow(5)).await.pop();
    assert!(matches!(late, Some(StockAnswer::Refused { .. })), "the tombstone holds: {late:?}");
    assert_eq!(warehouse.movements().await.len(), moved, "repeats move nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_from_the_newest_snapshot_and_the_tail() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(often()).await;
    some_trade(&warehouse).await;
    let bucket = bucket(&warehouse).await;
    until("a snapshot is written while the service runs", async || (!names(&bucket).await.is_empty()).then_some(()))
        .await;
    service.stop().await;

    let snapshot = newest(&bucket).await;
    let replayed = warehouse.replayed().await;
    let last = warehouse.stored_entries().await.pop().expect("entries");
    assert_eq!(snapshot.sequence(), last.sequence, "a clean stop leaves nothing to read");
    assert_eq!(snapshot.ledger().hash().expect("writable"), replayed.hash().expect("writable"));
    assert!(names(&bucket).await.len() <= 2, "old snapshots are removed");

    let service = warehouse.start_service(often()).await;
    repeats_are_answered_the_same(&warehouse).await;
    service.stop().await;
    assert_eq!(warehouse.balance("MUG").await, balance(7, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_snapshots_are_ignored_and_the_ledger_is_read_in_full() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(often()).await;
    some_trade(&warehouse).await;
    service.stop().await;
    let bucket = bucket(&warehouse).await;
    let names = names(&bucket).await;
    assert!(!names.is_empty());
    for (number, name) in names.iter().enumerate() {
        let mut bytes = Vec::new();
        bucket.get(name).await.expect("the object").read_to_end(&mut bytes).await.expect("its bytes");
        // One is cut off, the other has a changed digit in its state.
        if number == 0 {
            bytes.truncate(bytes.len() / 2);
        } else {
            let digit = bytes.iter().rposition(u8::is_ascii_digit).expect("a digit");
            bytes[digit] = if bytes[digit] == b'9' { b'8' } else { bytes[digit] + 1 };
        }
        bucket.put(name.as_str(), &mut bytes.as_slice()).await.expect("it can be written over");
    }
    let service = warehouse.start_service(Config::default()).await;
    repeats_are_answered_the_same(&warehouse).await;
    service.stop().await;
    assert_eq!(warehouse.balance("MUG").await, balance(7, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_has_lost_entries_is_not_gone_on_with() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(often()).await;
    some_trade(&warehouse).await;
    service.stop().await;
    let ledger = warehouse.nats.jetstream.get_stream(StreamName::Inventory.as_str()).await.expect("the stream");
    ledger.purge().await.expect("somebody purges the ledger");
    let error = warehouse.start_service(often()).await.ended().await.expect_err("the service must not start");
    let error = format!("{error:#}");
    assert!(error.contains("lost entries") && error.contains("Restore it from a backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_was_thrown_away_or_is_wrong_is_made_right_at_the_next_start() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(often()).await;
    some_trade(&warehouse).await;
    warehouse.projection_shows("MUG", balance(7, 2, 1)).await;
    warehouse.projection_shows("PEN", balance(2, 1, 0)).await;
    service.stop().await;
    let stock = warehouse.nats.jetstream.get_stream(StreamName::Stock.as_str()).await.expect("the stream");
    stock.purge().filter("inventory.stock.MUG").await.expect("it can be purged");
    let wrong = br#"{"type":"stock","sku":"PEN","available":99,"reserved":0,"sold":0,"ledger_index":0}"#.to_vec();
    warehouse.send_raw("inventory.stock.PEN".parse().expect("a subject"), "stock", wrong).await;
    let service = warehouse.start_service(often()).await;
    warehouse.projection_shows("MUG", balance(7, 2, 1)).await;
    warehouse.projection_shows("PEN", balance(2, 1, 0)).await;
    service.stop().await;
}
