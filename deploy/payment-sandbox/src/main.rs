//! payment-sandbox: a payment provider to try the shop with.

use std::process::ExitCode;

use clap::Parser;
use common::service::{shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A payment provider to try the shop with: sessions, a payment page, signed webhooks, a fault script.
#[derive(Parser)]
#[command(name = "payment-sandbox", version)]
struct Program {
    #[command(flatten)]
    config: payment_sandbox::Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    let program = Program::parse();
    telemetry::init_logs();
    telemetry::init_metrics();
    match payment_sandbox::run(program.config, shutdown::on_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line for whoever started it: what failed, and why.
            eprintln!("payment-sandbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}
