//! The command line: the whole shop without a subcommand, and the operator's commands.

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use common::{
    nats::{Nats, NatsOptions, connect::connect},
    shards::Shards,
    streams::{Durability, Placement},
};

use crate::{
    accept_loss::{AcceptLossArgs, accept_loss},
    bench::{self, BenchArgs},
    dead_letters::DeadLettersArgs,
    doctor,
    hosting::{self, Hosted},
    output::{print_json, print_text},
    provision::{Provisioned, ask_monitoring, provision, shards_there},
    repair::RepairArgs,
    replay::ReplayArgs,
    service_process::Launcher,
    torture::{self, TortureArgs},
    up::UpArgs,
};

/// A checkout that never charges twice and never loses stock.
///
/// Without a command it brings up the whole shop on this machine: nats-server, all services and a payment sandbox. It
/// keeps its data, so that the next start goes on where it was, whatever happened in between.
#[derive(Debug, Parser)]
#[command(name = "checkout", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of bringing up the shop.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to bring up the shop.
    #[command(flatten)]
    pub up: UpArgs,
}

/// The operator's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the streams and consumers on a NATS server, or bring them in line. Running it again changes nothing.
    Provision(ProvisionArgs),
    /// Read the streams and prove or refute the promises: never charged twice, never without goods, stock adds up,
    /// every checkout decided. Exit code 1 when something is broken.
    Doctor(DoctorArgs),
    /// Messages that could not be handled: list them, look at one, send it again when the cause is mended, or lay it aside.
    DeadLetters(DeadLettersArgs),
    /// Bring a checkout to its end that no worker may touch, because its history is lost or damaged: close its session at the
    /// provider, then give its goods back, or sell them when it is paid.
    Repair(Box<RepairArgs>),
    /// Run stored histories through this build, before it is deployed: it must make of each what was recorded. Prints one
    /// hash over all of them, to compare two builds. Exit code 1 when a history diverges.
    Replay(ReplayArgs),
    /// After a service has refused to run on a stream that is shorter than it was: let the stream count as it is now. What it
    /// has lost stays lost; restore it from a backup instead if you can, and ask the doctor afterwards.
    AcceptLoss(AcceptLossArgs),
    /// Start a shop of its own, send it thousands of customers, kill, freeze, cut off and confuse everything meanwhile,
    /// and prove that no promise was broken. Exit code 1 when one was.
    Torture(TortureArgs),
    /// Measure how fast it is: checkouts per second and their times, with what explains them. Give it a release build and a
    /// machine of its own.
    Bench(Box<BenchArgs>),
    /// Run one service in this process, for the torture and the bench.
    #[command(hide = true)]
    Service(Box<ServiceArgs>),
}

/// Which service.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    #[command(subcommand)]
    hosted: Hosted,
}

/// Where and how to provision.
#[derive(Debug, Args)]
pub struct ProvisionArgs {
    #[command(flatten)]
    nats: NatsOptions,
    /// Where the server's monitoring answers, to see whether it syncs every write and how much it may store.
    #[arg(long, env = "NATS_MONITORING_URL", default_value = "http://127.0.0.1:8222", value_name = "URL")]
    nats_monitoring_url: String,
    /// How many servers keep each stream: 1 on one machine, 3 in a cluster.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Bytes for all streams together; without it nine tenths of what the server may store.
    #[arg(long, value_name = "BYTES")]
    storage_bytes: Option<u64>,
    /// In how many streams histories, and commands, are spread, 1 to 64. Decided once; without it what there is stays.
    #[arg(long, env = "CHECKOUT_SHARDS", value_name = "NUMBER")]
    shards: Option<Shards>,
    /// Provision a server that does not sync every write. For throw-away tests: a power cut loses orders.
    #[arg(long)]
    allow_unsynced: bool,
}

/// What to examine.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    nats: NatsOptions,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Provision and say what was done.
///
/// # Errors
/// When the server cannot be asked, does not sync every write, or holds streams that differ.
pub async fn run_provision(args: &ProvisionArgs) -> anyhow::Result<()> {
    let nats = connect(&args.nats, "provision").await?;
    let (durability, storage) = ask_monitoring(&args.nats_monitoring_url).await?;
    anyhow::ensure!(
        durability == Durability::SyncAlways || args.allow_unsynced,
        "this server does not sync every write, so a power cut would lose accepted orders: set `sync_interval: always` in \
         the jetstream section of its configuration and restart it (throw-away tests: --allow-unsynced)"
    );
    let storage_bytes = args.storage_bytes.unwrap_or(storage / 10 * 9);
    let shards = match args.shards {
        Some(wanted) => wanted,
        None => shards_there(&nats).await,
    };
    let placement = Placement { replicas: args.replicas.into(), storage_bytes, durability, shards };
    for done in provision(&nats, &placement).await? {
        match done {
            Provisioned::Created(name) => println!("created    {name}"),
            Provisioned::Updated(name) => println!("updated    {name}"),
            Provisioned::Unchanged(name) => println!("unchanged  {name}"),
        }
    }
    drain(&nats).await;
    Ok(())
}

/// Run one service that ends with whoever has started it.
///
/// # Errors
/// What the service ends with when it cannot go on.
pub async fn run_service(args: ServiceArgs) -> anyhow::Result<()> {
    hosting::die_with_parent();
    hosting::run(args.hosted).await
}

/// Torture a shop and report; `false` when a promise was broken.
///
/// # Errors
/// When the shop cannot be brought up or what is left cannot be read.
pub async fn run_torture(args: &TortureArgs) -> anyhow::Result<bool> {
    let outcome = torture::run(args, &launcher()?).await?;
    if args.json {
        print_json(&outcome)?;
    } else {
        print_text(&outcome.to_text());
    }
    Ok(outcome.is_good())
}

/// Measure and report.
///
/// # Errors
/// When a shop cannot be brought up, or a checkout goes another way than it must.
pub async fn run_bench(args: &BenchArgs) -> anyhow::Result<()> {
    bench::run(args, &launcher()?).await
}

/// This program starts services as processes of itself.
fn launcher() -> anyhow::Result<Launcher> {
    let binary = std::env::current_exe().context("find this program, to start services with it")?;
    Ok(Launcher { binary, before: vec!["service".into()] })
}

/// Examine and report; `false` when something is broken.
///
/// # Errors
/// When the streams cannot be read.
pub async fn run_doctor(args: &DoctorArgs) -> anyhow::Result<bool> {
    let nats = connect(&args.nats, "doctor").await?.with_shards().await?;
    let report = doctor::examine(&nats, doctor::Options { progress: true, ..doctor::Options::default() }).await?;
    if args.json {
        print_json(&report)?
    } else {
        print_text(&report.to_text())
    }
    drain(&nats).await;
    Ok(report.is_healthy())
}

/// Accept losses and say what was accepted.
///
/// # Errors
/// When a stream has no mark in the folder, or a mark cannot be put aside.
pub fn run_accept_loss(args: &AcceptLossArgs) -> anyhow::Result<()> {
    for line in accept_loss(args)? {
        println!("{line}");
    }
    println!("Start the services again, and let `doctor` tell what is missing.");
    Ok(())
}

async fn drain(nats: &Nats) {
    if let Err(error) = nats.client.drain().await {
        tracing::debug!(%error, "could not drain the NATS connection");
    }
}
