//! More starts than the machine can do: what comes through, how long it takes, what is refused and how soon, and how much
//! memory everything takes. Whatever was accepted is paid and must settle.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL};
use indicatif::ProgressBar;
use reqwest::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    OutputArgs,
    case::{Case, Load},
    cost::peak_memory,
    http::{Customers, Offered},
    latency::{Latency, Times, in_ms},
    milestones::{Milestones, Told},
    open_loop::come_at_a_rate,
    raw::per_second,
    say,
    stage::Stage,
};
use crate::service_process::Launcher;

/// Longer than what was accepted takes to settle once nothing new comes.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Args)]
pub(super) struct OverloadArgs {
    /// How many customers come in each second, one after another; two cores serve about a thousand.
    #[arg(long, value_delimiter = ',', default_values_t = [400, 800, 1_600, 3_200], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: Vec<u32>,
    /// How many starts may wait at the gateway (its `--max-waiting`). What a machine serves in half a second is a good number:
    /// it bounds how long those wait that are accepted.
    #[arg(long, default_value_t = 512, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    max_waiting: u32,
    /// How long they come.
    #[arg(long, default_value = "8s", value_name = "TIME", value_parser = common::time::parse_duration)]
    measure: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

/// What came of one rate.
#[derive(Debug, Serialize)]
struct Figures {
    rate: u32,
    came: u64,
    accepted: u64,
    /// 503 with `Retry-After`.
    shed: u64,
    accepted_per_second: f64,
    /// From when the customer came to the payment link.
    accepted_p50_ms: f64,
    accepted_p99_ms: f64,
    /// From when the customer came to the refusal.
    shed_p99_ms: f64,
    /// After the last customer, until everything that was accepted was settled.
    settled_after_ms: f64,
    peak_memory_mb: BTreeMap<String, u64>,
}

pub(super) async fn run(args: &OverloadArgs, launcher: &Launcher) -> anyhow::Result<()> {
    let bar = ProgressBar::new(args.rate.len().try_into().unwrap_or(u64::MAX));
    let mut all = Vec::new();
    for &rate in &args.rate {
        say(&bar, &format!("{rate} customers a second, at most {} starts wait", args.max_waiting));
        let case = Case { max_waiting: Some(args.max_waiting), ..Case::http(Load::PerSecond(rate)) };
        let stage = Stage::open(&case, launcher).await.context("open a shop")?;
        let figures = overload(&stage, rate, args.measure).await;
        all.push(figures.with_context(|| format!("{rate} a second; logs are in {}", stage.log_dir().display()))?);
        stage.close().await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    args.output.give(&all, &to_text(&all))
}

async fn overload(stage: &Stage, rate: u32, measure: Duration) -> anyhow::Result<Figures> {
    let customers = Customers::of(stage, Milestones::listen(stage).await?)?;
    let counter = Arc::new(Counter { customers, accepted: Answers::new()?, shed: Answers::new()? });
    let come = |due| {
        let counter = Arc::clone(&counter);
        async move { counter.come(due).await }
    };
    let mut crowd = come_at_a_rate(rate, Instant::now() + measure, come).await?;
    let last_came = Instant::now();
    let settled = tokio::time::timeout(SETTLE_WITHIN, crowd.has_left()).await;
    settled.context("not everything that was accepted was settled")??;
    let (accepted, accepted_within) = counter.accepted.all();
    let (shed, shed_within) = counter.shed.all();
    let came = crowd.came;
    ensure!(accepted + shed == came, "every customer was answered: {accepted} accepted and {shed} shed of {came}");
    Ok(Figures {
        rate,
        came,
        accepted,
        shed,
        accepted_per_second: per_second(accepted.try_into()?, measure),
        accepted_p50_ms: accepted_within.p50_ms,
        accepted_p99_ms: accepted_within.p99_ms,
        shed_p99_ms: shed_within.p99_ms,
        settled_after_ms: in_ms(last_came.elapsed()),
        peak_memory_mb: peak_memory(stage)?,
    })
}

/// Counts what customers are answered.
struct Counter {
    customers: Customers,
    accepted: Answers,
    shed: Answers,
}

/// What customers were answered who were answered alike: how long it took each since they came.
struct Answers(Mutex<Times>);

impl Answers {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(Mutex::new(Times::new()?)))
    }

    fn note(&self, came: Instant) {
        self.lock().note(came.elapsed());
    }

    /// How many there were, and how long they took.
    fn all(&self) -> (u64, Latency) {
        let times = self.lock();
        (times.count(), times.latency())
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    async fn come(&self, due: Instant) -> anyhow::Result<()> {
        let answer = self.customers.start(self.customers.next()).await?;
        match answer.status() {
            StatusCode::CREATED => {
                self.accepted.note(due);
                self.buy(&Offered::read(answer).await?).await
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                self.shed.note(due);
                ensure!(answer.headers().contains_key("retry-after"), "a refusal says when to come again");
                Ok(())
            }
            other => bail!("a start was answered {other}: {}", answer.text().await.unwrap_or_default()),
        }
    }

    async fn buy(&self, checkout: &Offered) -> anyhow::Result<()> {
        let id = checkout.id;
        let mut told = self.customers.milestones.follow(id);
        self.customers.pay(checkout).await?;
        loop {
            match told.recv().await.context("nobody tells")? {
                Told::Settled => break,
                // The payment page was open before the driver listened for this checkout, or just after.
                Told::Session(_) => {}
                Told::Otherwise(status) => bail!("checkout {id} was to be paid, but it is {status}"),
            }
        }
        self.customers.milestones.take(id);
        Ok(())
    }
}

fn to_text(all: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL);
    table.set_header([
        "customers/s",
        "accepted/s",
        "payment link p50 / p99 ms",
        "shed",
        "refusal p99 ms",
        "all settled after ms",
        "peak MB",
    ]);
    for figures in all {
        let memory: Vec<String> = figures.peak_memory_mb.iter().map(|(name, mb)| format!("{mb} {name}")).collect();
        table.add_row([
            figures.rate.to_string(),
            format!("{:.0}", figures.accepted_per_second),
            format!("{:.0} / {:.0}", figures.accepted_p50_ms, figures.accepted_p99_ms),
            format!("{} of {}", figures.shed, figures.came),
            if figures.shed == 0 { "–".to_owned() } else { format!("{:.0}", figures.shed_p99_ms) },
            format!("{:.0}", figures.settled_after_ms),
            memory.join("\n"),
        ]);
    }
    table.to_string()
}
