//! workflow-worker: take a command, replay its workflow, append what it causes, do the step it owes.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use common::{
    nats::{NatsOptions, connect::connect_when_reachable},
    payment::PaymentOptions,
    service::{
        exit_code,
        monitor::{MonitorOptions, run_with_monitor},
        shutdown, telemetry,
    },
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Takes commands, webhooks and wake-up calls, and carries checkouts to their end. Start as many as you like: they
/// share the work, and what one that dies had begun comes to another.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    nats: NatsOptions,
    #[command(flatten)]
    payment: PaymentOptions,
    #[command(flatten)]
    worker: workflow_worker::Config,
    #[command(flatten)]
    monitor: MonitorOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(&run(Cli::parse()).await)
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    telemetry::init_logs();
    telemetry::init_metrics();
    let stop = shutdown::on_signal();

    let provider = cli.payment.build().context("set up the payment provider")?;
    let nats = connect_when_reachable(&cli.nats, workflow_worker::SERVICE).await?;
    let worker = workflow_worker::run(cli.worker, nats.clone(), provider, stop.clone());
    run_with_monitor(&cli.monitor, &nats, &stop, worker).await.context("run the workflow-worker")?;

    nats.client.drain().await.context("drain the NATS connection")?;
    tracing::info!("stopped");
    Ok(())
}
