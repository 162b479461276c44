//! workflow-worker: take a command, replay its workflow, append what it causes, do the step it owes.

use anyhow::Context as _;
use clap::Parser;
use common::{
    nats::{NatsOptions, connect::connect},
    payment::PaymentOptions,
    service::{shutdown, telemetry},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry::init_logs();
    telemetry::init_metrics();
    let stop = shutdown::on_signal();

    let provider = cli.payment.build().context("set up the payment provider")?;
    let nats = connect(&cli.nats, workflow_worker::SERVICE).await?;
    workflow_worker::run(cli.worker, nats.clone(), provider, stop).await.context("run the workflow-worker")?;

    nats.client.drain().await.context("drain the NATS connection")?;
    tracing::info!("stopped");
    Ok(())
}
