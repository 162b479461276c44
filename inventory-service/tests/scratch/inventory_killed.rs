//! The inventory service is killed at every place where something has been stored or is about to be.

use common::contracts::inventory::{InventoryCommand, StockAnswer};

use crate::inventory_support::{
    Warehouse, balance, commit, release, reserve, restock, times_reserved, until, workflow,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_restock_is_stored() {
    everybody_is_served_once("inventory.before_append").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_restock_is_stored() {
    everybody_is_served_once("inventory.after_append").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_group_is_stored() {
    everybody_is_served_once("inventory.before_append:2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_group_is_stored() {
    everybody_is_served_once("inventory.after_append:2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_group_is_acked() {
    everybody_is_served_once("inventory.after_answer:2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_group_is_acked() {
    everybody_is_served_once("inventory.after_ack:2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_snapshot() {
    everybody_is_served_once("inventory.before_snapshot").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_snapshot() {
    everybody_is_served_once("inventory.after_snapshot").await;
}

async fn everybody_is_served_once(crash_at: &str) {
    let warehouse = Warehouse::open().await;
    let mut first = warehouse.start_process(Some(crash_at));
    let mut second = None;
    // The snapshot comes with the third entry, so there are at least three.
    let stages: [Vec<InventoryCommand>; 3] = [
        vec![restock(1, "MUG", 10)],
        (1..=15).map(|number| reserve(number, &[("MUG", 1)])).collect(),
        vec![commit(1), release(2), commit(1), release(2)],
    ];
    for stage in &stages {
        warehouse.send_all(stage).await;
        until("everything is served or the process has died", async || {
            let is_over = first.has_died() || warehouse.waiting_commands().await == 0;
            is_over.then_some(())
        })
        .await;
        if first.has_died() && second.is_none() {
            second = Some(warehouse.start_process(None));
        }
        warehouse.all_commands_are_done().await;
    }
    first.died().await;
    let _second = second.unwrap_or_else(|| warehouse.start_process(None));

    let movements = warehouse.movements().await;
    let times = times_reserved(&movements);
    assert_eq!(times.len(), 10, "ten were there, ten are reserved");
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    let [sold, returned] = [1, 2].map(|number| u64::from(times.contains_key(&workflow(number))));
    let expected = balance(returned, 10 - sold - returned, sold);
    assert_eq!(warehouse.balance("MUG").await, expected);
    warehouse.projection_shows("MUG", expected).await;
    for number in 3..=15 {
        let answers = warehouse.answers(workflow(number)).await;
        assert!(!answers.is_empty(), "workflow {number} was not answered");
        for answer in &answers {
            let reserved = matches!(answer, StockAnswer::Reserved {});
            assert_eq!(reserved, times.contains_key(&workflow(number)), "{number}: {answer:?}");
        }
    }
}
