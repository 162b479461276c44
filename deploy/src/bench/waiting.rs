//! Many checkouts wait for their payment: what each of them costs, and whether it slows a new one.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    OutputArgs,
    case::Case,
    cost::memory_of,
    engine::{self, Driver},
    report::{Measuring, Run},
    say,
    stage::Stage,
};
use crate::service_process::Launcher;

#[derive(Debug, Clone, Args)]
pub(super) struct WaitingArgs {
    /// How many wait.
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// How long nothing happens before memory and disk are looked at. The server keeps what was written last in its cache for
    /// some ten seconds, and gives memory back half a minute later; checkouts wait for longer than that.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = common::time::parse_duration)]
    rest: Duration,
    /// How long a new checkout is measured, before and after.
    #[arg(long, default_value = "6s", value_name = "TIME", value_parser = common::time::parse_duration)]
    measure: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

/// What there is at a moment.
#[derive(Debug, Clone, Copy, Serialize)]
struct Room {
    server_memory: u64,
    worker_memory: u64,
    disk: u64,
}

#[derive(Debug, Serialize)]
struct Figures {
    waiting: u32,
    before: Room,
    after: Room,
    /// Bytes that each waiting checkout takes.
    server_memory_each: u64,
    worker_memory_each: u64,
    disk_each: u64,
    new_checkout_before: Run,
    new_checkout_after: Run,
}

pub(super) async fn run(args: &WaitingArgs, launcher: &Launcher) -> anyhow::Result<()> {
    let bar = ProgressBar::new(u64::from(args.count));
    let case = Case::engine(1);
    let stage = Stage::open(&case, launcher).await.context("open a shop")?;
    let measuring = Measuring { warm_up: Duration::from_secs(2), measure: args.measure, counts_fsyncs: false };
    say(&bar, "a new checkout while nobody waits");
    let new_checkout_before = engine::drive(&stage, &case, measuring).await?;
    tokio::time::sleep(args.rest).await;
    let before = Room::now(&stage)?;
    say(&bar, &format!("{} checkouts begin to wait", args.count));
    let driver = Driver::new(&stage).await?;
    for waiting in driver.until_all_wait(args.count, &bar).await? {
        driver.forget(waiting.id);
    }
    tokio::time::sleep(args.rest).await;
    let after = Room::now(&stage)?;
    say(&bar, "a new checkout beside them");
    let new_checkout_after = engine::drive(&stage, &case, measuring).await?;
    bar.finish_and_clear();
    stage.close().await;
    let each = |of: fn(&Room) -> u64| of(&after).saturating_sub(of(&before)) / u64::from(args.count);
    let figures = Figures {
        waiting: args.count,
        before,
        after,
        server_memory_each: each(|room| room.server_memory),
        worker_memory_each: each(|room| room.worker_memory),
        disk_each: each(|room| room.disk),
        new_checkout_before,
        new_checkout_after,
    };
    args.output.give(&figures, &figures.to_text())
}

impl Figures {
    fn to_text(&self) -> String {
        let latency = |run: &Run| format!("{:.1} / {:.1} ms", run.to_session().p50_ms, run.to_session().p99_ms);
        format!(
            "{} checkouts wait for their payment. Each of them costs {} bytes of the server's memory, {} of the worker's, {} on \
             disk.\nA new checkout, start→session p50 / p99: {} before, {} beside them ({:.0} and {:.0} a second, one in flight).",
            self.waiting,
            self.server_memory_each,
            self.worker_memory_each,
            self.disk_each,
            latency(&self.new_checkout_before),
            latency(&self.new_checkout_after),
            self.new_checkout_before.per_second(),
            self.new_checkout_after.per_second(),
        )
    }
}

impl Room {
    fn now(stage: &Stage) -> anyhow::Result<Self> {
        let memory = |wanted: &str| -> anyhow::Result<u64> {
            let of_wanted = stage.pids().into_iter().filter(|(name, _)| *name == wanted);
            of_wanted.map(|(_, pid)| memory_of(pid)).sum()
        };
        Ok(Self {
            server_memory: memory("nats-server")?,
            worker_memory: memory("worker")?,
            disk: bytes_in(&stage.data_dir())?,
        })
    }
}

/// Everything in a folder, in bytes.
fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("look into {}", folder.display()))? {
        let entry = entry?;
        // What has been removed meanwhile takes no room.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { bytes_in(&entry.path()).unwrap_or_default() } else { meta.len() };
    }
    Ok(bytes)
}
