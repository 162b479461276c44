//! Every worker and the inventory service are killed while many checkouts are under way: how soon all of them go on, and that
//! nothing is done twice.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    OutputArgs,
    case::Case,
    engine::{AT_A_TIME, Driver},
    latency::in_ms,
    say,
    stage::Stage,
};
use crate::{doctor, service_process::Launcher};

#[derive(Debug, Clone, Args)]
pub(super) struct RecoveryArgs {
    /// How many wait for their payment when everything is killed; all are paid while nobody works.
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    waiting: u32,
    /// How many are in the middle of a step.
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=20_000))]
    mid_step: u32,
    #[command(flatten)]
    output: OutputArgs,
}

/// Times from the restart of one worker and the inventory service.
#[derive(Debug, Serialize)]
struct Figures {
    waiting: u32,
    mid_step: u32,
    /// Until the first of those that had waited was settled.
    first_settled_ms: f64,
    all_settled_ms: f64,
    /// Until the last of those in the middle of a step had its session.
    all_sessions_ms: f64,
    /// What the doctor found.
    findings: usize,
}

pub(super) async fn run(args: &RecoveryArgs, launcher: &Launcher) -> anyhow::Result<()> {
    let bar = ProgressBar::new(u64::from(args.waiting) * 2);
    let case = Case::engine(1);
    let mut stage = Stage::open(&case, launcher).await.context("open a shop")?;
    let driver = Driver::new(&stage).await?;
    say(&bar, &format!("{} checkouts begin to wait", args.waiting));
    let waiting = driver.until_all_wait(args.waiting, &bar).await?;

    say(&bar, &format!("{} more begin, and everything is killed", args.mid_step));
    let begun = try_join_all((0..args.mid_step).map(|_| driver.begin())).await?;
    stage.kill_workers_and_inventory();
    stream::iter(&waiting)
        .map(|checkout| driver.pay(checkout))
        .buffer_unordered(AT_A_TIME)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;

    say(&bar, "one worker and the inventory service are started again");
    let restarted = Instant::now();
    stage.start_workers_and_inventory()?;
    let settling = waiting.into_iter().map(|checkout| {
        let bar = bar.clone();
        tokio::spawn(async move {
            Driver::until_paid(checkout).await?;
            bar.inc(1);
            anyhow::Ok(restarted.elapsed())
        })
    });
    let opening = begun.into_iter().map(|checkout| async move {
        checkout.has_session().await?;
        anyhow::Ok(restarted.elapsed())
    });
    let (settled, opened) = tokio::try_join!(
        async {
            try_join_all(settling)
                .await
                .context("a customer broke off")?
                .into_iter()
                .collect::<anyhow::Result<Vec<_>>>()
        },
        try_join_all(opening)
    )?;
    let report = doctor::examine(&stage.nats, doctor::Options::default()).await.context("examine the streams")?;
    let findings = report.of(doctor::Severity::Broken).count();
    bar.finish_and_clear();
    stage.close().await;
    let ms = |span: Option<&Duration>| span.copied().map(in_ms).unwrap_or_default();
    let figures = Figures {
        waiting: args.waiting,
        mid_step: args.mid_step,
        first_settled_ms: ms(settled.iter().min()),
        all_settled_ms: ms(settled.iter().max()),
        all_sessions_ms: ms(opened.iter().max()),
        findings,
    };
    args.output.give(&figures, &figures.to_text())?;
    ensure!(findings == 0, "the doctor has found {findings} broken promises:\n{}", report.to_text());
    Ok(())
}

impl Figures {
    fn to_text(&self) -> String {
        format!(
            "{} checkouts waited and were paid while nobody worked, {} were in the middle of a step. After the restart of one \
             worker and the inventory service: the first was settled within {:.0} ms, all within {:.0} ms; the last session of \
             those in between was open within {:.0} ms. The doctor has {} findings: nothing was done twice, nothing is lost.",
            self.waiting,
            self.mid_step,
            self.first_settled_ms,
            self.all_settled_ms,
            self.all_sessions_ms,
            self.findings
        )
    }
}
