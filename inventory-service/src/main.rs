//! inventory-service: take what waits, decide it, store it as one ledger entry, answer, ack.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use common::{
    nats::{NatsOptions, connect::connect_when_reachable},
    service::{
        exit_code,
        monitor::{MonitorOptions, run_with_monitor},
        shutdown, telemetry,
    },
};
use inventory_service::{Config, SERVICE};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keeps the ledger of stock: requests in, stock moved once, answers out.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    nats: NatsOptions,
    #[command(flatten)]
    inventory: Config,
    #[command(flatten)]
    monitor: MonitorOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(&run(Options::parse()).await)
}

async fn run(options: Options) -> anyhow::Result<()> {
    telemetry::init_logs();
    telemetry::init_metrics();
    tracing::info!(?options, "starting");

    let nats = connect_when_reachable(&options.nats, SERVICE).await?;
    let stop = shutdown::on_signal();
    let inventory = inventory_service::run(options.inventory, nats.clone(), stop.clone());
    run_with_monitor(&options.monitor, &nats, &stop, inventory).await.context("run the inventory service")?;

    nats.client.drain().await.context("drain the NATS connection")?;
    tracing::info!("stopped");
    Ok(())
}
