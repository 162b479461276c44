//! The guarded append, on one node and on three: whatever the network does with a publish and its ack, a record is stored
//! once or refused, and whoever stored it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use async_nats::{ConnectOptions, HeaderMap};
use bytes::Bytes;
use common::{
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{AppendError, Journal, Nats, Outgoing, append::append, connect::REQUEST_TIMEOUT, read},
    streams::{Durability, Placement, StreamName},
    subject::Subject,
};
use deploy::{
    faulty_link::{FaultyLink, Flow},
    provision::provision,
};
use futures_util::{StreamExt as _, future::join_all};
use rstest::rstest;
use serde_json::Value;
use stories::{Servers, eventually};

/// Longer than a request takes to be given up, so that what comes after that is seen, too.
const PATIENCE: Duration = Duration::from_secs(30);

/// One or three nodes, with a writer behind a link that can misbehave and an observer who is connected directly.
struct Stage {
    _servers: Servers,
    link: FaultyLink,
    writer: Nats,
    observer: Nats,
}

impl Stage {
    async fn set(nodes: usize) -> Self {
        let servers = Servers::start(nodes).await;
        let link = FaultyLink::open(servers.nodes()[0].client_address()).await.expect("a link");
        let observer = connect(&servers.nodes()[nodes - 1].client_url()).await;
        let writer = connect(&format!("nats://{}", link.address())).await;
        let storage_bytes = 200 * 1024 * 1024;
        let placement = Placement {
            replicas: nodes,
            storage_bytes,
            durability: Durability::SyncAlways,
            shards: common::shards::Shards::ONE,
        };
        provision(&observer, &placement).await.expect("provision");
        Self { _servers: servers, link, writer, observer }
    }

    async fn stored(&self, workflow: WorkflowRef) -> Vec<(u64, Bytes)> {
        let subject = Subject::History(workflow).to_string();
        let last = read::last_at_leader(&self.observer, StreamName::History, &subject).await;
        let last = last.expect("ask the leader").map_or(0, |last| last.sequence);
        eventually("a replica has what the leader has", async || {
            let stored = read::history(&self.observer, workflow).await.ok()?;
            let stored: Vec<_> = stored.into_iter().map(|record| (record.sequence, record.payload)).collect();
            (stored.last().map_or(0, |record| record.0) >= last).then_some(stored)
        })
        .await
    }

    async fn until_stored(&self, workflow: WorkflowRef) {
        eventually("the record is stored", async || (!self.stored(workflow).await.is_empty()).then_some(())).await;
    }

    async fn is_cut_off(&self) {
        self.link.refuse(true);
        self.link.cut();
        eventually("the writer notices", async || (!self.writer.is_connected()).then_some(())).await;
    }
}

/// As services connect, but never to another node than this one.
async fn connect(url: &str) -> Nats {
    let options = ConnectOptions::new()
        .ignore_discovered_servers()
        .ping_interval(Duration::from_secs(5))
        .max_reconnects(None)
        .request_timeout(Some(REQUEST_TIMEOUT));
    Nats::new(options.connect(url).await.expect("connect"))
}

fn workflow() -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() }
}

fn record(workflow: WorkflowRef, body: &'static str, expected: u64) -> Outgoing {
    let payload = Bytes::from_static(body.as_bytes());
    Outgoing { subject: Subject::History(workflow), headers: HeaderMap::new(), payload, expected: Some(expected) }
}

async fn store(nats: &Nats, outgoing: Outgoing) -> Result<u64, AppendError> {
    store_for(nats, outgoing, PATIENCE).await
}

async fn store_for(nats: &Nats, outgoing: Outgoing, patience: Duration) -> Result<u64, AppendError> {
    append(nats, StreamName::History, outgoing, patience).await
}

/// FN1, G5: the record is stored and its ack is lost. The writer finds its own record and goes on.
#[rstest]
#[tokio::test]
async fn a_writer_whose_ack_was_lost_finds_its_own_record(#[values(1, 3)] nodes: usize) {
    let stage = Stage::set(nodes).await;
    let workflow = workflow();
    stage.link.to_client(Flow::Lost);
    let (appended, ()) = tokio::join!(store(&stage.writer, record(workflow, "mine", 0)), async {
        stage.until_stored(workflow).await;
        stage.link.heal();
    });
    let sequence = appended.expect("it is stored, and the writer knows");
    assert_eq!(stage.stored(workflow).await, [(sequence, Bytes::from_static(b"mine"))]);
    let next = store(&stage.writer, record(workflow, "next", sequence)).await.expect("it goes on from there");
    assert!(next > sequence);
}

/// The publish is lost on its way: it is sent again, and stored once. Nobody waits for the lost one as long as for a request:
/// all that the ledger decides stands behind one append.
#[rstest]
#[tokio::test]
async fn a_publish_that_never_arrived_is_sent_again_soon(#[values(1, 3)] nodes: usize) {
    let stage = Stage::set(nodes).await;
    let workflow = workflow();
    stage.link.to_server(Flow::Lost);
    let begun = Instant::now();
    let (appended, ()) = tokio::join!(store(&stage.writer, record(workflow, "mine", 0)), async {
        // Long enough for the publish to be written to the socket, and so to be lost; the ack is waited for longer.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.link.heal();
    });
    let sequence = appended.expect("stored");
    assert!(begun.elapsed() < REQUEST_TIMEOUT / 2, "it took {:?}", begun.elapsed());
    assert_eq!(stage.stored(workflow).await, [(sequence, Bytes::from_static(b"mine"))]);
}

/// FN2: a publish that waits in the client while the server is away, arrives when another has written: it is refused.
#[rstest]
#[tokio::test]
async fn a_publish_that_comes_late_loses_against_what_was_stored_meanwhile(#[values(1, 3)] nodes: usize) {
    let stage = Stage::set(nodes).await;
    let workflow = workflow();
    let subject = Subject::History(workflow).to_string();
    let mut arriving = stage.observer.client.subscribe(subject).await.expect("watch the subject");
    stage.is_cut_off().await;
    let brief = Duration::from_secs(1);
    let given_up = append(&stage.writer, StreamName::History, record(workflow, "zombie", 0), brief).await;
    assert!(matches!(given_up, Err(AppendError::Unavailable { .. })), "{given_up:?}");
    let sequence = store(&stage.observer, record(workflow, "winner", 0)).await.expect("nobody else has written");
    assert_eq!(arriving.next().await.expect("the winner").payload, "winner");

    stage.link.heal();
    let late = tokio::time::timeout(PATIENCE, arriving.next()).await.expect("the zombie comes");
    assert_eq!(late.expect("a message").payload, "zombie");
    // Whatever the server does with it, it has done when it takes the next one.
    let next = store(&stage.observer, record(workflow, "next", sequence)).await.expect("nothing came in between");
    let stored = stage.stored(workflow).await;
    assert_eq!(stored, [(sequence, Bytes::from_static(b"winner")), (next, Bytes::from_static(b"next"))]);
}

/// FN2: when nobody has written meanwhile, the late publish is stored, and whoever tries again is told so.
#[rstest]
#[tokio::test]
async fn a_publish_that_comes_late_is_stored_once_when_nobody_else_has_written(#[values(1, 3)] nodes: usize) {
    let stage = Stage::set(nodes).await;
    let workflow = workflow();
    stage.is_cut_off().await;
    let brief = Duration::from_secs(1);
    let given_up = append(&stage.writer, StreamName::History, record(workflow, "zombie", 0), brief).await;
    assert!(matches!(given_up, Err(AppendError::Unavailable { .. })), "{given_up:?}");
    stage.link.heal();
    stage.until_stored(workflow).await;
    let again = store(&stage.writer, record(workflow, "again", 0)).await.expect_err("there is a first already");
    assert!(matches!(again, AppendError::Conflict { expected: 0, .. }), "{again}");
    let bodies: Vec<Bytes> = stage.stored(workflow).await.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["zombie"]);
}

/// FN13: while a stream has no leader, somebody else who listens on its subjects makes the server take publishes instead of
/// saying that nobody is there. Nothing is taken for stored, and what is tried until the leader is back is stored once.
#[tokio::test]
async fn a_listener_is_not_taken_for_a_stream_that_has_no_leader() {
    let mut servers = Servers::start(3).await;
    let nats = connect(&servers.nodes()[0].client_url()).await;
    let placement = Placement {
        replicas: 3,
        storage_bytes: 200 * 1024 * 1024,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&nats, &placement).await.expect("provision");
    let mut heard = nats.client.subscribe("history.>").await.expect("listen as an operator with `nats sub`");
    for node in [1, 2] {
        servers.node(node).kill().expect("kill a node");
    }
    let workflow = workflow();
    let given_up = store_for(&nats, record(workflow, "mine", 0), Duration::from_secs(20)).await.expect_err("no leader");
    assert!(matches!(given_up, AppendError::Unavailable { .. }), "{given_up}");
    assert_eq!(heard.next().await.expect("a message").payload, "mine", "the listener has heard of it all the same");

    let trying = store_for(&nats, record(workflow, "mine", 0), Duration::from_secs(60));
    let (stored, ()) = tokio::join!(trying, async {
        for node in [1, 2] {
            servers.node(node).restart().await.expect("start a node again");
        }
    });
    let sequence = match stored {
        Ok(sequence) => sequence,
        // What was given up may have been stored late.
        Err(AppendError::Conflict { found, .. }) => found,
        Err(other) => panic!("{other}"),
    };
    eventually("it is stored once", async || {
        let records = read::history(&nats, workflow).await.ok()?;
        (records.len() == 1 && records[0].sequence == sequence && records[0].payload == "mine").then_some(())
    })
    .await;
}

/// The ack of a whole commit unit is lost, sent as single publishes the first time and as one atomic batch the second.
#[rstest]
#[tokio::test]
async fn a_unit_whose_acks_were_lost_is_stored_once(#[values(1, 3)] nodes: usize) {
    let stage = Stage::set(nodes).await;
    let journal = Journal::start(stage.writer.clone(), StreamName::History, PATIENCE);
    for _way_of_committing in 0..2 {
        let workflows: Vec<WorkflowRef> = (0..20).map(|_| workflow()).collect();
        stage.link.to_client(Flow::Lost);
        let appends = join_all(workflows.iter().map(|workflow| journal.append(record(*workflow, "mine", 0))));
        let (appended, ()) = tokio::join!(appends, async {
            for workflow in &workflows {
                stage.until_stored(*workflow).await;
            }
            stage.link.heal();
        });
        for (workflow, appended) in workflows.iter().zip(appended) {
            let sequence = appended.expect("it is stored, and the writer knows");
            assert_eq!(stage.stored(*workflow).await, [(sequence, Bytes::from_static(b"mine"))]);
        }
    }
}

/// Full units are committed two at a time. The connection goes in the middle: each record is stored once, and its writer knows.
#[rstest]
#[tokio::test]
async fn full_units_beside_each_other_are_stored_once(#[values(1, 3)] nodes: usize) {
    const AT_ONCE: usize = 3_000;
    let stage = Stage::set(nodes).await;
    let journal = Journal::start(stage.writer.clone(), StreamName::History, PATIENCE);
    let append_all = async || {
        let workflows: Vec<WorkflowRef> = (0..AT_ONCE).map(|_| workflow()).collect();
        let appended = join_all(workflows.iter().map(|workflow| journal.append(record(*workflow, "{}", 0)))).await;
        let sequences = appended.into_iter().map(|appended| appended.expect("it is stored, and the writer knows"));
        workflows.iter().map(|workflow| Subject::History(*workflow).to_string()).zip(sequences).collect::<Vec<_>>()
    };
    // Until both ways are known, each unit goes alone.
    let mut told: BTreeMap<String, u64> = append_all().await.into_iter().collect();
    let (more, ()) = tokio::join!(append_all(), async {
        let reached = |sequence: u64| sequence > (AT_ONCE + AT_ONCE / 4) as u64;
        let under_way = async || {
            let stream = stage.observer.jetstream.get_stream(StreamName::History.as_str()).await.ok()?;
            reached(stream.cached_info().state.last_sequence).then_some(())
        };
        eventually("it is under way", under_way).await;
        stage.link.cut();
    });
    told.extend(more);
    let mut stored = BTreeMap::new();
    let mut from = 1;
    loop {
        let stretch = read::stretch(&stage.observer, StreamName::History, from, 500, ">").await.expect("read");
        for record in stretch.messages {
            from = record.sequence + 1;
            assert_eq!(stored.insert(record.subject, record.sequence), None, "stored twice");
        }
        if !stretch.more && stored.len() == told.len() {
            break;
        }
    }
    assert_eq!(stored, told);
}

/// The losers of a race get one of two codes: 10071, and on a replicated stream nearly always 10164. Both mean: read again.
#[rstest]
#[case::on_one_node(1, 10071)]
#[case::on_three_nodes(3, 10164)]
#[tokio::test]
async fn the_losers_of_a_race_are_refused_with_a_code_that_is_known(#[case] nodes: usize, #[case] expected_code: u64) {
    let stage = Stage::set(nodes).await;
    let mut codes = BTreeSet::new();
    for _round in 0..50 {
        let workflow = workflow();
        let answers = join_all((0..20).map(|_| publish(&stage.observer, workflow, None))).await;
        let won = answers.iter().filter(|answer| answer["seq"].as_u64() > Some(0)).count();
        assert_eq!((won, stage.stored(workflow).await.len()), (1, 1), "{answers:?}");
        codes.extend(answers.iter().filter_map(|answer| answer["error"]["err_code"].as_u64()));
        if codes.contains(&expected_code) {
            break;
        }
    }
    assert!(codes.contains(&expected_code), "{codes:?}");
    assert!(codes.iter().all(|code| [10071, 10164].contains(code)), "{codes:?}");
}

/// The same bytes again: one node answers a repeat with a conflict and three call it a duplicate, which is why the
/// guarded append looks for its own record instead of believing either.
#[rstest]
#[tokio::test]
async fn a_repeat_is_answered_differently_by_one_node_and_by_three(#[values(1, 3)] nodes: usize) {
    let stage = Stage::set(nodes).await;
    let workflow = workflow();
    let first = publish(&stage.observer, workflow, Some("the same")).await;
    let again = publish(&stage.observer, workflow, Some("the same")).await;
    assert!(first["seq"].as_u64() > Some(0), "{first}");
    match nodes {
        1 => assert_eq!(again["error"]["err_code"], 10071, "{again}"),
        _ => assert_eq!((&again["duplicate"], &again["seq"]), (&Value::Bool(true), &first["seq"]), "{again}"),
    }
    assert_eq!(stage.stored(workflow).await.len(), 1);
}

/// One publish that expects to be the first, and the server's answer to it.
async fn publish(nats: &Nats, workflow: WorkflowRef, message_id: Option<&str>) -> Value {
    let mut headers = HeaderMap::new();
    headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    if let Some(id) = message_id {
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    }
    let subject = Subject::History(workflow).to_string();
    let answer = nats.client.request_with_headers(subject, headers, "first".into()).await.expect("an answer");
    serde_json::from_slice(&answer.payload).expect("JSON")
}
