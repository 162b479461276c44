//! How often the server syncs a file: counted by `strace` in a run of its own, because it slows the server down.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};

use crate::signals;

/// strace has attached to every thread by then.
const ATTACHING: Duration = Duration::from_millis(300);

/// A strace that counts.
pub(super) struct Counting {
    strace: Child,
    result: NamedTempFile,
}

/// Whether syncs can be counted here.
pub(super) fn can_be_counted() -> bool {
    std::process::Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

impl Counting {
    /// Begin to count the syncs of a process.
    pub(super) async fn begin(pid: u32) -> anyhow::Result<Self> {
        let result = NamedTempFile::new().context("create a file for what strace counts")?;
        let strace = Command::new("strace")
            .args(["-f", "-c", "-e", "trace=fsync,fdatasync", "-p", &pid.to_string(), "-o"])
            .arg(result.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("run strace")?;
        tokio::time::sleep(ATTACHING).await;
        Ok(Self { strace, result })
    }

    /// How many there were.
    pub(super) async fn end(mut self) -> anyhow::Result<u64> {
        let pid = self.strace.id().context("strace has ended by itself: may this user trace processes?")?;
        signals::send(pid, Signal::INT).context("stop strace")?;
        self.strace.wait().await.context("wait for strace")?;
        let path: PathBuf = self.result.path().into();
        let table = std::fs::read_to_string(&path).context("read what strace has counted")?;
        ensure!(!table.is_empty(), "strace has counted nothing: may this user trace processes?");
        Ok(calls(&table))
    }
}

/// The sum of the column `calls`.
fn calls(table: &str) -> u64 {
    let of_line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_sync = matches!(columns.last(), Some(&("fsync" | "fdatasync")));
        is_sync.then(|| columns.get(3)?.parse::<u64>().ok()).flatten()
    };
    table.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_both_are_summed_up() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.00    1.000000         100     10000           fsync
  1.00    0.010000          10        23         1 fdatasync
------ ----------- ----------- --------- --------- ----------------
100.00    1.010000         100     10023         1 total
";
        assert_eq!(calls(table), 10_023);
    }
}
