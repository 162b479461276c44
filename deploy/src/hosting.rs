//! One service of the shop as a process of its own, as its own binary would run it: for whoever starts and kills them,
//! the stories and the torture.

use std::sync::Arc;

use common::{
    nats::{NatsOptions, connect::connect_when_reachable},
    payment::PaymentOptions,
    service::{
        monitor::{MonitorOptions, run_with_monitor},
        shutdown, telemetry,
    },
};

use crate::{
    bench::provider::InstantProvider,
    up::{UpArgs, up},
};

/// Which service runs, and with which settings.
#[derive(Debug, clap::Subcommand)]
pub enum Hosted {
    /// A workflow-worker.
    Worker {
        /// Where NATS is.
        #[command(flatten)]
        nats: NatsOptions,
        /// Who takes the money.
        #[command(flatten)]
        payment: PaymentOptions,
        /// The worker's own settings.
        #[command(flatten)]
        config: workflow_worker::Config,
        /// Where it tells what it has counted.
        #[command(flatten)]
        monitor: MonitorOptions,
        /// Have a provider inside the worker that answers at once, for a measurement.
        #[arg(long, hide = true)]
        instant_provider: bool,
    },
    /// An inventory service.
    Inventory {
        /// Where NATS is.
        #[command(flatten)]
        nats: NatsOptions,
        /// The inventory's own settings.
        #[command(flatten)]
        config: inventory_service::Config,
        /// Where it tells what it has counted.
        #[command(flatten)]
        monitor: MonitorOptions,
    },
    /// A gateway.
    Gateway {
        /// Where NATS is.
        #[command(flatten)]
        nats: NatsOptions,
        /// Who takes the money.
        #[command(flatten)]
        payment: PaymentOptions,
        /// The gateway's own settings.
        #[command(flatten)]
        config: gateway::Config,
    },
    /// The payment sandbox.
    Sandbox {
        /// The sandbox's settings.
        #[command(flatten)]
        config: payment_sandbox::Config,
    },
    /// The whole shop in one process, nats-server included.
    Up {
        /// As for `cargo run` without a command.
        #[command(flatten)]
        args: Box<UpArgs>,
    },
}

/// Run it until it is asked to stop by a signal.
///
/// # Errors
/// What the service ends with when it cannot go on.
pub async fn run(hosted: Hosted) -> anyhow::Result<()> {
    telemetry::init_logs();
    telemetry::init_metrics();
    let stop = shutdown::on_signal();
    match hosted {
        Hosted::Worker { nats, payment, config, monitor, instant_provider } => {
            let nats = connect_when_reachable(&nats, workflow_worker::SERVICE).await?;
            let provider = if instant_provider { Arc::new(InstantProvider) } else { payment.build()? };
            let worker = workflow_worker::run(config, nats.clone(), provider, stop.clone());
            run_with_monitor(&monitor, &nats, &stop, worker).await
        }
        Hosted::Inventory { nats, config, monitor } => {
            let nats = connect_when_reachable(&nats, inventory_service::SERVICE).await?;
            let inventory = inventory_service::run(config, nats.clone(), stop.clone());
            run_with_monitor(&monitor, &nats, &stop, inventory).await
        }
        Hosted::Gateway { nats, payment, config } => {
            let nats = connect_when_reachable(&nats, "gateway").await?;
            gateway::run(config, nats, payment.build()?, stop).await
        }
        Hosted::Sandbox { config } => payment_sandbox::run(config, stop).await,
        Hosted::Up { args } => up(*args, stop).await,
    }
}

/// Let the kernel kill this process when the one that has started it ends, however it ends: a torture run that is killed
/// leaves nothing behind, not even what it has frozen. Only Linux can do that; elsewhere nothing happens.
pub fn die_with_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
        tracing::warn!(%error, "this process will not end with the one that has started it");
    }
}
