//! The whole shop under every fault at once: thousands of checkouts of every kind while services and servers are killed,
//! frozen and cut off, messages come twice and the provider misbehaves. Afterwards everything must have come to its end,
//! and nothing that was promised may be broken.
//!
//! Reading order: `visits` and `schedule` (what a seed says will happen, pure) → `stage` (what it happens to) →
//! `customers` and `inflict` (who does it) → `settle`, `facts` (what is left) → `checker` (what must hold, pure) →
//! `report`.

mod balancer;
mod checker;
mod customers;
mod facts;
mod inflict;
mod overheard;
mod progress;
mod random;
mod report;
mod schedule;
mod settle;
mod stage;
mod told;
mod visits;
mod watch;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use common::{shards::Shards, time::parse_duration};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{doctor, service_process::Launcher};
use facts::Facts;
use inflict::{Tally, Tormentor, find_faketime};
use overheard::Overheard;
use progress::Progress;
pub use report::{Outcome, Violation};
use schedule::Schedule;
use stage::Stage;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// kill -9 of services and servers.
    Kill,
    /// SIGSTOP and SIGCONT of services and servers.
    Pause,
    /// Orderly restarts of services and servers.
    Restart,
    /// Stored messages are sent again: commands, answers, webhooks, wake-up calls.
    Duplicate,
    /// Consumers are reset, so that everything is delivered again, or paused.
    Reset,
    /// Connections to NATS are cut, delayed, throttled, half open, or lose bytes.
    Network,
    /// The payment provider fails in every way that it knows.
    Provider,
    /// Webhooks come twice, late, out of order, stale, wrongly signed or with wrong words.
    Webhooks,
    /// A worker's clock is wrong; needs libfaketime.
    Clock,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::Pause,
        Self::Restart,
        Self::Duplicate,
        Self::Reset,
        Self::Network,
        Self::Provider,
        Self::Webhooks,
        Self::Clock,
    ];
}

// The text of `--help` is the command's own, so there is no doc comment here.
#[allow(missing_docs, reason = "clap would show it as the first line of --help")]
#[derive(Debug, Clone, clap::Args)]
pub struct TortureArgs {
    /// What happens, as a number: the same seed is the same customers and the same faults in the same order. How they
    /// meet is up to the machine and never the same twice. Without it a new one is drawn and shown.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// How many checkouts are driven.
    #[arg(long, default_value_t = 5_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub checkouts: u32,
    /// No visit begins after this many minutes, whatever is left.
    #[arg(long, default_value_t = 30, value_name = "NUMBER")]
    pub minutes: u64,
    /// How many nats-servers there are: 1, or 3 in a cluster with three replicas of every stream.
    #[arg(long, default_value_t = 1, value_name = "1|3", value_parser = one_or_three)]
    pub nodes: u8,
    /// Have a single server stage atomic batches on disk, as it does by itself, instead of in memory, as `cargo run` has it.
    #[arg(long)]
    pub batches_on_disk: bool,
    /// In how many streams histories, and commands, are spread.
    #[arg(long, default_value_t = Shards::ONE, value_name = "NUMBER")]
    pub shards: Shards,
    /// Which kinds of faults come; without it all of them, with `--faults none` none.
    #[arg(long, value_delimiter = ',', value_name = "KINDS", value_parser = kind_or_none)]
    pub faults: Vec<Option<FaultKind>>,
    /// How many customers there are at the same time.
    #[arg(long, default_value_t = 64, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub concurrency: u16,
    /// How long a customer has to pay.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    pub payment_timeout: Duration,
    /// After how long an unacked message of a dead service goes to another one; without it as in production (30 s, 10 s).
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub ack_wait: Option<Duration>,
    /// How long everything may take to come to its end once the faults are over.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = parse_duration)]
    pub settle_within: Duration,
    /// The library that shifts a worker's clock, when it is not where Debian's package `libfaketime` puts it.
    #[arg(long, env = "CHECKOUT_FAKETIME", value_name = "FILE")]
    pub faketime: Option<PathBuf>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Keep streams, books and logs also when nothing is broken; after a failure they are always kept.
    #[arg(long)]
    pub keep: bool,
}

fn one_or_three(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("there can be 1 server or 3: two keep no majority when one dies".into()),
    }
}

fn kind_or_none(text: &str) -> Result<Option<FaultKind>, String> {
    if text == "none" { Ok(None) } else { FaultKind::from_str(text, false).map(Some) }
}

impl TortureArgs {
    fn kinds(&self) -> Vec<FaultKind> {
        if self.faults.is_empty() { FaultKind::ALL.to_vec() } else { self.faults.iter().copied().flatten().collect() }
    }
}

/// Torture the shop and judge what is left. Everything ends with it; the folder is kept after a failure.
///
/// # Errors
/// When the shop cannot be brought up, or what is left cannot be read. A broken promise is not an error but in the
/// outcome.
pub async fn run(args: &TortureArgs, launcher: &Launcher) -> anyhow::Result<Outcome> {
    let progress = Progress::start(args.checkouts);
    let seed = args.seed.unwrap_or_else(|| common::time::now().as_millisecond().unsigned_abs());
    progress.say(&format!("seed {seed}: the same customers and faults come with `--seed {seed}`"));
    let folder = tempfile::Builder::new().prefix("torture-").tempdir().context("create a folder for the run")?;
    let mut kinds = args.kinds();
    let faketime = find_faketime(args.faketime.as_ref());
    if kinds.contains(&FaultKind::Clock) && faketime.is_none() {
        kinds.retain(|kind| *kind != FaultKind::Clock);
        progress.say(
            "SKIPPED: clocks stay right, because libfaketime is not here (`apt-get install libfaketime`, or --faketime)",
        );
    }
    progress.step("starting servers and services");
    let stage = Arc::new(Stage::open(args, launcher, folder.path()).await?);
    let outcome = tokio::select! {
        outcome = torture(args, seed, &kinds, faketime, &stage, &progress) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by Ctrl-C before anything could be judged")),
    };
    if let Some(stage) = Arc::into_inner(stage) {
        stage.close().await;
    }
    progress.finish();
    let is_good = outcome.as_ref().is_ok_and(|outcome| outcome.violations.is_empty());
    if args.keep || !is_good {
        let kept = folder.keep();
        progress.say(&format!("streams, books and logs are kept in {}", kept.display()));
        return outcome.map(|outcome| Outcome { kept: Some(kept), ..outcome });
    }
    outcome
}

async fn torture(
    args: &TortureArgs,
    seed: u64,
    kinds: &[FaultKind],
    faketime: Option<PathBuf>,
    stage: &Arc<Stage>,
    progress: &Progress,
) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let overheard = Arc::new(Overheard::listen(&stage.nats).await?);
    let tormentor = Arc::new(Tormentor {
        stage: Arc::clone(stage),
        overheard: Arc::clone(&overheard),
        faketime,
        tally: Tally::default(),
    });
    let (faults_over, all_over) = (CancellationToken::new(), CancellationToken::new());
    let schedule = Schedule::new(seed, kinds, stage.services(), args.nodes);
    let watching = tokio::spawn(watch::watch(stage.nats.clone(), all_over.clone()));

    let mut facts = Facts::default();
    let driving = async {
        progress.step("driving");
        let told = drive(args, seed, kinds, stage, progress, began).await;
        faults_over.cancel();
        told
    };
    let work = async {
        let (told, ()) = tokio::join!(driving, tormentor.run(schedule, faults_over.clone()));
        facts.told = told?;
        let driven = began.elapsed();
        progress.step("the faults are over; everything must come to its end");
        end_of_faults(stage).await?;
        let settling = Instant::now();
        facts.unsettled = settle::settle(stage, args.settle_within, progress).await;
        anyhow::Ok((driven, settling.elapsed()))
    };
    let (driven, settled) = tokio::select! {
        worked = work => worked?,
        () = stage.supervise() => (Duration::ZERO, Duration::ZERO),
    };
    all_over.cancel();
    facts.last_messages = watching.await.context("watch the streams")?;

    progress.step("reading what is left");
    for line in visits::articles(args.checkouts)? {
        facts.stocked.insert(line.product.sku, line.stock.into());
    }
    facts.read_streams(&stage.nats).await?;
    facts.read_books(&stage.http, &stage.sandbox_url()).await?;
    facts.accidents = tormentor.tally.accidents();
    let report = doctor::examine(&stage.nats, doctor::Options::default()).await?;
    facts.broken = report.of(doctor::Severity::Broken).cloned().collect();

    let violations = checker::check(&facts);
    Ok(Outcome {
        seed,
        nodes: args.nodes,
        driven,
        settled,
        faults: tormentor.tally.counts(),
        ended_by_themselves: stage.ended_by_themselves.load(Ordering::Relaxed),
        nudges: overheard.nudges(),
        dead_letters: u64::try_from(facts.letters.len()).unwrap_or(u64::MAX),
        checkouts: report.summary.checkouts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(),
        refunds_by_hand: report.summary.refunds_by_hand,
        answers: report::answers(&facts.told),
        visits: u64::try_from(facts.told.len()).unwrap_or(u64::MAX),
        accepted: u64::try_from(facts.told.iter().filter(|told| told.is_accepted()).count()).unwrap_or(u64::MAX),
        violations,
        kept: None,
    })
}

/// Let all customers come, so many at a time, until the time is over.
async fn drive(
    args: &TortureArgs,
    seed: u64,
    kinds: &[FaultKind],
    stage: &Arc<Stage>,
    progress: &Progress,
    began: Instant,
) -> anyhow::Result<Vec<told::Told>> {
    let time = Duration::from_secs(args.minutes.saturating_mul(60));
    let visits = visits::visits(seed, args.checkouts, kinds).into_iter().take_while(|_| began.elapsed() < time);
    let mut told = Vec::new();
    let mut under_way = futures_util::stream::iter(visits)
        .map(|visit| tokio::spawn(customers::visit(Arc::clone(stage), visit, args.payment_timeout)))
        .buffer_unordered(args.concurrency.into());
    while let Some(visited) = under_way.next().await {
        told.push(visited.context("a customer broke off")??);
        progress.visited();
    }
    Ok(told)
}

/// Nothing misbehaves any more, and everything runs.
async fn end_of_faults(stage: &Stage) -> anyhow::Result<()> {
    let url = format!("{}/api/faults", stage.sandbox_url());
    stage.until_open().await?;
    let cleared = stage.http.delete(url).send().await.context("end the provider's faults")?;
    cleared.error_for_status().context("end the provider's faults")?;
    for consumer in stage.nats.shards.all_consumers(&common::streams::ConsumerName::ALL) {
        let stream = stage.nats.jetstream.get_stream_no_info(consumer.stream().as_str()).await?;
        stream.resume_consumer(consumer.as_str()).await.context("let a consumer go on")?;
    }
    Ok(())
}
