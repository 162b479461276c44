//! The contract of a store of histories, kept by the one in memory and by the one in JetStream.

use std::sync::Arc;

use async_nats::HeaderMap;
use common::{
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{AppendError, Nats, NatsOptions, Outgoing, connect::connect, read::Stored},
    streams::{Durability, Placement},
    subject::Subject,
};
use deploy::{nats_server::NatsServer, provision::provision};
use futures_util::future::join_all;
use workflow_worker::history::{HistoryStore, MemoryHistory, NatsHistory};

#[tokio::test]
async fn histories_in_memory_keep_the_contract() {
    keeps_the_contract(Arc::new(MemoryHistory::default())).await;
}

#[tokio::test]
async fn histories_in_jetstream_keep_the_contract() {
    let server = NatsServer::start_for_test().await;
    let nats = provisioned(&server.client_url(), 1).await;
    keeps_the_contract(Arc::new(NatsHistory::new(nats))).await;
}

#[tokio::test]
async fn histories_on_three_servers_keep_the_contract() {
    let servers = NatsServer::start_cluster_for_test().await;
    let urls: Vec<String> = servers.iter().map(NatsServer::client_url).collect();
    let nats = provisioned(&urls.join(","), 3).await;
    keeps_the_contract(Arc::new(NatsHistory::new(nats))).await;
}

async fn provisioned(url: &str, replicas: usize) -> Nats {
    let nats = connect(&NatsOptions { nats_url: url.into(), nats_creds: None }, "story").await.expect("connect");
    let placement = Placement {
        replicas,
        storage_bytes: 200 * 1024 * 1024,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&nats, &placement).await.expect("provision");
    nats
}

async fn keeps_the_contract(store: Arc<dyn HistoryStore>) {
    what_is_appended_is_read_back_in_order(&*store).await;
    only_the_first_is_first(&*store).await;
    who_expects_what_was_is_refused(&*store).await;
    of_many_at_once_one_wins(&store).await;
    histories_do_not_mix(&*store).await;
}

fn workflow() -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() }
}

fn record(workflow: WorkflowRef, body: &str, expected: u64) -> Outgoing {
    let mut headers = HeaderMap::new();
    headers.insert("Checkout-Type", body);
    Outgoing { subject: Subject::History(workflow), headers, payload: body.to_owned().into(), expected: Some(expected) }
}

/// A history as far as it is stored; a replica that is behind is asked again.
async fn newest(store: &dyn HistoryStore, workflow: WorkflowRef) -> Vec<Stored> {
    let last = store.newest_revision(workflow).await.expect("the newest revision");
    stories::eventually("a replica has what the leader has", async || {
        let stored = store.read(workflow).await.expect("a read");
        (stored.last().map_or(0, |record| record.sequence) >= last).then_some(stored)
    })
    .await
}

async fn bodies(store: &dyn HistoryStore, workflow: WorkflowRef) -> Vec<String> {
    let stored = newest(store, workflow).await;
    stored.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
}

async fn what_is_appended_is_read_back_in_order(store: &dyn HistoryStore) {
    let workflow = workflow();
    assert_eq!(bodies(store, workflow).await, Vec::<String>::new(), "an unknown history is empty");
    let first = store.append(record(workflow, "one", 0)).await.expect("the first append");
    let second = store.append(record(workflow, "two", first)).await.expect("the second append");
    assert!(0 < first && first < second);
    let stored = newest(store, workflow).await;
    assert_eq!(stored.iter().map(|record| record.sequence).collect::<Vec<_>>(), [first, second]);
    assert_eq!(stored[1].headers.get("Checkout-Type").map(|value| value.as_str()), Some("two"));
    assert_eq!(bodies(store, workflow).await, ["one", "two"]);
}

async fn only_the_first_is_first(store: &dyn HistoryStore) {
    let workflow = workflow();
    let first = store.append(record(workflow, "mine", 0)).await.expect("the first append");
    let refused = store.append(record(workflow, "yours", 0)).await.expect_err("there is a first already");
    assert!(matches!(refused, AppendError::Conflict { expected: 0, found, .. } if found == first), "{refused}");
    assert_eq!(bodies(store, workflow).await, ["mine"]);
}

async fn who_expects_what_was_is_refused(store: &dyn HistoryStore) {
    let workflow = workflow();
    let first = store.append(record(workflow, "one", 0)).await.expect("the first append");
    let second = store.append(record(workflow, "two", first)).await.expect("the second append");
    for expected in [first, second + 1_000] {
        let refused = store.append(record(workflow, "three", expected)).await.expect_err("that is not the last");
        assert!(matches!(refused, AppendError::Conflict { .. }), "{refused}");
    }
    assert_eq!(bodies(store, workflow).await, ["one", "two"]);
}

async fn of_many_at_once_one_wins(store: &Arc<dyn HistoryStore>) {
    let workflow = workflow();
    let mut last = 0;
    for round in 0..5 {
        let outcomes = join_all((0..20).map(|n| {
            let store = Arc::clone(store);
            async move { store.append(record(workflow, &format!("{round}-{n}"), last)).await }
        }))
        .await;
        let won: Vec<u64> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        let lost = outcomes.iter().filter(|outcome| matches!(outcome, Err(AppendError::Conflict { .. }))).count();
        assert_eq!(lost, 19, "{outcomes:?}");
        last = won[0];
    }
    assert_eq!(bodies(&**store, workflow).await.len(), 5);
}

async fn histories_do_not_mix(store: &dyn HistoryStore) {
    let (one, two) = (workflow(), workflow());
    store.append(record(one, "one", 0)).await.expect("an append");
    store.append(record(two, "two", 0)).await.expect("an append");
    let refund = WorkflowRef { kind: WorkflowKind::Refund, ..one };
    store.append(record(refund, "refund of one", 0)).await.expect("an append");
    assert_eq!(bodies(store, one).await, ["one"]);
    assert_eq!(bodies(store, two).await, ["two"]);
    assert_eq!(bodies(store, refund).await, ["refund of one"]);
}
