//! The services of the shop, all in this process, each as it would run alone.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow};
use common::{nats::Nats, payment::PaymentOptions};
use gateway::Gateway;
use payment_sandbox::PaymentSandbox;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::UpArgs;
use crate::nats_server::NatsServer;

/// Services that run.
pub(super) struct Services {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    /// Stops what takes work in: the HTTP doors.
    doors: CancellationToken,
    /// Stops what carries work on.
    back: CancellationToken,
    shop: SocketAddr,
    payments: SocketAddr,
}

/// The settings of a service as its flags' defaults and variables say.
fn settings<T: clap::Args>() -> anyhow::Result<T> {
    let matches = T::augment_args(clap::Command::new("settings")).try_get_matches_from(["settings"])?;
    Ok(T::from_arg_matches(&matches)?)
}

/// Start them all; the ports are taken before any of them does anything.
pub(super) async fn start(args: &UpArgs, nats: &Nats, stop: CancellationToken) -> anyhow::Result<Services> {
    let (doors, back) = (stop.child_token(), CancellationToken::new());
    let sandbox = PaymentSandbox::open(payment_sandbox::Config {
        listen: args.payment_listen,
        data_dir: args.data_dir.join("payment-sandbox"),
        webhook_url: format!("http://{}/payment_webhook", args.listen),
        shop_url: Some(format!("http://{}", args.listen)),
        faults: args.payment_faults,
        ..settings()?
    })
    .await
    .context("open the payment sandbox")?;
    let payments = sandbox.address();

    let provider = PaymentOptions {
        payment_url: format!("http://{payments}"),
        shop_url: format!("http://{}", args.listen),
        ..settings()?
    }
    .build()
    .context("set up the payment provider")?;
    let gateway_config = gateway::Config {
        listen: args.listen,
        operator_token: Some(
            args.operator_token.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
        ),
        operator_token_file: None,
        high_water: super::high_water(args),
        ..settings()?
    };
    let gateway = Gateway::start(gateway_config, nats.clone(), provider.clone(), doors.clone())
        .await
        .context("open the gateway")?;
    let shop = gateway.address();

    let mut tasks = JoinSet::new();
    let config = inventory_service::Config { high_water: super::high_water(args), ..settings()? };
    let inventory = inventory_service::run(config, nats.clone(), back.clone());
    tasks.spawn(async move { ("inventory-service", inventory.await) });
    for _ in 0..args.workers {
        let config = workflow_worker::Config {
            payment_timeout: args.payment_timeout,
            high_water: super::high_water(args),
            ..settings()?
        };
        let worker = workflow_worker::run(config, nats.clone(), provider.clone(), back.clone());
        tasks.spawn(async move { ("workflow-worker", worker.await) });
    }
    let sandbox = sandbox.serve(doors.clone());
    tasks.spawn(async move { ("payment-sandbox", sandbox.await) });
    let gateway = gateway.serve();
    tasks.spawn(async move { ("gateway", gateway.await) });
    Ok(Services { tasks, doors, back, shop, payments })
}

impl Services {
    pub(super) fn shop_address(&self) -> SocketAddr {
        self.shop
    }

    pub(super) fn payment_address(&self) -> SocketAddr {
        self.payments
    }

    /// Run until asked to stop, or until one of them or the server ends by itself. Then stop in order: first the doors,
    /// then what carries work on.
    ///
    /// # Errors
    /// What went wrong, when one of them ended by itself.
    pub(super) async fn run(mut self, server: Option<&mut NatsServer>, stop: CancellationToken) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = self.tasks.join_next() => Err(ended_by_itself(ended)),
            ended = server_ended(server) => Err(ended),
        };
        self.doors.cancel();
        self.back.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((name, Err(error))) = ended {
                tracing::error!(service = name, error = format!("{error:#}"), "ended with an error");
            }
        }
        outcome
    }
}

fn ended_by_itself(ended: Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok((name, Err(error)))) => error.context(format!("the {name} has stopped by itself")),
        Some(Ok((name, Ok(())))) => anyhow!("the {name} has stopped by itself"),
        Some(Err(error)) => anyhow::Error::from(error).context("a service has crashed"),
        None => anyhow!("no service runs"),
    }
}

async fn server_ended(server: Option<&mut NatsServer>) -> anyhow::Error {
    match server {
        Some(server) => anyhow::Error::from(server.ended().await).context("nats-server has stopped by itself"),
        None => std::future::pending().await,
    }
}
