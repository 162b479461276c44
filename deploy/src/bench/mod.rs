//! How fast is it, and why: checkouts driven through a shop of their own, with everything that explains the figure.
//!
//! One unit of work: start with a key → stock reserved → payment session opened → the waiting client has the session → the
//! client says paid → the order is settled. The driver keeps so many checkouts in flight, says paid as soon as it has the
//! session, and measures for a while after a warm-up. `engine` sends commands straight into JetStream and has a provider that
//! answers at once inside the worker; `http` goes the whole way, with gateway, sandbox and signed webhooks.
//!
//! Every figure names its durability. The one that counts is `always`, which survives a power cut.
//!
//! Reading order: `case` (what is measured) → `stage` (where) → `engine`, `http` (the drivers) → `flight` (one checkout's
//! times) → `cost` (what it took) → `raw` (what JetStream itself does) → `report`.

mod case;
mod cost;
mod engine;
mod flight;
mod http;
pub(crate) mod provider;
mod raw;
mod report;
mod stage;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use common::time::parse_duration;
use indicatif::ProgressBar;

use crate::{
    output::{print_json, print_text},
    service_process::Launcher,
};
use case::{Case, Durable};
use report::{CaseResult, Report};
use stage::Stage;

/// Which way checkouts come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
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
pub struct BenchArgs {
    /// Which ways in are measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mode::Engine, Mode::Http], value_name = "MODES")]
    pub mode: Vec<Mode>,
    /// How many checkouts are in flight, one case for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256, 2_000], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub in_flight: Vec<u32>,
    /// Whether the server syncs every write (what counts) or as it does by default (a power cut loses orders).
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Durable::Always], value_name = "SYNC")]
    pub sync: Vec<Durable>,
    /// How many articles are sold; with 1 everybody wants the same.
    #[arg(long, value_delimiter = ',', default_values_t = [100], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub skus: Vec<u32>,
    /// How many worker processes there are.
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u8).range(1..=16))]
    pub workers: Vec<u8>,
    /// How often each case is measured; the table shows the least, the middle and the most.
    #[arg(long, default_value_t = 3, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// How long is measured, after the warm-up.
    #[arg(long, default_value = "6s", value_name = "TIME", value_parser = parse_duration)]
    pub measure: Duration,
    /// How long is driven before.
    #[arg(long, default_value = "3s", value_name = "TIME", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json_file: Option<PathBuf>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &sync in &self.sync {
            for &mode in &self.mode {
                for &workers in &self.workers {
                    for &skus in &self.skus {
                        for &in_flight in &self.in_flight {
                            cases.push(Case { mode, sync, workers, skus, in_flight });
                        }
                    }
                }
            }
        }
        cases
    }
}

/// Measure every case and report.
///
/// # Errors
/// When a shop cannot be brought up, a checkout goes another way than it must, or the file cannot be written.
pub async fn run(args: &BenchArgs, launcher: &Launcher) -> anyhow::Result<()> {
    common::service::tls::install_tls_provider();
    common::service::telemetry::init_metrics();
    let cases = args.cases();
    let bar = ProgressBar::new(u64::try_from(cases.len()).unwrap_or(u64::MAX) * u64::from(args.runs));
    let mut report = Report::of_this_machine();
    for &sync in &args.sync {
        say(&bar, &format!("raw JetStream, sync {}", sync.as_str()));
        report.raw.push(raw::measure(sync).await.context("measure JetStream itself")?);
    }
    for case in cases {
        let mut runs = Vec::new();
        for number in 1..=args.runs {
            say(&bar, &format!("{case}, run {number} of {}", args.runs));
            // A shop of its own each time: what an earlier run has left behind is no part of the figure.
            let stage = Stage::open(&case, launcher).await.with_context(|| format!("open a shop for {case}"))?;
            let run = match case.mode {
                Mode::Engine => engine::drive(&stage, &case, args.warm_up, args.measure).await,
                Mode::Http => http::drive(&stage, &case, args.warm_up, args.measure).await,
            };
            runs.push(run.with_context(|| format!("drive {case}; logs are in {}", stage.log_dir().display()))?);
            stage.close().await;
            bar.inc(1);
        }
        let result = CaseResult::of(&case, runs);
        say(&bar, &result.line());
        report.cases.push(result);
    }
    bar.finish_and_clear();
    if let Some(file) = &args.json_file {
        let text = serde_json::to_string_pretty(&report).context("write the figures as JSON")?;
        std::fs::write(file, text).with_context(|| format!("write the figures to {}", file.display()))?;
    }
    if args.json {
        print_json(&report)?
    } else {
        print_text(&report.to_text())
    }
    Ok(())
}

/// Progress for people, on standard error whether it is a terminal or not.
fn say(bar: &ProgressBar, line: &str) {
    bar.suspend(|| eprintln!("… {line}"));
}
