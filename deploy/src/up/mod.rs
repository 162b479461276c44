//! The whole shop in one process, on one machine: what `cargo run` does.

mod banner;
mod progress;
mod services;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use common::{
    high_water::{HighWater, HighWaterOptions},
    nats::{Nats, NatsOptions, connect::connect},
    streams::{Durability, Placement, StreamName},
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalogue,
    nats_server::{
        ClientPort, FindOptions, NatsServer, NatsSource, ServerConfig, StartOptions, find_or_install, require_recent,
    },
    provision::{ask_monitoring, provision, shards_there},
};
use progress::Progress;

// The text of `--help` is the command's own, so there is no doc comment here.
#[allow(missing_docs, reason = "clap would show it as the first line of --help")]
#[derive(Debug, Clone, clap::Args)]
pub struct UpArgs {
    /// Where the shop is served.
    #[arg(long, env = "CHECKOUT_LISTEN", default_value = "127.0.0.1:8082", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Where the payment sandbox is served.
    #[arg(long, env = "CHECKOUT_PAYMENT_LISTEN", default_value = "127.0.0.1:8086", value_name = "ADDRESS:PORT")]
    pub payment_listen: SocketAddr,
    /// Where nats-server listens; without it 4222, or another port when that is taken.
    #[arg(long, env = "CHECKOUT_NATS_PORT", value_name = "PORT")]
    pub nats_port: Option<u16>,
    /// Where everything is kept; a restart with the same folder goes on where it was.
    #[arg(long, env = "CHECKOUT_DATA_DIR", default_value = ".local", value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// How long a customer has to pay, such as 120s or 30m, 1 s to 7 days.
    #[arg(long, env = "CHECKOUT_PAYMENT_TIMEOUT", default_value = "120s", value_name = "TIME", value_parser = workflow_worker::config::parse_payment_timeout)]
    pub payment_timeout: Duration,
    /// How many workers run, from 1 to 64.
    #[arg(long, env = "CHECKOUT_WORKERS", default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// What the shop sells: a CSV file with the columns sku, name, description, price, currency, picture, stock.
    #[arg(long, env = "CHECKOUT_CATALOGUE", value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// Use this NATS server instead of starting one.
    #[arg(long, env = "NATS_URL", value_name = "URL")]
    pub nats_url: Option<String>,
    /// Where that server's monitoring answers, to see whether it syncs every write.
    #[arg(long, env = "NATS_MONITORING_URL", default_value = "http://127.0.0.1:8222", value_name = "URL")]
    pub nats_monitoring_url: String,
    /// Allow payment faults to be switched on in the sandbox, for tests.
    #[arg(long, env = "CHECKOUT_PAYMENT_FAULTS")]
    pub payment_faults: bool,
    /// The token that restocks, refunds and the operator pages need; with several people `alice:TOKEN,bob:TOKEN`.
    #[arg(
        long,
        env = "CHECKOUT_OPERATOR_TOKEN",
        hide_env_values = true,
        default_value = "let-me-operate",
        value_name = "TOKENS"
    )]
    pub operator_token: String,
}

/// Everything that was started and must be stopped in order.
struct Running {
    server: Option<NatsServer>,
    nats: Nats,
}

/// Part of the server's storage that the streams may take together; the rest is for what the server needs itself.
const PERCENT_FOR_STREAMS: u64 = 90;

/// Bring the shop up, say where everything is, and run it until asked to stop.
///
/// # Errors
/// When something it needs is not to be had (the message says what and what to do), or a service cannot go on.
pub async fn up(args: UpArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let progress = Progress::start();
    let articles = catalogue::read_catalogue(args.catalogue.as_deref())?;
    make_data_dir(&args.data_dir)?;

    let (mut running, monitoring_url) = reach_nats(&args, &progress).await?;
    let outcome =
        run_shop(&args, &running.nats, &monitoring_url, &articles, &progress, running.server.as_mut(), stop).await;

    // The services have stopped; what they left to send is sent before the server goes.
    if let Err(error) = running.nats.client.drain().await {
        tracing::debug!(%error, "could not drain the NATS connection");
    }
    if let Some(server) = running.server.as_mut() {
        server.stop().await.context("stop nats-server")?;
    }
    if outcome.is_ok() {
        progress.say("Stopped. Everything is kept; the next start goes on from here.");
    }
    outcome
}

fn make_data_dir(dir: &std::path::Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)
        .with_context(|| format!("create the data folder {}: choose another with --data-dir", dir.display()))?;
    tempfile::tempfile_in(dir)
        .map(|_| ())
        .with_context(|| format!("write into the data folder {}: choose another with --data-dir", dir.display()))
}

async fn reach_nats(args: &UpArgs, progress: &Progress) -> anyhow::Result<(Running, String)> {
    let (server, url, monitoring_url) = match NatsSource::from_url(args.nats_url.as_deref()) {
        NatsSource::Running { url } => {
            progress.step(&format!("using the NATS server at {url}"));
            (None, url, args.nats_monitoring_url.clone())
        }
        NatsSource::StartOurs => {
            let server = start_server(args, progress).await?;
            let (url, monitoring_url) = (server.client_url(), server.monitoring_url());
            (Some(server), url, monitoring_url)
        }
    };
    let options = NatsOptions { nats_url: url.clone(), nats_creds: None };
    let nats = connect(&options, "checkout").await?;
    require_recent(&url, &nats.client.server_info().version)?;
    Ok((Running { server, nats }, monitoring_url))
}

async fn start_server(args: &UpArgs, progress: &Progress) -> anyhow::Result<NatsServer> {
    let dir = args.data_dir.join("nats");
    progress.step("looking for nats-server");
    let found = find_or_install(&FindOptions::from_environment(Some(&dir)), &|line| progress.step(line)).await?;
    let port = args.nats_port.map_or(ClientPort::Preferably(DEFAULT_NATS_PORT), ClientPort::Exactly);
    let config = ServerConfig::for_one_machine(&dir, port)?;
    progress.step("starting nats-server");
    let server = NatsServer::start(StartOptions::new(found.path, config)).await?;
    let actual = server.client_address().port();
    if args.nats_port.is_none() && actual != DEFAULT_NATS_PORT {
        progress.say(&format!(
            "Port {DEFAULT_NATS_PORT} is taken: nats-server listens on {actual} (use `nats -s {}`).",
            server.client_url()
        ));
    }
    Ok(server)
}

/// Where the `nats` command looks when it is told nothing.
const DEFAULT_NATS_PORT: u16 = 4222;

/// The streams that the services keep high-water marks of.
const MARKED: [StreamName; 4] =
    [StreamName::History, StreamName::Inventory, StreamName::Commands, StreamName::Webhooks];

/// Beside the server's folder, so that the marks survive when that is lost or restored.
fn high_water(args: &UpArgs) -> HighWaterOptions {
    HighWaterOptions { high_water_dir: Some(args.data_dir.join("high-water")) }
}

async fn run_shop(
    args: &UpArgs,
    nats: &Nats,
    monitoring_url: &str,
    articles: &[catalogue::CatalogueLine],
    progress: &Progress,
    mut server: Option<&mut NatsServer>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    progress.step("provisioning the streams");
    let (durability, storage) = ask_monitoring(monitoring_url)
        .await
        .context("see whether the server syncs every write (name its monitoring port with --nats-monitoring-url)")?;
    if durability != Durability::SyncAlways {
        bail!(
            "this NATS server does not sync every write, so a power cut would lose accepted orders: set \
             `sync_interval: always` in the jetstream section of its configuration and restart it"
        );
    }
    let shards = shards_there(nats).await;
    let placement = Placement { replicas: 1, storage_bytes: storage / 100 * PERCENT_FOR_STREAMS, durability, shards };
    provision(nats, &placement).await?;
    if let Some(server) = server.as_deref_mut()
        && let Err(error) = server.stage_batches_in_memory().await
    {
        tracing::info!(%error, "nats-server stages batches on disk, which takes longer");
    }
    // Before anything is written: what is restored or damaged must not be built upon.
    HighWater::check(&high_water(args), nats, &shards.all_streams(&MARKED)).await?;
    let new = catalogue::seed(nats, articles).await?;
    if new > 0 {
        progress.step(&format!("put {new} articles into the catalogue"));
    }

    progress.step("starting the services");
    let services = services::start(args, nats, stop.clone()).await?;
    progress.finish();
    banner::print(args, nats, &services);
    services.run(server, stop).await
}
