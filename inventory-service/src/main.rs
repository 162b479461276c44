//! inventory-service: take what waits, decide it, store it as one ledger entry, answer, ack.

use anyhow::Context as _;
use clap::Parser;
use common::{
    nats::{NatsOptions, connect::connect},
    service::{shutdown, telemetry},
};
use inventory_service::{Config, SERVICE};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the ledger of stock: requests in, stock moved once, answers out.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    nats: NatsOptions,
    #[command(flatten)]
    inventory: Config,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    telemetry::init_logs();
    telemetry::init_metrics();
    tracing::info!(?options, "starting");

    let nats = connect(&options.nats, SERVICE).await?;
    let stop = shutdown::on_signal();
    inventory_service::run(options.inventory, nats.clone(), stop).await.context("run the inventory service")?;

    nats.client.drain().await.context("drain the NATS connection")?;
    tracing::info!("stopped");
    Ok(())
}
