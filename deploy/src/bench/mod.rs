//! How fast is it, and why: checkouts driven through a shop of their own, with everything that explains the figure.
//!
//! One unit of work: start with a key → stock reserved → payment session opened → the waiting client has the session → the
//! client says paid → the order is settled. The driver keeps so many checkouts in flight, says paid as soon as it has the
//! session, and measures for a while after a warm-up. `engine` sends commands straight into JetStream and has a provider that
//! answers at once inside the worker; `http` goes the whole way, with gateway, sandbox and signed webhooks.
//!
//! Every figure names its durability. The one that counts is `always`, which survives a power cut.
//!
//! Reading order: `case` (what is measured) → `stage` (where) → `engine`, `http` (the drivers), `open_loop` → `milestones`,
//! `flight` (one checkout's times) → `cost`, `fsyncs` (what it took) → `raw` (what JetStream itself does) → `report`, `page`;
//! then the questions that are measured in another way: `waiting`, `recovery`, `history`.

mod case;
mod cost;
mod engine;
mod flight;
mod fsyncs;
mod history;
mod http;
mod latency;
mod listening;
mod milestones;
mod open_loop;
mod overload;
mod page;
pub(crate) mod provider;
mod raw;
mod recovery;
mod report;
mod stage;
mod waiting;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use common::{shards::Shards, time::parse_duration};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    output::{print_json, print_text},
    service_process::Launcher,
};
use case::{Case, Durable, Load};
use history::HistoryArgs;
use listening::ListeningArgs;
use overload::OverloadArgs;
use recovery::RecoveryArgs;
use report::{CaseResult, Measuring, Report};
use stage::Stage;
use waiting::WaitingArgs;

/// Which way checkouts come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Commands straight into JetStream, a provider that answers at once inside the worker: to compare with other engines.
    Engine,
    /// Gateway, payment sandbox and signed webhooks: what a shop sees.
    Http,
}

// The text of `--help` is the command's own, so there is no doc comment here.
#[allow(missing_docs, reason = "clap would show it as the first line of --help")]
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    cases: CasesArgs,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// What JetStream itself does on this machine.
    Raw(RawArgs),
    /// Everybody wants the same article: one SKU beside a hundred.
    HotSku(HotSkuArgs),
    /// Many checkouts wait for their payment: what each of them costs, and whether it slows a new one.
    Waiting(WaitingArgs),
    /// Every worker and the inventory service are killed while many checkouts are under way: how soon all go on.
    Recovery(RecoveryArgs),
    /// How gateways may hear of the checkouts that wait there: one subscription for all, one for each, or an answer to each.
    Listening(ListeningArgs),
    /// More customers than the machine can serve: what comes through and how soon, what is refused, and how much memory it takes.
    Overload(OverloadArgs),
    /// Many finished checkouts are in the streams: the same figures as with none, and how long the inventory takes to start.
    History(HistoryArgs),
}

#[derive(Debug, Clone, Args)]
struct CasesArgs {
    /// Which ways in are measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mode::Engine, Mode::Http], value_name = "MODES")]
    mode: Vec<Mode>,
    /// How many checkouts are in flight, one case for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256, 2_000], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    in_flight: Vec<u32>,
    /// Start so many checkouts in each second instead, whether those before are served or not; one case for each number.
    #[arg(long, value_delimiter = ',', conflicts_with = "in_flight", value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: Vec<u32>,
    /// Whether the server syncs every write (what counts) or as it does by default (a power cut loses orders).
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Durable::Always], value_name = "SYNC")]
    sync: Vec<Durable>,
    /// How many articles are sold; with 1 everybody wants the same.
    #[arg(long, value_delimiter = ',', default_values_t = [100], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    skus: Vec<u32>,
    /// How many worker processes there are.
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: Vec<u8>,
    /// In how many streams histories, and commands, are spread.
    #[arg(long, value_delimiter = ',', default_values_t = [Shards::ONE], value_name = "NUMBERS")]
    shards: Vec<Shards>,
    /// Have the server stage atomic batches on disk, as it does by itself, instead of in memory (/dev/shm), as `cargo run` has it.
    /// What is acknowledged is synced in both cases.
    #[arg(long)]
    batches_on_disk: bool,
    #[command(flatten)]
    timing: TimingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// How long and how often is measured.
#[derive(Debug, Clone, Args)]
struct TimingArgs {
    /// How often each case is measured; the table shows the least, the middle and the most.
    #[arg(long, default_value_t = 3, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long is measured, after the warm-up.
    #[arg(long, default_value = "6s", value_name = "TIME", value_parser = parse_duration)]
    measure: Duration,
    /// How long is driven before.
    #[arg(long, default_value = "3s", value_name = "TIME", value_parser = parse_duration)]
    warm_up: Duration,
}

/// Where the figures go.
#[derive(Debug, Clone, Args)]
struct OutputArgs {
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Write a page with plots to this file; it opens without a network.
    #[arg(long, value_name = "FILE")]
    html_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
struct RawArgs {
    /// Whether the server syncs every write or as it does by default.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Durable::Always, Durable::Default], value_name = "SYNC")]
    sync: Vec<Durable>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
struct HotSkuArgs {
    /// How many checkouts are in flight, one case for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 2_000], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    in_flight: Vec<u32>,
    #[command(flatten)]
    timing: TimingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl From<HotSkuArgs> for CasesArgs {
    fn from(HotSkuArgs { in_flight, timing, output }: HotSkuArgs) -> Self {
        Self {
            mode: vec![Mode::Engine],
            in_flight,
            rate: Vec::new(),
            sync: vec![Durable::Always],
            skus: vec![1, 100],
            workers: vec![1],
            shards: vec![Shards::ONE],
            batches_on_disk: false,
            timing,
            output,
        }
    }
}

impl CasesArgs {
    fn loads(&self) -> impl Iterator<Item = Load> {
        let in_flight = if self.rate.is_empty() { &self.in_flight[..] } else { &[] };
        in_flight.iter().copied().map(Load::InFlight).chain(self.rate.iter().copied().map(Load::PerSecond))
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &sync in &self.sync {
            for &mode in &self.mode {
                for &workers in &self.workers {
                    for &skus in &self.skus {
                        for &shards in &self.shards {
                            cases.extend(self.loads().map(|load| Case {
                                mode,
                                sync,
                                workers,
                                shards,
                                max_waiting: None,
                                skus,
                                batches_on_disk: self.batches_on_disk,
                                load,
                            }));
                        }
                    }
                }
            }
        }
        cases
    }
}

impl TimingArgs {
    fn measuring(&self) -> Measuring {
        Measuring { warm_up: self.warm_up, measure: self.measure, counts_fsyncs: false }
    }
}

impl OutputArgs {
    /// Figures that have no page of their own.
    fn give(&self, figures: &impl Serialize, text: &str) -> anyhow::Result<()> {
        if let Some(file) = &self.json_file {
            let text = serde_json::to_string_pretty(figures).context("write the figures as JSON")?;
            std::fs::write(file, text).with_context(|| format!("write the figures to {}", file.display()))?;
        }
        if self.json {
            print_json(figures)?;
        } else {
            print_text(text);
        }
        Ok(())
    }

    fn give_report(&self, report: &Report) -> anyhow::Result<()> {
        if let Some(file) = &self.html_file {
            let page = page::page(report).context("draw the page")?;
            std::fs::write(file, page).with_context(|| format!("write the page to {}", file.display()))?;
        }
        self.give(report, &report.to_text())
    }
}

/// Measure and report.
///
/// # Errors
/// When a shop cannot be brought up, a checkout goes another way than it must, or a file cannot be written.
pub async fn run(args: &BenchArgs, launcher: &Launcher) -> anyhow::Result<()> {
    common::service::tls::install_tls_provider();
    common::service::telemetry::init_metrics();
    match args.what.clone() {
        None => run_cases(&args.cases, launcher).await,
        Some(What::HotSku(args)) => run_cases(&args.into(), launcher).await,
        Some(What::Raw(args)) => run_raw(&args).await,
        Some(What::Waiting(args)) => waiting::run(&args, launcher).await,
        Some(What::Recovery(args)) => recovery::run(&args, launcher).await,
        Some(What::Listening(args)) => listening::run(&args).await,
        Some(What::Overload(args)) => overload::run(&args, launcher).await,
        Some(What::History(args)) => history::run(&args, launcher).await,
    }
}

async fn run_raw(args: &RawArgs) -> anyhow::Result<()> {
    let bar = ProgressBar::new_spinner();
    let mut report = Report::of_this_machine();
    measure_raw(&mut report, &args.sync, &bar).await?;
    args.output.give(&report, &report.raw_text())
}

async fn measure_raw(report: &mut Report, syncs: &[Durable], bar: &ProgressBar) -> anyhow::Result<()> {
    for &sync in syncs {
        say(bar, &format!("raw JetStream, sync {}", sync.as_str()));
        report.raw.push(raw::measure(sync).await.context("measure JetStream itself")?);
    }
    Ok(())
}

async fn run_cases(args: &CasesArgs, launcher: &Launcher) -> anyhow::Result<()> {
    let cases = args.cases();
    let bar = ProgressBar::new(u64::try_from(cases.len()).unwrap_or(u64::MAX) * u64::from(args.timing.runs));
    let mut report = Report::of_this_machine();
    measure_raw(&mut report, &args.sync, &bar).await?;
    let mut runs: Vec<Vec<report::Run>> = cases.iter().map(|_| Vec::new()).collect();
    // In turns: what a machine does changes by the minute, and must not be taken for what a case does.
    for number in 1..=args.timing.runs {
        for (case, runs) in cases.iter().zip(&mut runs) {
            let run = run_case(case, args.timing.measuring(), launcher).await?;
            say(&bar, &format!("{case}, run {number} of {}: {:.0} checkouts/s", args.timing.runs, run.per_second));
            runs.push(run);
            bar.inc(1);
        }
    }
    for (case, runs) in cases.iter().zip(runs) {
        let mut result = CaseResult::of(case, runs);
        if case.sync == Durable::Always && fsyncs::can_be_counted() {
            say(&bar, &format!("{case}, once more while the server's syncs are counted"));
            result.fsyncs_per_checkout = count_fsyncs(case, args.timing.measuring(), launcher, &bar).await;
        }
        report.cases.push(result);
    }
    bar.finish_and_clear();
    args.output.give_report(&report)
}

async fn count_fsyncs(case: &Case, measuring: Measuring, launcher: &Launcher, bar: &ProgressBar) -> Option<f64> {
    match run_case(case, Measuring { counts_fsyncs: true, ..measuring }, launcher).await {
        Ok(run) => run.fsyncs_per_checkout(),
        // Not everybody may trace a process; the other figures stand without it.
        Err(error) => {
            say(bar, &format!("the syncs could not be counted: {error:#}"));
            None
        }
    }
}

/// One run in a shop of its own: what an earlier run has left behind is no part of the figure.
async fn run_case(case: &Case, measuring: Measuring, launcher: &Launcher) -> anyhow::Result<report::Run> {
    let stage = Stage::open(case, launcher).await.with_context(|| format!("open a shop for {case}"))?;
    let run = drive(&stage, case, measuring).await;
    let run = run.with_context(|| format!("drive {case}; logs are in {}", stage.log_dir().display()))?;
    stage.close().await;
    Ok(run)
}

async fn drive(stage: &Stage, case: &Case, measuring: Measuring) -> anyhow::Result<report::Run> {
    match case.mode {
        Mode::Engine => engine::drive(stage, case, measuring).await,
        Mode::Http => http::drive(stage, case, measuring).await,
    }
}

/// Progress for people, on standard error whether it is a terminal or not.
fn say(bar: &ProgressBar, line: &str) {
    bar.suspend(|| eprintln!("… {line}"));
}
