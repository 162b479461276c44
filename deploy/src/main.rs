//! The whole shop on one machine, and the operator's command line.

use std::process::ExitCode;

use clap::Parser as _;
use common::service::{shutdown, telemetry};
use deploy::{
    cli::{Cli, Command, run_accept_loss, run_bench, run_doctor, run_provision, run_service, run_torture},
    dead_letters, repair,
    replay::run_replay,
    up::up,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        None => {
            telemetry::init_logs();
            telemetry::init_metrics();
        }
        // A service sets up its own; the torture breaks connections on purpose, and its report says what came of it.
        Some(Command::Service(_) | Command::Torture(_) | Command::Bench(_)) => {}
        Some(_) => telemetry::init_quiet_logs(),
    }
    let outcome = match cli.command {
        None => up(cli.up, shutdown::on_signal()).await.map(|()| true),
        Some(Command::Provision(args)) => run_provision(&args).await.map(|()| true),
        Some(Command::Doctor(args)) => run_doctor(&args).await,
        Some(Command::DeadLetters(args)) => dead_letters::run(&args).await,
        Some(Command::Repair(args)) => repair::run(&args).await.map(|()| true),
        Some(Command::AcceptLoss(args)) => run_accept_loss(&args).map(|()| true),
        Some(Command::Torture(args)) => run_torture(&args).await,
        Some(Command::Bench(args)) => run_bench(&args).await.map(|()| true),
        Some(Command::Service(args)) => run_service(*args).await.map(|()| true),
        Some(Command::Replay(args)) => run_replay(&args).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
