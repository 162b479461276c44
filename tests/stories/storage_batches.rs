//! The memory in which a single server stages batches is full: a batch is refused, and its messages are stored one by one.

use std::{fs::File, io::Write as _, time::Duration};

use async_nats::{HeaderMap, header};
use bytes::Bytes;
use common::{
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{Journal, Nats, NatsOptions, Outgoing, connect::connect, read},
    shards::Shards,
    streams::{Durability, Placement, StreamName},
    subject::Subject,
};
use deploy::{
    nats_server::{NatsServer, Staging, stage_batches_in},
    provision::provision,
};
use futures_util::future::join_all;
use stories::SmallDisk;

/// A hundred times what one of the batches here takes.
const MEMORY_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes for streams.
const STORAGE_BYTES: u64 = 200 * 1024 * 1024;

/// Records that are appended at once: their units are tried both ways.
const AT_ONCE: u64 = 200;

/// FD1, for the memory in which batches are staged.
#[tokio::test]
async fn what_finds_no_room_to_be_staged_as_a_batch_is_stored_all_the_same() {
    let Some(memory) = SmallDisk::mount(MEMORY_BYTES) else { return };
    let server = NatsServer::start_for_test().await;
    let nats =
        connect(&NatsOptions { nats_url: server.client_url(), nats_creds: None }, "story").await.expect("connect");
    let placement = Placement {
        replicas: 1,
        storage_bytes: STORAGE_BYTES,
        durability: Durability::SyncAlways,
        shards: Shards::ONE,
    };
    provision(&nats, &placement).await.expect("provision");
    let staging = stage_batches_in(memory.path(), server.data_dir()).expect("stage batches in the small memory");
    assert!(matches!(staging, Staging { led: 1.., busy: 0 }), "{staging:?}");
    let journal = Journal::start(nats.clone(), StreamName::History, Duration::from_secs(10));

    append_some(&journal).await;
    append_some(&journal).await;
    let stored = 2 * AT_ONCE;
    assert!(batched(&nats, 1).await > 0, "nothing was committed as a batch");

    fill(&memory);
    append_some(&journal).await;
    append_some(&journal).await;
    assert_eq!(batched(&nats, stored + 1).await, 0, "of those for which there was no room");
    let stream = nats.jetstream.get_stream(StreamName::History.as_str()).await.expect("the server goes on");
    assert_eq!(stream.cached_info().state.messages, 2 * stored);
}

/// Each stands in a history of its own and is the first in it.
async fn append_some(journal: &Journal) {
    let outcomes = join_all((0..AT_ONCE).map(|_| {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
        journal.append(Outgoing {
            subject: Subject::History(workflow),
            headers: HeaderMap::new(),
            payload: Bytes::from_static(b"{}"),
            expected: Some(0),
        })
    }))
    .await;
    outcomes.into_iter().for_each(|outcome| assert!(outcome.is_ok(), "{outcome:?}"));
}

/// How many of the records from a sequence on were committed as part of a batch.
async fn batched(nats: &Nats, from: u64) -> usize {
    let batch = read::stretch(nats, StreamName::History, from, 1_000, ">").await.expect("read the records");
    batch.messages.iter().filter(|record| record.headers.get(header::NATS_BATCH_ID).is_some()).count()
}

fn fill(memory: &SmallDisk) {
    let mut filling = File::create(memory.path().join("somebody-else")).expect("a file");
    while filling.write_all(&[0; 4096]).is_ok() {}
}
