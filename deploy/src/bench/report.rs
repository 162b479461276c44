//! The figures, for eyes and for programs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL};
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    case::{Case, Load},
    cost::{Cost, Meter},
    flight::{Flights, Window},
    fsyncs::Counting,
    latency::Latency,
    milestones::STAGES,
    open_loop::come_at_a_rate,
    raw::{Raw, per_second},
    stage::Stage,
};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// When, and on what.
    machine: Machine,
    pub(super) raw: Vec<Raw>,
    /// Where the time of a checkout goes.
    stages: [&'static str; STAGES.len()],
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
    pub(super) per_second: f64,
    checkouts: u64,
    to_session: Latency,
    to_settled: Latency,
    /// The mean time of each stage, in milliseconds; their names are in the report.
    stages_ms: [f64; STAGES.len()],
    cost: Cost,
    load: String,
    /// How often the server synced a file, where that was counted.
    fsyncs: Option<u64>,
}

/// One case, measured several times.
#[derive(Debug, Serialize)]
pub(super) struct CaseResult {
    pub(super) case: Case,
    /// From the slowest to the fastest.
    runs: Vec<Run>,
    /// Files that the server synced for each checkout, counted in a run of its own.
    pub(super) fsyncs_per_checkout: Option<f64>,
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
        Self { machine, raw: Vec::new(), stages: STAGES, cases: Vec::new() }
    }

    pub(super) fn to_text(&self) -> String {
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
            "messages in a batch",
            "fsyncs",
            "histories",
            "peak MB",
        ]);
        for result in &self.cases {
            table.add_row(result.row());
        }
        self.raw_text() + &table.to_string()
    }

    /// The machine, and what JetStream does on it.
    pub(super) fn raw_text(&self) -> String {
        let Machine { processors, load_before, is_release_build, .. } = &self.machine;
        let mut text = format!("{processors} processors, load before {load_before}\n");
        if !is_release_build {
            text += "THIS IS A DEBUG BUILD: its figures say nothing; use `cargo run --release`\n";
        }
        for raw in &self.raw {
            text += &raw.to_text();
        }
        text
    }
}

impl CaseResult {
    pub(super) fn of(case: &Case, mut runs: Vec<Run>) -> Self {
        runs.sort_by(|left, right| left.per_second.total_cmp(&right.per_second));
        Self { case: case.clone(), runs, fsyncs_per_checkout: None }
    }

    pub(super) fn middle(&self) -> &Run {
        &self.runs[self.runs.len() / 2]
    }

    fn speeds(&self) -> String {
        let (first, last) = (&self.runs[0], &self.runs[self.runs.len() - 1]);
        format!("{:.0}  {:.0}  {:.0}", first.per_second, self.middle().per_second, last.per_second)
    }

    fn row(&self) -> Vec<String> {
        let run = self.middle();
        let case = &self.case;
        let times = |latency: &Latency| format!("{:.1} / {:.1}", latency.p50_ms, latency.p99_ms);
        vec![
            format!(
                "{} {}\nsync {}\n{}",
                case.mode_word(),
                case.load,
                case.sync.as_str(),
                case.shop().replace(", ", "\n")
            ),
            self.speeds(),
            times(&run.to_session),
            times(&run.to_settled),
            run.each(&run.cost.cpu_ms),
            run.each(&run.cost.messages),
            run.each(&run.cost.commits),
            run.batch_sizes(),
            self.fsyncs_per_checkout.map_or_else(|| "–".to_owned(), |count| format!("{count:.2}")),
            run.each(&run.cost.histories),
            run.cost.peak_memory_mb.iter().map(|(name, mb)| format!("{mb} {name}")).collect::<Vec<_>>().join("\n"),
        ]
    }
}

impl Run {
    fn new(window: Window, flights: &Flights, used: Used) -> anyhow::Result<Self> {
        let checkouts = flights.count();
        Ok(Self {
            per_second: per_second(usize::try_from(checkouts).context("count checkouts")?, window.length()),
            checkouts,
            to_session: flights.to_session(),
            to_settled: flights.to_settled(),
            stages_ms: flights.stages_ms(),
            cost: used.cost,
            load: load(),
            fsyncs: used.fsyncs,
        })
    }

    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }

    pub(super) fn to_session(&self) -> &Latency {
        &self.to_session
    }

    pub(super) fn stages_ms(&self) -> [f64; STAGES.len()] {
        self.stages_ms
    }

    /// Files that the server synced for each checkout, where that was counted.
    fn batch_sizes(&self) -> String {
        let size = |(stream, messages): (&String, &u64)| {
            let batches =
                self.cost.commits.get(&format!("{stream} batches")).copied().filter(|batches| *batches > 0)?;
            Some(format!("{} {stream}", messages / batches))
        };
        self.cost.in_batches.iter().filter_map(size).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn fsyncs_per_checkout(&self) -> Option<f64> {
        self.fsyncs.map(|count| share(count, self.checkouts))
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

/// How a run is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measuring {
    /// How long is driven before.
    pub(super) warm_up: Duration,
    /// How long is measured.
    pub(super) measure: Duration,
    /// Whether the server's syncs are counted, which slows it down.
    pub(super) counts_fsyncs: bool,
}

/// Drive checkouts until the window is over, and measure what came of it and what it took. `fly` is told when its checkout was
/// to start.
pub(super) async fn measured<F, Flying>(stage: &Stage, load: Load, measuring: Measuring, fly: F) -> anyhow::Result<Run>
where
    F: Fn(Arc<Flights>, Instant) -> Flying + Clone + Send + 'static,
    Flying: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let window = Window::after(measuring.warm_up, measuring.measure);
    let flights = Arc::new(Flights::new(window)?);
    let flying = async {
        match load {
            Load::InFlight(count) => keep_in_flight(count, window, &flights, fly).await,
            Load::PerSecond(rate) => {
                let flights = Arc::clone(&flights);
                let come = move |due| fly(Arc::clone(&flights), due);
                come_at_a_rate(rate, window.to(), come).await?.has_left().await
            }
        }
    };
    let (used, ()) = tokio::try_join!(used_within(stage, window, measuring.counts_fsyncs), flying)?;
    Run::new(window, &flights, used)
}

async fn keep_in_flight<F, Flying>(count: u32, window: Window, flights: &Arc<Flights>, fly: F) -> anyhow::Result<()>
where
    F: Fn(Arc<Flights>, Instant) -> Flying + Clone + Send + 'static,
    Flying: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let customers = (0..count).map(|_| {
        let (fly, flights) = (fly.clone(), Arc::clone(flights));
        let customer = tokio::spawn(async move {
            while !window.is_over() {
                fly(Arc::clone(&flights), Instant::now()).await?;
            }
            anyhow::Ok(())
        });
        async move { customer.await.context("a customer broke off")? }
    });
    try_join_all(customers).await?;
    Ok(())
}

/// What was used within the window.
struct Used {
    cost: Cost,
    fsyncs: Option<u64>,
}

async fn used_within(stage: &Stage, window: Window, counts_fsyncs: bool) -> anyhow::Result<Used> {
    tokio::time::sleep_until(window.from()).await;
    let counting = match stage.server_pid().filter(|_| counts_fsyncs) {
        Some(pid) => Some(Counting::begin(pid).await?),
        None => None,
    };
    let before = Meter::read(stage).await?;
    tokio::time::sleep_until(window.to()).await;
    let after = Meter::read(stage).await?;
    let fsyncs = match counting {
        Some(counting) => Some(counting.end().await?),
        None => None,
    };
    Ok(Used { cost: before.until(&after, stage)?, fsyncs })
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
