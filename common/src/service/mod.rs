//! What every service does the same way: start, be watched, serve HTTP, stop.

pub mod http;
mod metric_help;
pub mod monitor;
pub mod open_files;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

/// What a process ends with: success, or 1 after one line that says what went wrong, cause by cause.
#[must_use]
pub fn exit_code(outcome: &anyhow::Result<()>) -> std::process::ExitCode {
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
