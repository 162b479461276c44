//! One instance is active and others stand by; whoever is wrong about that moves nothing.

use async_nats::HeaderMap;
use common::{
    contracts::inventory::{InventoryCommand, LedgerEntry, StockAnswer},
    nats::{Outgoing, append::append},
    record::{ChainEnd, RecordHash},
    streams::StreamName,
    subject::Subject,
    time::now,
};
use inventory_service::{
    Config,
    ledger::{Ledger, Request},
};
use std::time::Duration;

use crate::inventory_support::{
    Warehouse, balance, commit, release, reserve, restock, times_reserved, until, workflow,
};

/// What another instance does: decide by the same rules and store the entry, behind the service's back.
async fn another_instance_books(warehouse: &Warehouse, commands: &[InventoryCommand]) {
    let (mut ledger, mut end, mut sequence) = (Ledger::default(), ChainEnd::default(), 0);
    for stored in warehouse.stored_entries().await {
        let entry: LedgerEntry = serde_json::from_slice(&stored.payload).expect("an entry");
        ledger.apply_entry(&entry).expect("a sound ledger");
        end = ChainEnd { next_index: end.next_index + 1, hash: Some(RecordHash::of(&stored.payload)) };
        sequence = stored.sequence;
    }
    let requests: Vec<Request> =
        commands.iter().map(|command| Request { command: command.clone(), at: now() }).collect();
    let entry = ledger.decide_group(&requests, 100_000).expect("sound rules").entry(&end);
    let outgoing = Outgoing {
        subject: Subject::InventoryLedger,
        headers: HeaderMap::new(),
        payload: serde_json::to_vec(&entry).expect("writable").into(),
        expected: Some(sequence),
    };
    append(&warehouse.nats, StreamName::Inventory, outgoing, Duration::from_secs(10)).await.expect("stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_was_overtaken_reads_on_and_decides_again() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(Config::default()).await;
    warehouse.send(&restock(1, "MUG", 1)).await;
    warehouse.all_commands_are_done().await;

    // By what the service knows the last one is there to be had, but somebody else has got it.
    another_instance_books(&warehouse, &[reserve(1, &[("MUG", 1)])]).await;
    warehouse.send(&reserve(2, &[("MUG", 1)])).await;
    let answer = warehouse.answer(workflow(2), 1).await;
    assert!(matches!(answer, StockAnswer::OutOfStock { .. }), "{answer:?}");
    assert_eq!(warehouse.balance("MUG").await, balance(0, 1, 0));
    warehouse.projection_shows("MUG", balance(0, 1, 0)).await;

    // By what the service knows nothing moves, so there is no append that could fail: it must look before it answers.
    another_instance_books(&warehouse, &[commit(1)]).await;
    warehouse.send(&release(1)).await;
    // After what the other instance has booked for it: its reservation and its sale.
    let answer = warehouse.answer(workflow(1), 3).await;
    assert!(matches!(answer, StockAnswer::Refused { .. }), "sold is sold: {answer:?}");
    another_instance_books(&warehouse, &[restock(2, "MUG", 1), reserve(3, &[("MUG", 1)])]).await;
    warehouse.send(&commit(3)).await;
    assert_eq!(warehouse.answer(workflow(3), 2).await, StockAnswer::Committed {});
    assert_eq!(warehouse.balance("MUG").await, balance(0, 0, 2));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_what_an_instance_booked_that_died_before_it_could_tell_them() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(Config::default()).await;
    another_instance_books(&warehouse, &[restock(1, "MUG", 4)]).await;
    warehouse.projection_shows("MUG", balance(4, 0, 0)).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stand_by_takes_over_from_an_instance_that_hangs_and_the_two_never_sell_twice() {
    let warehouse = Warehouse::open().await;
    let first = warehouse.start_process(None);
    warehouse.send(&restock(1, "MUG", 20)).await;
    warehouse.all_commands_are_done().await;
    let second = warehouse.start_process(None);

    first.pause();
    let commands: Vec<InventoryCommand> = (1..=15).map(|number| reserve(number, &[("MUG", 1)])).collect();
    warehouse.send_all(&commands).await;
    warehouse.all_commands_are_done().await;

    // The first wakes up with what it knew, perhaps with commands that it was given before; the second hangs now.
    first.resume();
    second.pause();
    let commands: Vec<InventoryCommand> = (11..=30).map(|number| reserve(number, &[("MUG", 1)])).collect();
    warehouse.send_all(&commands).await;
    warehouse.all_commands_are_done().await;
    second.resume();
    warehouse.send(&restock(2, "PEN", 1)).await;
    warehouse.all_commands_are_done().await;

    let times = times_reserved(&warehouse.movements().await);
    assert_eq!((times.len(), times.values().sum::<usize>()), (20, 20), "{times:?}");
    assert_eq!(warehouse.balance("MUG").await, balance(0, 20, 0));
    until("everybody is answered as the ledger has it", async || {
        for number in 1..=30 {
            let answers = warehouse.answers(workflow(number)).await;
            let is_reserved = times.contains_key(&workflow(number));
            if answers.is_empty() {
                return None;
            }
            for answer in answers {
                assert_eq!(matches!(answer, StockAnswer::Reserved {}), is_reserved, "{number}: {answer:?}");
            }
        }
        Some(())
    })
    .await;
}
