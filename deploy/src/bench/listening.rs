//! How gateways may hear of the checkouts that wait there, without the shop around it: a start is published, a worker's five
//! records are told, and the gateway that waits has heard the last one. What it costs the server, with few and many gateways.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{OutputArgs, case::Durable, cost::cpu_of, raw::per_second, say, stage::start_server};

/// Records of a checkout on its usual way.
const RECORDS: usize = 5;

/// About the size of one.
const RECORD_BYTES: usize = 600;

/// Checkouts that wait at a time, over all gateways.
const IN_FLIGHT: usize = 256;

/// Longer than any message takes that is not lost.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Args)]
pub(super) struct ListeningArgs {
    /// How many gateways there are, one case for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 10], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u8).range(1..=50))]
    gateways: Vec<u8>,
    /// How many checkouts there are in each case.
    #[arg(long, default_value_t = 50_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    checkouts: u32,
    #[command(flatten)]
    output: OutputArgs,
}

/// Who listens to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// Each gateway hears every record of every checkout.
    OneForAll,
    /// A gateway listens to a checkout for as long as it waits there.
    OneForEach,
    /// Nobody listens: the worker also sends the last record to the one that waits.
    Answer,
}

impl Way {
    const ALL: [Self; 3] = [Self::OneForAll, Self::OneForEach, Self::Answer];

    fn as_str(self) -> &'static str {
        match self {
            Self::OneForAll => "one subscription for all",
            Self::OneForEach => "one for each",
            Self::Answer => "an answer to each",
        }
    }
}

/// One way with so many gateways.
#[derive(Debug, Serialize)]
struct Figures {
    way: Way,
    gateways: u8,
    checkouts: u32,
    per_second: f64,
    /// Processor time of nats-server for each checkout, in microseconds.
    server_cpu_us: u64,
    /// The same of this process: all gateways and the worker.
    clients_cpu_us: u64,
}

pub(super) async fn run(args: &ListeningArgs) -> anyhow::Result<()> {
    let bar = ProgressBar::new_spinner();
    let mut all = Vec::new();
    for &gateways in &args.gateways {
        for way in Way::ALL {
            say(&bar, &format!("{}, {gateways} gateways", way.as_str()));
            all.push(measure(way, gateways, args.checkouts).await?);
        }
    }
    bar.finish_and_clear();
    args.output.give(&all, &to_text(&all))
}

async fn measure(way: Way, gateways: u8, checkouts: u32) -> anyhow::Result<Figures> {
    let folder = tempfile::Builder::new().prefix("bench-listening-").tempdir().context("create a folder")?;
    let mut server = start_server(Durable::Default, folder.path()).await?;
    let server_pid = server.pid().context("the server runs")?;
    let connect = || async_nats::connect(server.client_url());
    let worker = connect().await.context("connect the worker")?;
    let starts = worker.subscribe("start.*").await.context("take starts")?;
    worker.flush().await.context("take starts")?;
    let working = tokio::spawn(work(worker, starts, way));
    let mut open = Vec::new();
    for _ in 0..gateways {
        open.push(Arc::new(Gateway::open(connect().await.context("connect a gateway")?, way).await?));
    }

    let used = || anyhow::Ok((cpu_of(server_pid)?, cpu_of(std::process::id())?));
    let (before, began) = (used()?, Instant::now());
    stream::iter(0..checkouts)
        .map(|number| {
            let gateway = Arc::clone(&open[usize::try_from(number).unwrap_or_default() % open.len()]);
            async move { timeout(PATIENCE, gateway.wait(number)).await.context("a record was lost")? }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;
    let (after, took) = (used()?, began.elapsed());
    working.abort();
    server.stop().await?;
    let each = |before: u64, after: u64| after.saturating_sub(before) * 1_000 / u64::from(checkouts.max(1));
    Ok(Figures {
        way,
        gateways,
        checkouts,
        per_second: per_second(usize::try_from(checkouts)?, took),
        server_cpu_us: each(before.0, after.0),
        clients_cpu_us: each(before.1, after.1),
    })
}

/// Tell the records of whatever is started.
async fn work(worker: Client, mut starts: Subscriber, way: Way) -> anyhow::Result<()> {
    let record = Bytes::from(vec![b'x'; RECORD_BYTES]);
    while let Some(start) = starts.next().await {
        let number = start.subject.as_str().trim_start_matches("start.");
        let live = format!("live.{number}");
        for _ in 0..RECORDS {
            worker.publish(live.clone(), record.clone()).await?;
        }
        if let (Way::Answer, Some(inbox)) = (way, start.reply) {
            worker.publish(inbox, record.clone()).await?;
        }
    }
    Ok(())
}

struct Gateway {
    client: Client,
    way: Way,
    /// Who waits here, where everything is heard that is told to all.
    waiting: Waiting,
}

type Waiting = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<()>>>>;

impl Gateway {
    async fn open(client: Client, way: Way) -> anyhow::Result<Self> {
        let waiting = Waiting::default();
        if way == Way::OneForAll {
            let mut all = client.subscribe("live.*").await.context("listen to everything")?;
            client.flush().await.context("listen to everything")?;
            let told = Arc::clone(&waiting);
            tokio::spawn(async move {
                while let Some(message) = all.next().await {
                    if let Some(waiter) = lock(&told).get(message.subject.as_str()) {
                        // It has heard enough.
                        let _ = waiter.send(());
                    }
                }
            });
        }
        Ok(Self { client, way, waiting })
    }

    /// Start a checkout, and wait for its last record.
    async fn wait(&self, number: u32) -> anyhow::Result<()> {
        let (start, live) = (format!("start.{number}"), format!("live.{number}"));
        match self.way {
            Way::OneForAll => {
                let (waiter, mut heard) = mpsc::unbounded_channel();
                lock(&self.waiting).insert(live.clone(), waiter);
                self.client.publish(start, Bytes::new()).await?;
                for _ in 0..RECORDS {
                    heard.recv().await.context("nobody tells")?;
                }
                lock(&self.waiting).remove(&live);
            }
            Way::OneForEach => {
                let records = self.client.subscribe(live).await?;
                self.client.publish(start, Bytes::new()).await?;
                records.take(RECORDS).count().await;
            }
            Way::Answer => {
                self.client.request(start, Bytes::new()).await?;
            }
        }
        Ok(())
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<()>>> {
    // Every change is one call of the map.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_text(all: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL);
    table.set_header(["way", "gateways", "checkouts/s", "nats-server, µs each", "gateways and worker, µs each"]);
    for figures in all {
        table.add_row([
            figures.way.as_str().to_owned(),
            figures.gateways.to_string(),
            format!("{:.0}", figures.per_second),
            figures.server_cpu_us.to_string(),
            figures.clients_cpu_us.to_string(),
        ]);
    }
    table.to_string()
}
