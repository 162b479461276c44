//! The whole shop on one machine, and the operator's command line.

use std::process::ExitCode;

use clap::Parser as _;
use common::service::{shutdown, telemetry};
use deploy::{
    cli::{Cli, Command, run_doctor, run_provision},
    up::up,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.command.is_none() {
        telemetry::init_logs();
        telemetry::init_metrics();
    } else {
        telemetry::init_quiet_logs();
    }
    let outcome = match &cli.command {
        None => up(cli.up, shutdown::on_signal()).await.map(|()| true),
        Some(Command::Provision(args)) => run_provision(args).await.map(|()| true),
        Some(Command::Doctor(args)) => run_doctor(args).await,
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
