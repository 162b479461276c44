//! One service of the shop, or one of the operator's commands, as a process of its own. Stories start and kill these.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use common::{
    nats::{NatsOptions, connect::connect},
    service::telemetry,
    streams::{Durability, Placement},
};
use deploy::{
    catalogue::{read_catalogue, seed},
    hosting::{self, Hosted},
    provision::provision,
    replay::{ReplayArgs, run_replay},
    service_process::Launcher,
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(flatten)]
    Service(Box<Hosted>),
    /// Create the streams and fill the catalogue.
    Provision {
        #[command(flatten)]
        nats: NatsOptions,
        #[arg(long)]
        storage_bytes: u64,
    },
    /// Replay histories as the operator's command line does.
    Replay {
        #[command(flatten)]
        args: Box<ReplayArgs>,
    },
    /// The bench, whose services are this program.
    Bench {
        #[command(flatten)]
        args: Box<deploy::bench::BenchArgs>,
    },
    /// The operator's `repair` command.
    Repair {
        #[command(flatten)]
        args: Box<deploy::repair::RepairArgs>,
    },
    /// The operator's `dead-letters` command.
    DeadLetters {
        #[command(flatten)]
        args: Box<deploy::dead_letters::DeadLettersArgs>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().what {
        What::Service(hosted) => {
            // A worker that outlives its story writes into the next one whose server gets the same port.
            hosting::die_with_parent();
            hosting::run(*hosted).await?;
        }
        What::Provision { nats, storage_bytes } => {
            telemetry::init_logs();
            let nats = connect(&nats, "provision").await?;
            let placement = Placement {
                replicas: 1,
                storage_bytes,
                durability: Durability::SyncAlways,
                shards: common::shards::Shards::ONE,
            };
            provision(&nats, &placement).await?;
            seed(&nats, &read_catalogue(None)?).await?;
        }
        What::Replay { args } => {
            telemetry::init_quiet_logs();
            let is_as_it_was = run_replay(&args).await?;
            return Ok(if is_as_it_was { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        What::Bench { args } => {
            let binary = std::env::current_exe()?;
            deploy::bench::run(&args, &Launcher { binary, before: Vec::new() }).await?;
        }
        What::Repair { args } => {
            telemetry::init_quiet_logs();
            deploy::repair::run(&args).await?;
        }
        What::DeadLetters { args } => {
            telemetry::init_quiet_logs();
            let all_done = deploy::dead_letters::run(&args).await?;
            return Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}
