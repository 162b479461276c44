//! Runs a program that is expected to end, with a time limit and an answer that reads well in a list of attempts.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Runs `program` in `folder` and returns what it printed.
///
/// The error is one line for people: not installed, failed with its last line, or took too long.
pub(super) async fn run<A: AsRef<OsStr>>(
    program: &OsStr,
    arguments: &[A],
    folder: &Path,
    environment: &[(&str, &OsStr)],
    limit: Duration,
) -> Result<String, String> {
    let name = Path::new(program).display();
    let finished = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(limit, finished).await {
        Err(_) => return Err(format!("{name} did not finish within {} s", limit.as_secs())),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("{name} is not installed"));
        }
        Ok(Err(error)) => return Err(format!("{name} cannot be run: {error}")),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last_line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed no reason");
    Err(format!("{name} failed ({}): {}", output.status, last_line.trim()))
}
