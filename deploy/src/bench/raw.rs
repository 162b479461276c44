//! What JetStream itself does on this machine in the same minutes, so that every figure can be given as a share of it.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{HeaderMap, header, jetstream::stream::Config};
use bytes::Bytes;
use common::nats::{Nats, NatsOptions, connect::connect};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::{case::Durable, latency::in_ms, stage::start_server};

/// How long each is measured.
const SPAN: Duration = Duration::from_secs(2);

/// Publishes in flight where they are pipelined.
const PIPELINE: usize = 1_000;

/// Where batches are staged on disk.
const ON_DISK: &str = "raw.batch";

/// Where they are staged in memory.
const IN_MEMORY: &str = "raw_in_memory";

/// Messages of a batch.
const BATCH: usize = 500;

/// Sizes of a commit unit.
const UNITS: [usize; 7] = [2, 4, 8, 16, 32, 64, 128];

/// How often each is measured.
const UNIT_REPEATS: usize = 20;

/// As large as a record of a checkout.
const MESSAGE_BYTES: usize = 500;

/// What JetStream does.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Raw {
    pub(super) sync: Durable,
    /// One publish after the other, each one's time.
    pub(super) sequential_ms: f64,
    /// Publishes per second with a thousand in flight.
    pub(super) pipelined_per_second: f64,
    /// Messages per second in atomic batches of 500 that are staged on disk.
    pub(super) batched_per_second: f64,
    /// The same for batches that are staged in memory, where there is such a place.
    pub(super) batched_in_memory_per_second: Option<f64>,
    /// What one commit unit takes, by its size.
    pub(super) units: Vec<Unit>,
}

/// So many messages that are stored together, half of the time in the middle.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Unit {
    messages: usize,
    /// Each a publish of its own, all on the wire at once.
    singles_ms: f64,
    /// One atomic batch, staged on disk.
    batch_ms: f64,
    /// One that is staged in memory.
    batch_in_memory_ms: Option<f64>,
}

impl Raw {
    pub(super) fn to_text(&self) -> String {
        let Self { sequential_ms, pipelined_per_second, batched_per_second, .. } = self;
        let in_memory = |figure: Option<f64>, digits: usize| match figure {
            Some(figure) => format!("{figure:.digits$}"),
            None => "-".into(),
        };
        let mut text = format!(
            "raw JetStream, sync {}: {sequential_ms:.2} ms a publish, {pipelined_per_second:.0}/s pipelined, \
             {batched_per_second:.0}/s in batches of {BATCH}, {}/s when they are staged in memory\n",
            self.sync.as_str(),
            in_memory(self.batched_in_memory_per_second, 0),
        );
        let times = self.units.iter().map(|unit| {
            let Unit { messages, singles_ms, batch_ms, batch_in_memory_ms } = unit;
            format!("{messages}: {singles_ms:.1} / {batch_ms:.1} / {}", in_memory(*batch_in_memory_ms, 1))
        });
        let times = times.collect::<Vec<_>>().join(", ");
        text += &format!("  a unit as singles / as a batch / as one that is staged in memory, ms: {times}\n");
        text
    }
}

pub(super) async fn measure(sync: Durable) -> anyhow::Result<Raw> {
    let folder = tempfile::Builder::new().prefix("bench-raw-").tempdir().context("create a folder")?;
    let mut server = start_server(sync, folder.path()).await?;
    let nats = connect(&NatsOptions { nats_url: server.client_url(), nats_creds: None }, "bench").await?;
    // Only streams that exist are led there.
    create_stream(&nats, "IN_MEMORY", IN_MEMORY).await?;
    let has_memory = server.stage_batches_in_memory().await.is_ok();
    create_stream(&nats, "ON_DISK", "raw.*").await?;
    let message = Bytes::from(vec![b'x'; MESSAGE_BYTES]);

    let (mut count, started) = (0_u32, Instant::now());
    while started.elapsed() < SPAN {
        nats.client.request("raw.sequential", message.clone()).await.context("publish")?;
        count += 1;
    }
    let sequential_ms = in_ms(started.elapsed() / count.max(1));

    let started = Instant::now();
    let publish = |_| async { nats.client.request("raw.pipelined", message.clone()).await };
    let answered = stream::iter(0_u64..)
        .take_while(|_| std::future::ready(started.elapsed() < SPAN))
        .map(publish)
        .buffer_unordered(PIPELINE)
        .filter(|answer| std::future::ready(answer.is_ok()))
        .count()
        .await;
    let pipelined_per_second = per_second(answered, started.elapsed());

    let batched_per_second = batches_for_a_while(&nats, &message, ON_DISK).await?;
    let batched_in_memory_per_second =
        if has_memory { Some(batches_for_a_while(&nats, &message, IN_MEMORY).await?) } else { None };
    let mut units = Vec::with_capacity(UNITS.len());
    for messages in UNITS {
        units.push(unit(&nats, &message, messages, has_memory).await?);
    }
    server.stop().await?;
    Ok(Raw { sync, sequential_ms, pipelined_per_second, batched_per_second, batched_in_memory_per_second, units })
}

async fn create_stream(nats: &Nats, name: &str, subject: &str) -> anyhow::Result<()> {
    let subjects = vec![subject.to_owned()];
    let config = Config { name: name.into(), subjects, allow_atomic_publish: true, ..Config::default() };
    nats.jetstream.create_stream(config).await.with_context(|| format!("create the stream {name}"))?;
    Ok(())
}

async fn batches_for_a_while(nats: &Nats, message: &Bytes, subject: &'static str) -> anyhow::Result<f64> {
    let (mut count, started) = (0, Instant::now());
    while started.elapsed() < SPAN {
        batch(nats, message, BATCH, subject).await?;
        count += BATCH;
    }
    Ok(per_second(count, started.elapsed()))
}

/// In turn, so that both meet the same minute.
async fn unit(nats: &Nats, message: &Bytes, messages: usize, has_memory: bool) -> anyhow::Result<Unit> {
    let (mut singles, mut batches, mut in_memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..UNIT_REPEATS {
        let started = Instant::now();
        let publishes = (0..messages).map(|_| nats.client.request("raw.unit", message.clone()));
        futures_util::future::try_join_all(publishes).await.context("publish")?;
        singles.push(started.elapsed());
        let started = Instant::now();
        batch(nats, message, messages, ON_DISK).await?;
        batches.push(started.elapsed());
        if has_memory {
            let started = Instant::now();
            batch(nats, message, messages, IN_MEMORY).await?;
            in_memory.push(started.elapsed());
        }
    }
    Ok(Unit {
        messages,
        singles_ms: middle_ms(singles),
        batch_ms: middle_ms(batches),
        batch_in_memory_ms: has_memory.then(|| middle_ms(in_memory)),
    })
}

fn middle_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |middle| in_ms(*middle))
}

async fn batch(nats: &Nats, message: &Bytes, messages: usize, subject: &'static str) -> anyhow::Result<()> {
    let id = Uuid::now_v7().simple().to_string();
    for number in 1..=messages {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_BATCH_ID, id.as_str());
        headers.insert(header::NATS_BATCH_SEQUENCE, number.to_string());
        if number == messages {
            headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
            nats.client.request_with_headers(subject, headers, message.clone()).await.context("commit a batch")?;
        } else {
            nats.client.publish_with_headers(subject, headers, message.clone()).await.context("send a batch")?;
        }
    }
    Ok(())
}

/// Things per second, for people.
#[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measured rate, not money")]
pub(super) fn per_second(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}
