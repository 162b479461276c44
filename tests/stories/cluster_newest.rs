//! FN9, FP12: a node that led the histories is parted from the others, or was until a moment ago, and tells what used to be
//! true. Nobody takes that for proof that nothing newer is stored: what a worker does not act upon for that reason is gone.

use std::time::Duration;

use async_nats::{ConnectOptions, HeaderMap};
use common::{
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{Nats, Outgoing, append::append, read, read_index::ReadIndex},
    streams::{Durability, Placement, StreamName},
    subject::Subject,
};
use deploy::provision::provision;
use futures_util::future::join_all;
use rstest::rstest;
use stories::{Servers, eventually, leader_of};
use tokio_util::sync::CancellationToken;

/// An election among two takes up to 9 s; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shorter than a worker's, so that the node is asked often while it does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Often enough to meet the moment in which the node can be asked again and has not heard of the new leader.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

struct Stage {
    servers: Servers,
    /// Which node leads the histories, until it is parted.
    parted: usize,
    /// Connected to that node and to no other.
    lonely: Nats,
    /// Connected to the others.
    well: Nats,
}

impl Stage {
    async fn set() -> Self {
        let servers = Servers::start_linked().await;
        let url = |node: usize| servers.nodes()[node].client_url();
        let observer = connect(&url(0)).await;
        let placement = Placement {
            replicas: 3,
            storage_bytes: 200 * 1024 * 1024,
            durability: Durability::SyncAlways,
            shards: common::shards::Shards::ONE,
        };
        provision(&observer, &placement).await.expect("provision");
        let leader = eventually("HISTORY has a leader", async || leader_of(&observer, StreamName::History).await).await;
        let parted = servers.position(&leader).expect("a node of these");
        let rest: Vec<String> = (0..3).filter(|node| *node != parted).map(url).collect();
        let (lonely, well) = (connect(&url(parted)).await, connect(&rest.join(",")).await);
        Self { servers, parted, lonely, well }
    }
}

async fn connect(url: &str) -> Nats {
    let options = ConnectOptions::new().ignore_discovered_servers().request_timeout(Some(ANSWER_WITHIN));
    let servers: Vec<&str> = url.split(',').collect();
    Nats::new(options.connect(servers).await.expect("connect"))
}

fn record(workflow: WorkflowRef, body: &'static str, expected: u64) -> Outgoing {
    let (subject, headers) = (Subject::History(workflow), HeaderMap::new());
    Outgoing { subject, headers, payload: body.as_bytes().into(), expected: Some(expected) }
}

/// What was found on the lonely node while it was looked at again and again.
#[derive(Debug, Default)]
struct Found {
    /// How often a look found what used to be true. A promise is broken then.
    stale: u32,
    /// How often it found what is true.
    newest: u32,
    /// How often it found nothing out.
    nothing: u32,
    /// How often the node's own word, for which it proves nothing, was what used to be true.
    stale_words: u32,
}

#[rstest]
#[case::by_silence(true)]
#[case::by_breaking_connections(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_led_the_histories_proves_nothing_that_used_to_be_true(#[case] in_silence: bool) {
    let Stage { servers, parted, lonely, well } = Stage::set().await;
    let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
    let index = ReadIndex::new(lonely.clone());
    assert_eq!(index.newest(workflow).await, Ok(0), "there is nothing yet");
    let first = append(&well, StreamName::History, record(workflow, "one", 0), PATIENCE).await.expect("stored");
    assert_eq!(index.newest(workflow).await, Ok(first));

    if in_silence {
        servers.links().hold(parted);
    } else {
        servers.links().cut(parted);
    }
    let second = append(&well, StreamName::History, record(workflow, "two", first), PATIENCE).await;
    let second = second.expect("the others elect a leader and go on");

    // From here on no look may find that the first one is the newest.
    let stop = CancellationToken::new();
    let looking = {
        let (lonely, stop) = (lonely.clone(), stop.clone());
        tokio::spawn(async move { look_again_and_again(&lonely, workflow, first, &stop).await })
    };
    tokio::time::sleep(ANSWER_WITHIN * 3).await;
    servers.links().heal(parted);
    eventually("the lonely node knows of the second", async || {
        index.newest(workflow).await.ok().filter(|newest| *newest == second)
    })
    .await;
    stop.cancel();
    let found = looking.await.expect("it does not panic");
    println!("{found:?}");
    assert_eq!(found.stale, 0, "{found:?}");

    eventually("the history is the two records and no proof", async || {
        let stored = read::history(&well, workflow).await.ok()?;
        let sequences: Vec<u64> = stored.iter().map(|record| record.sequence).collect();
        (sequences == [first, second]).then_some(())
    })
    .await;
}

/// Several at a time, so that some share a proof.
async fn look_again_and_again(lonely: &Nats, workflow: WorkflowRef, first: u64, stop: &CancellationToken) -> Found {
    let (index, subject, mut found) = (ReadIndex::new(lonely.clone()), Subject::History(workflow), Found::default());
    while !stop.is_cancelled() {
        if let Ok(Some(last)) = read::newest(lonely, StreamName::History, &subject).await {
            found.stale_words += u32::from(last.sequence == first);
        }
        for newest in join_all((0..4).map(|_| index.newest(workflow))).await {
            match newest {
                Ok(newest) if newest == first => found.stale += 1,
                Ok(_) => found.newest += 1,
                Err(_) => found.nothing += 1,
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    found
}
