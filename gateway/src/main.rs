//! gateway: HTTP in, commands out.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use common::{
    nats::{NatsOptions, connect},
    payment::PaymentOptions,
    service::{exit_code, shutdown, telemetry},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The checkout's public API, its pages, and the door for payment webhooks.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    gateway: gateway::Config,
    #[command(flatten)]
    nats: NatsOptions,
    #[command(flatten)]
    payment: PaymentOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(&run(Options::parse()).await)
}

async fn run(options: Options) -> anyhow::Result<()> {
    telemetry::init_logs();
    telemetry::init_metrics();
    let provider = options.payment.build().context("set up the payment provider")?;
    let stop = shutdown::on_signal();
    let nats = connect::connect_when_reachable(&options.nats, "gateway").await?;
    gateway::run(options.gateway, nats.clone(), provider, stop).await?;
    nats.client.drain().await.context("drain the NATS connection")?;
    tracing::info!("stopped");
    Ok(())
}
