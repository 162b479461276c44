//! Whoever provisions a server and fills the catalogue dies at every boundary; it is run again, and everything is there
//! as if it had not died, and nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use common::{
    nats::{Nats, NatsOptions, connect::connect, read},
    streams::{ConsumerName, StreamName},
};
use deploy::nats_server::NatsServer;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::process::Command;

/// Servers that run at the same time.
const SERVERS: usize = 3;

/// Room for the streams, and less of it: then every stream must be brought in line.
const ROOM: &str = "400000000";
const LESS_ROOM: &str = "200000000";

/// Whether a point is reached here and not on the ways of a checkout.
pub(super) fn is_for(point: &str) -> bool {
    point.starts_with("provision.") || point.starts_with("catalogue.")
}

/// What is on a server before it is provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Everything, with less room and without a catalogue.
    LessRoom,
}

/// The first and the last time of each point.
#[tokio::test]
async fn provisioning_that_dies_at_any_point_is_simply_run_again() {
    die_at_each(|time, times| time == 1 || time == times).await;
}

#[tokio::test]
#[ignore = "takes minutes; the story above dies at the first and the last time of each point"]
async fn provisioning_that_dies_at_any_time_of_any_point_is_simply_run_again() {
    die_at_each(|_, _| true).await;
}

async fn die_at_each(is_chosen: fn(usize, usize) -> bool) {
    let tape = tempfile::tempdir().expect("a folder for the tapes");
    let (mut cases, mut seen) = (Vec::new(), BTreeSet::new());
    let mut expected = Vec::new();
    for before in [Before::Nothing, Before::LessRoom] {
        let tape = tape.path().join(format!("{before:?}"));
        let server = server(before).await;
        assert!(provision(&server, ROOM, Some(("CHECKOUT_CRASH_RECORD", path(&tape)))).await, "undisturbed");
        expected.push(Holds::of(&server).await);
        let reached = times_reached(&tape);
        for (point, times) in reached.into_iter().filter(|(point, _)| is_for(point)) {
            seen.insert(point.clone());
            let chosen = (1..=times).filter(|time| is_chosen(*time, times));
            cases.extend(chosen.map(|time| (before, format!("{point}:{time}"))));
        }
    }
    assert_eq!(expected[0], expected[1], "both ways lead to the same");
    let points: BTreeSet<String> = super::points_in_the_code().into_iter().filter(|point| is_for(point)).collect();
    assert_eq!(seen, points, "every point of the provisioning is reached");

    let count = cases.len();
    let dies = |(before, point): (Before, String)| dies_at(before, point, &expected[0]);
    stream::iter(cases).map(dies).buffer_unordered(SERVERS).collect::<Vec<()>>().await;
    println!("{count} deaths");
}

async fn dies_at(before: Before, point: String, expected: &Holds) {
    let server = server(before).await;
    assert!(!provision(&server, ROOM, Some(("CHECKOUT_CRASH_AT", &point))).await, "{before:?}: it dies at {point}");
    assert!(provision(&server, ROOM, None).await, "{before:?}: it is run again after {point}");
    assert_eq!(Holds::of(&server).await, *expected, "{before:?}: {point}");
}

async fn server(before: Before) -> NatsServer {
    let server = NatsServer::start_for_test().await;
    if before == Before::LessRoom {
        assert!(provision(&server, LESS_ROOM, None).await);
        let nats = nats(&server).await;
        for stream in [StreamName::Catalogue, StreamName::InventoryCommands] {
            let stream = nats.jetstream.get_stream(stream.as_str()).await.expect("a stream");
            stream.purge().await.expect("an empty stream");
        }
    }
    server
}

/// Provision and fill the catalogue in a process of its own; whether it came to its end.
async fn provision(server: &NatsServer, room: &str, variable: Option<(&str, &str)>) -> bool {
    let mut command = Command::new(crate::SERVICE);
    command.args(["provision", "--nats-url", &server.client_url(), "--storage-bytes", room]);
    command.envs(variable).env("RUST_LOG", "warn");
    command.output().await.expect("run the provisioning").status.success()
}

async fn nats(server: &NatsServer) -> Nats {
    let options = NatsOptions { nats_url: server.client_url(), nats_creds: None };
    connect(&options, "story").await.expect("connect to the story's server")
}

/// What a server holds after it was provisioned.
#[derive(Debug, PartialEq)]
struct Holds {
    streams: BTreeMap<&'static str, Value>,
    consumers: Vec<Value>,
    /// The catalogue's messages.
    articles: Vec<String>,
    /// Which deliveries were told to the inventory, which books each of them once.
    deliveries: BTreeSet<String>,
}

impl Holds {
    async fn of(server: &NatsServer) -> Self {
        let nats = nats(server).await;
        let mut holds =
            Self { streams: BTreeMap::new(), consumers: Vec::new(), articles: Vec::new(), deliveries: BTreeSet::new() };
        for name in StreamName::ALL {
            let stream = nats.jetstream.get_stream(name.as_str()).await.expect("a stream");
            let config = serde_json::to_value(&stream.cached_info().config).expect("a configuration");
            holds.streams.insert(name.as_str(), config);
        }
        for name in ConsumerName::ALL {
            let (stream, name) = (name.stream().as_str(), name.as_str());
            let consumer = nats
                .jetstream
                .get_consumer_from_stream::<async_nats::jetstream::consumer::pull::Config, _, _>(name, stream)
                .await
                .expect("a consumer");
            holds.consumers.push(serde_json::to_value(&consumer.cached_info().config).expect("a configuration"));
        }
        let articles = read::stretch(&nats, StreamName::Catalogue, 1, 1_000, "catalogue.>").await.expect("a catalogue");
        holds.articles = articles.messages.into_iter().map(|stored| stored.subject).collect();
        let deliveries = read::stretch(&nats, StreamName::InventoryCommands, 1, 1_000, "inventory.command.>").await;
        let deliveries = deliveries.expect("deliveries").messages;
        holds.deliveries = deliveries.into_iter().map(|stored| stored.subject).collect();
        holds
    }
}

fn times_reached(tape: &Path) -> BTreeMap<String, usize> {
    let mut reached = BTreeMap::new();
    for point in fs::read_to_string(tape).expect("a tape").lines() {
        *reached.entry(point.to_owned()).or_insert(0) += 1;
    }
    reached
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of plain text")
}
