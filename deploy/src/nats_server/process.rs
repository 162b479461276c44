//! One running nats-server, from start to stop, kill and start again.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::data_dir::{ClaimedDataDir, DataDir, POLL, STOP_LIMIT};
use super::guard::Guard;
use super::health::{self, Endpoints};
use super::staging::{MemoryForBatches, Staging};
use super::{ClientPort, NatsServerError, ServerConfig, port};
use crate::signals::{freeze, send};

/// Recovering a large store reads much of it; an empty one takes milliseconds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A restart wants the port it had. A client that tries to reconnect can hold it for a moment (on Linux a connection
/// to a port nobody listens on may connect to itself), so a refusal is tried again.
const RESTART_ATTEMPTS: u32 = 5;
/// Twice the `lame_duck_duration` of a node.
const RETIRE_LIMIT: Duration = Duration::from_secs(60);
/// Enough of the log to see why a start failed.
const LOG_TAIL_LINES: usize = 25;
/// More than a minute of asking a node that is not well whether it is well leaves.
const LOG_TAIL_BYTES: u64 = 4 * 1024 * 1024;
/// What the server logs each time that it is asked and is not well; the last answer is told anyway.
const OF_BEING_ASKED: &str = "Healthcheck failed";

/// What to start.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The server, for example from [`find_or_install`](super::find_or_install).
    pub binary: PathBuf,
    /// What it is told.
    pub config: ServerConfig,
    /// How long it may take until every stream is recovered.
    pub start_limit: Duration,
}

impl StartOptions {
    /// With the usual time limit.
    pub fn new(binary: PathBuf, config: ServerConfig) -> Self {
        Self { binary, config, start_limit: START_LIMIT }
    }
}

/// A nats-server that we started, and that ends when this is dropped.
///
/// It also ends when this process is killed: a guard process sees to that, and if even the guard is killed,
/// the next start on the same data folder stops what is left. Its log is `nats-server.log` in the data folder.
#[derive(Debug)]
pub struct NatsServer {
    options: StartOptions,
    endpoints: Endpoints,
    running: Option<Running>,
    /// Where batches are staged, unless on disk. Goes after the server.
    memory: Option<MemoryForBatches>,
    claimed: ClaimedDataDir,
    /// Removed at the end, when the data is only for a test. Last, so that the server is gone by then.
    scratch: Option<TempDir>,
}

/// The guard is declared, and so dropped, first: it must not outlive the process it watches.
#[derive(Debug)]
struct Running {
    _guard: Guard,
    child: Child,
}

impl NatsServer {
    /// Starts the server and waits until every stream is recovered. A server that an earlier, killed run left on the
    /// same data folder is stopped first.
    ///
    /// # Errors
    /// See [`NatsServerError`]; when the server itself gives up, the error shows the end of its log.
    pub async fn start(options: StartOptions) -> Result<Self, NatsServerError> {
        Self::start_with_scratch(options, None).await
    }

    pub(super) async fn start_with_scratch(
        mut options: StartOptions,
        scratch: Option<TempDir>,
    ) -> Result<Self, NatsServerError> {
        let (claimed, leftover) = DataDir::create(&options.config.data_dir)?.claim().await?;
        if let Some(pid) = leftover {
            tracing::info!(pid, "stopped the nats-server that an earlier run left behind");
        }
        // Only now: the leftover may have held the port that is wanted.
        options.config.client_port = port::settle(options.config.client_port)?;
        let (running, endpoints) = launch(&options, &claimed, scratch.as_ref()).await?;
        // A restart is for clients that know the address by now.
        options.config.client_port = ClientPort::Exactly(endpoints.client.port());
        Ok(Self { options, endpoints, running: Some(running), memory: None, claimed, scratch })
    }

    /// The address for clients, the same after a restart: `nats://127.0.0.1:<port>`.
    pub fn client_url(&self) -> String {
        format!("nats://{}", self.endpoints.client)
    }

    /// The address for clients as the operating system has it.
    pub fn client_address(&self) -> SocketAddr {
        self.endpoints.client
    }

    /// The server's own pages (`/healthz`, `/jsz`, `/varz`): `http://127.0.0.1:<port>`, another port after a restart.
    pub fn monitoring_url(&self) -> String {
        format!("http://{}", self.endpoints.monitoring)
    }

    /// The process id, `None` after [`stop`](Self::stop) or [`kill`](Self::kill).
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// The folder with its streams, log and configuration.
    pub fn data_dir(&self) -> &Path {
        self.claimed.data_dir().path()
    }

    /// What it was started with, and its port since.
    pub fn start_options(&self) -> &StartOptions {
        &self.options
    }

    /// Has the server stage atomic batches in memory instead of on disk, for every stream that exists, from now on and after each
    /// [`restart`](Self::restart). What is acknowledged is synced to the disk all the same (`staging.rs`).
    ///
    /// # Errors
    /// When there is no file system in memory, as on any system but Linux, or a folder cannot be made: then some or all stay on disk.
    pub async fn stage_batches_in_memory(&mut self) -> std::io::Result<Staging> {
        let pid = self.pid().ok_or(std::io::ErrorKind::NotConnected)?;
        let data_dir = self.claimed.data_dir();
        let memory = match self.memory.take() {
            Some(memory) => memory,
            None => MemoryForBatches::of(data_dir)?,
        };
        // Kept also when not everything was led there: what was must not lead to nowhere.
        self.memory.insert(memory).stage(pid, data_dir.path()).await
    }

    /// Waits until the server ends although nobody asked it to, and returns why as far as its log tells. May be
    /// dropped and called again, as `select!` does.
    pub async fn ended(&mut self) -> NatsServerError {
        loop {
            let Some(running) = &mut self.running else { return NatsServerError::NotRunning };
            if let Ok(Some(status)) = running.child.try_wait() {
                self.running = None;
                return ended_by_itself(status, self.claimed.data_dir(), 0);
            }
            tokio::time::sleep(POLL * 10).await;
        }
    }

    /// Asks the server to stop and waits; kills it when it does not within 15 s. Nothing happens if it is not running.
    ///
    /// # Errors
    /// [`NatsServerError::Signal`] when the operating system refuses.
    pub async fn stop(&mut self) -> Result<(), NatsServerError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let pid = running.child.id();
        let refused = |source| NatsServerError::Signal { action: "stop", pid, source };
        send(pid, Signal::TERM).map_err(refused)?;
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if running.child.try_wait().map_err(refused)?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        tracing::warn!(pid, "nats-server did not stop within {} s and is killed", STOP_LIMIT.as_secs());
        drop(running);
        Ok(())
    }

    /// Retires the server (lame duck): it hands its leaders to other nodes and its clients away, one after the other, and
    /// ends. Waits for that.
    ///
    /// # Errors
    /// [`NatsServerError::NotRunning`], [`NatsServerError::Signal`] when the operating system refuses or the server has not
    /// ended after twice the time that it was given.
    pub async fn retire(&mut self) -> Result<(), NatsServerError> {
        self.signal("retire", Signal::USR2)?;
        let Some(mut running) = self.running.take() else { return Err(NatsServerError::NotRunning) };
        let deadline = Instant::now() + RETIRE_LIMIT;
        loop {
            let pid = running.child.id();
            match running.child.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Ok(None) => {
                    let source = std::io::ErrorKind::TimedOut.into();
                    return Err(NatsServerError::Signal { action: "retire", pid, source });
                }
                Err(source) => return Err(NatsServerError::Signal { action: "retire", pid, source }),
            }
        }
    }

    /// Kills the server at once (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// [`NatsServerError::NotRunning`].
    pub fn kill(&mut self) -> Result<(), NatsServerError> {
        self.running.take().map(drop).ok_or(NatsServerError::NotRunning)
    }

    /// Stops the server if it runs, and starts it on the same port and data.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`stop`](Self::stop).
    pub async fn restart(&mut self) -> Result<(), NatsServerError> {
        self.stop().await?;
        let mut attempt = 1;
        let (running, endpoints) = loop {
            match launch(&self.options, &self.claimed, self.scratch.as_ref()).await {
                Ok(started) => break started,
                Err(NatsServerError::Ended { log_tail, .. })
                    if attempt < RESTART_ATTEMPTS && log_tail.contains("address already in use") =>
                {
                    tracing::warn!(attempt, "the port of nats-server is taken for the moment");
                    tokio::time::sleep(Duration::from_millis(200) * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        self.running = Some(running);
        self.endpoints = endpoints;
        // The server has removed its links. Without them it is slower, and nothing else.
        if self.memory.is_some()
            && let Err(error) = self.stage_batches_in_memory().await
        {
            tracing::warn!(%error, "nats-server stages its batches on disk");
        }
        Ok(())
    }

    /// Changes what the server is told at its next start; its port stays.
    pub fn change_config(&mut self, change: impl FnOnce(&mut ServerConfig)) {
        change(&mut self.options.config);
    }

    /// Freezes the server (SIGSTOP), as a machine that hangs would: connections stay open and nothing answers, from the
    /// moment that this returns.
    ///
    /// # Errors
    /// [`NatsServerError::NotRunning`], [`NatsServerError::Signal`].
    pub fn pause(&self) -> Result<(), NatsServerError> {
        let pid = self.pid().ok_or(NatsServerError::NotRunning)?;
        freeze(pid).map_err(|source| NatsServerError::Signal { action: "pause", pid, source })
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    /// [`NatsServerError::NotRunning`], [`NatsServerError::Signal`].
    pub fn resume(&self) -> Result<(), NatsServerError> {
        self.signal("resume", Signal::CONT)
    }

    fn signal(&self, action: &'static str, signal: Signal) -> Result<(), NatsServerError> {
        let pid = self.pid().ok_or(NatsServerError::NotRunning)?;
        send(pid, signal).map_err(|source| NatsServerError::Signal { action, pid, source })
    }
}

impl Drop for Running {
    /// Kills and waits, so that the port and the store are free afterwards. After an orderly stop this does nothing.
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::warn!(pid = self.child.id(), %error, "nats-server may still run");
        }
    }
}

/// Starts the process and waits until it is healthy.
async fn launch(
    options: &StartOptions,
    claimed: &ClaimedDataDir,
    scratch: Option<&TempDir>,
) -> Result<(Running, Endpoints), NatsServerError> {
    let data_dir = claimed.data_dir();
    let config_file = data_dir.config_file();
    fs::write(&config_file, options.config.render(data_dir)?)
        .map_err(NatsServerError::folder("write", &config_file))?;
    health::remove_old_ports_files(data_dir.path());
    let log_before = fs::metadata(data_dir.log_file()).map_or(0, |metadata| metadata.len());

    let mut running = spawn(options, claimed, scratch)?;
    let endpoints = wait_until_ready(&mut running.child, data_dir, options.start_limit, log_before).await?;
    Ok((running, endpoints))
}

fn spawn(
    options: &StartOptions,
    claimed: &ClaimedDataDir,
    scratch: Option<&TempDir>,
) -> Result<Running, NatsServerError> {
    let data_dir = claimed.data_dir();
    let log_file = data_dir.log_file();
    // Before the server opens its log, and when it crashes, it writes to its standard error.
    let log = OpenOptions::new().create(true).append(true).open(&log_file);
    let log = log.map_err(NatsServerError::folder("write", &log_file))?;
    let log_again = log.try_clone().map_err(NatsServerError::folder("write", &log_file))?;

    let cannot_run = |source| NatsServerError::Spawn { path: options.binary.clone(), source };
    let mut command = Command::new(&options.binary);
    command.arg("-c").arg(data_dir.config_file());
    command.stdin(claimed.share_store_lock()?).stdout(Stdio::from(log)).stderr(Stdio::from(log_again));
    // Ctrl-C goes to our process group: the services stop first, and only then we stop the server.
    let mut child = command.process_group(0).spawn().map_err(cannot_run)?;
    match Guard::over(child.id(), scratch.map(TempDir::path)) {
        Ok(guard) => Ok(Running { _guard: guard, child }),
        Err(source) => {
            let _ = child.kill().and_then(|()| child.wait());
            Err(NatsServerError::Spawn { path: PathBuf::from("sh"), source })
        }
    }
}

async fn wait_until_ready(
    child: &mut Child,
    data_dir: &DataDir,
    limit: Duration,
    log_before: u64,
) -> Result<Endpoints, NatsServerError> {
    let deadline = Instant::now() + limit;
    let mut problem;
    loop {
        match health::read_endpoints(data_dir.path(), child.id()) {
            None => problem = "it does not listen yet".to_owned(),
            Some(endpoints) => match health::check(endpoints.monitoring).await {
                Ok(()) => return Ok(endpoints),
                Err(answer) => problem = answer,
            },
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(ended_by_itself(status, data_dir, log_before));
        }
        if Instant::now() >= deadline {
            let (log, log_tail) = (data_dir.log_file(), log_tail(data_dir, log_before));
            return Err(NatsServerError::NotReady { waited: limit, problem, log, log_tail });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn ended_by_itself(status: ExitStatus, data_dir: &DataDir, log_before: u64) -> NatsServerError {
    NatsServerError::Ended { status, log: data_dir.log_file(), log_tail: log_tail(data_dir, log_before) }
}

/// The last lines of what was logged after the first `skip` bytes; empty when there are none.
fn log_tail(data_dir: &DataDir, skip: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut log = fs::File::open(data_dir.log_file())?;
        let length = log.metadata()?.len();
        // Shorter than before: the server has begun a new log file.
        let begin = if length < skip { 0 } else { skip };
        log.seek(SeekFrom::Start(begin.max(length.saturating_sub(LOG_TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty() && !line.contains(OF_BEING_ASKED)).collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
