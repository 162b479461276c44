//! One service of the shop as a process of its own, as its own binary would run it. Stories start and kill these.

use clap::{Parser, Subcommand};
use common::{
    nats::{NatsOptions, connect::connect},
    payment::PaymentOptions,
    service::{shutdown, telemetry},
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum Service {
    Worker {
        #[command(flatten)]
        nats: NatsOptions,
        #[command(flatten)]
        payment: PaymentOptions,
        #[command(flatten)]
        config: workflow_worker::Config,
    },
    Inventory {
        #[command(flatten)]
        nats: NatsOptions,
        #[command(flatten)]
        config: inventory_service::Config,
    },
    Gateway {
        #[command(flatten)]
        nats: NatsOptions,
        #[command(flatten)]
        payment: PaymentOptions,
        #[command(flatten)]
        config: gateway::Config,
    },
    Sandbox {
        #[command(flatten)]
        config: payment_sandbox::Config,
    },
    /// The whole shop in one process, nats-server included.
    Up {
        #[command(flatten)]
        args: Box<deploy::up::UpArgs>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry::init_logs();
    telemetry::init_metrics();
    let stop = shutdown::on_signal();
    match cli.service {
        Service::Worker { nats, payment, config } => {
            let nats = connect(&nats, workflow_worker::SERVICE).await?;
            workflow_worker::run(config, nats, payment.build()?, stop).await
        }
        Service::Inventory { nats, config } => {
            let nats = connect(&nats, "inventory-service").await?;
            inventory_service::run(config, nats, stop).await
        }
        Service::Gateway { nats, payment, config } => {
            let nats = connect(&nats, "gateway").await?;
            gateway::run(config, nats, payment.build()?, stop).await
        }
        Service::Sandbox { config } => payment_sandbox::run(config, stop).await,
        Service::Up { args } => deploy::up::up(*args, stop).await,
    }
}
