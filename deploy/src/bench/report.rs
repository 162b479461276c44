//! The figures, for eyes and for programs.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL};
use futures_util::future::try_join_all;
use serde::Serialize;

use super::{
    case::Case,
    cost::{Cost, Meter},
    flight::{Flights, Latency, Window},
    raw::{Raw, per_second},
    stage::Stage,
};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// When, and on what.
    machine: Machine,
    pub(super) raw: Vec<Raw>,
    pub(super) cases: Vec<CaseResult>,
}

#[derive(Debug, Serialize)]
struct Machine {
    at: common::time::Timestamp,
    processors: usize,
    /// Average number of processes that wanted to run in the minute before.
    load_before: String,
    /// Debug builds are an order of magnitude slower: their figures say nothing.
    is_release_build: bool,
}

/// One measured run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    /// Settled checkouts per second.
    per_second: f64,
    checkouts: u64,
    to_session: Latency,
    to_settled: Latency,
    cost: Cost,
    load: String,
}

/// One case, measured several times.
#[derive(Debug, Serialize)]
pub(super) struct CaseResult {
    case: Case,
    /// From the slowest to the fastest.
    runs: Vec<Run>,
}

impl Report {
    pub(super) fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let machine = Machine {
            at: common::time::now(),
            processors,
            load_before: load(),
            is_release_build: !cfg!(debug_assertions),
        };
        Self { machine, raw: Vec::new(), cases: Vec::new() }
    }

    pub(super) fn to_text(&self) -> String {
        let Machine { processors, load_before, is_release_build, .. } = &self.machine;
        let mut text = format!("{processors} processors, load before {load_before}\n");
        if !is_release_build {
            text += "THIS IS A DEBUG BUILD: its figures say nothing; use `cargo run --release`\n";
        }
        for raw in &self.raw {
            text += &format!(
                "raw JetStream, sync {}: {:.2} ms a publish, {:.0}/s pipelined, {:.0}/s in batches\n",
                raw.sync.as_str(),
                raw.sequential_ms,
                raw.pipelined_per_second,
                raw.batched_per_second
            );
        }
        let mut table = Table::new();
        table.load_style(UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header([
            "case",
            "checkouts/s (min, mid, max)",
            "start→session p50 / p99 ms",
            "start→settled p50 / p99 ms",
            "CPU ms",
            "messages",
            "commits",
            "peak MB",
        ]);
        for result in &self.cases {
            table.add_row(result.row());
        }
        text + &table.to_string()
    }
}

impl CaseResult {
    pub(super) fn of(case: &Case, mut runs: Vec<Run>) -> Self {
        runs.sort_by(|left, right| left.per_second.total_cmp(&right.per_second));
        Self { case: case.clone(), runs }
    }

    fn middle(&self) -> &Run {
        &self.runs[self.runs.len() / 2]
    }

    fn speeds(&self) -> String {
        let (first, last) = (&self.runs[0], &self.runs[self.runs.len() - 1]);
        format!("{:.0}  {:.0}  {:.0}", first.per_second, self.middle().per_second, last.per_second)
    }

    pub(super) fn line(&self) -> String {
        format!("{}: {} checkouts/s", self.case, self.speeds())
    }

    fn row(&self) -> Vec<String> {
        let run = self.middle();
        let case = &self.case;
        let times = |latency: &Latency| format!("{:.1} / {:.1}", latency.p50_ms, latency.p99_ms);
        vec![
            format!(
                "{} {}\nsync {}\n{} SKUs, {} workers",
                case.mode_word(),
                case.in_flight,
                case.sync.as_str(),
                case.skus,
                case.workers
            ),
            self.speeds(),
            times(&run.to_session),
            times(&run.to_settled),
            run.each(&run.cost.cpu_ms),
            run.each(&run.cost.messages),
            run.each(&run.cost.commits),
            run.cost.peak_memory_mb.iter().map(|(name, mb)| format!("{mb} {name}")).collect::<Vec<_>>().join("\n"),
        ]
    }
}

impl Run {
    fn new(window: Window, flights: &Flights, cost: Cost) -> anyhow::Result<Self> {
        let checkouts = flights.count();
        Ok(Self {
            per_second: per_second(usize::try_from(checkouts).context("count checkouts")?, window.length()),
            checkouts,
            to_session: flights.to_session(),
            to_settled: flights.to_settled(),
            cost,
            load: load(),
        })
    }

    /// What each part took per checkout, and all of them.
    fn each(&self, parts: &BTreeMap<String, u64>) -> String {
        let share = |count: u64| share(count, self.checkouts);
        let mut lines = vec![format!("{:.2}", share(parts.values().sum()))];
        lines.extend(
            parts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{:.2} {name}", share(*count))),
        );
        lines.join("\n")
    }
}

/// Keep so many checkouts in flight until the window is over, and measure what came of it and what it took.
pub(super) async fn measured<F, Flying>(stage: &Stage, window: Window, in_flight: u32, fly: F) -> anyhow::Result<Run>
where
    F: Fn(Arc<Flights>) -> Flying + Clone + Send + 'static,
    Flying: Future<Output = anyhow::Result<()>> + Send,
{
    let flights = Arc::new(Flights::new(window)?);
    let flying = try_join_all((0..in_flight).map(|_| {
        let (fly, flights) = (fly.clone(), Arc::clone(&flights));
        let customer = tokio::spawn(async move {
            while !window.is_over() {
                fly(Arc::clone(&flights)).await?;
            }
            anyhow::Ok(())
        });
        async move { customer.await.context("a customer broke off")? }
    }));
    let (cost, _) = tokio::try_join!(used_within(stage, window), flying)?;
    Run::new(window, &flights, cost)
}

/// What was used within the window.
async fn used_within(stage: &Stage, window: Window) -> anyhow::Result<Cost> {
    tokio::time::sleep_until(window.from()).await;
    let before = Meter::read(stage).await?;
    tokio::time::sleep_until(window.to()).await;
    let after = Meter::read(stage).await?;
    before.until(&after, stage)
}

#[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measured share, not money")]
fn share(count: u64, checkouts: u64) -> f64 {
    count as f64 / checkouts.max(1) as f64
}

/// The load of the last minute, as Linux tells.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
