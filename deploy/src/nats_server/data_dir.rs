//! The folder of one server, and the promise that only one server at a time works on it.
//!
//! Two servers on one store destroy it silently, and nats-server itself takes no lock. So there are two locks, which
//! the operating system releases however a process ends:
//! - `shop.lock` is held by the run that uses the folder. Taken: another run is alive.
//! - `store.lock` is held by that run and by its nats-server (which has it as its standard input). Taken although
//!   `shop.lock` was free: the run was killed and its server is still there. It is stopped before a new one starts.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::NatsServerError;
use crate::signals::send;

/// A run that is just ending may take a moment to let go.
const OTHER_RUN_LIMIT: Duration = Duration::from_secs(2);
/// A server stops within a second; a slow disk with much to sync may take longer. Then it is killed.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Between two looks at something that has no event to wait for.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// An existing folder by its canonical path, so that a symbolic link is not taken for another folder.
#[derive(Clone, Debug)]
pub(super) struct DataDir(PathBuf);

impl DataDir {
    pub(super) fn create(path: &Path) -> Result<Self, NatsServerError> {
        fs::create_dir_all(path).map_err(NatsServerError::folder("create the data folder", path))?;
        path.canonicalize().map(Self).map_err(NatsServerError::folder("open the data folder", path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.0.join("nats-server.conf")
    }

    /// Written by the server, and left behind when it ends: alone it proves nothing.
    pub(super) fn pid_file(&self) -> PathBuf {
        self.0.join("nats-server.pid")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.0.join("nats-server.log")
    }

    /// Takes both locks, stopping the server of a run that was killed. Also says which process that was.
    pub(super) async fn claim(self) -> Result<(ClaimedDataDir, Option<u32>), NatsServerError> {
        let shop_lock = self.open_lock("shop.lock")?;
        if !lock_within(&shop_lock, OTHER_RUN_LIMIT, &self.0).await? {
            return Err(NatsServerError::FolderInUse { path: self.0 });
        }
        let stopped = stop_recorded_server(&self).await?;
        let store_lock = self.open_lock("store.lock")?;
        if !lock_within(&store_lock, STOP_LIMIT, &self.0).await? {
            return Err(NatsServerError::LeftoverHolds { path: self.0, waited: STOP_LIMIT });
        }
        Ok((ClaimedDataDir { data_dir: self, store_lock, _shop_lock: shop_lock }, stopped))
    }

    fn open_lock(&self, name: &str) -> Result<File, NatsServerError> {
        let path = self.0.join(name);
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        opened.map_err(NatsServerError::folder("write", &path))
    }
}

/// A folder that nobody else uses as long as this lives.
#[derive(Debug)]
pub(super) struct ClaimedDataDir {
    data_dir: DataDir,
    store_lock: File,
    _shop_lock: File,
}

impl ClaimedDataDir {
    pub(super) fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// For the server's standard input: it keeps the store locked as long as the server lives, whatever happens to us.
    pub(super) fn share_store_lock(&self) -> Result<File, NatsServerError> {
        self.store_lock.try_clone().map_err(NatsServerError::folder("share the lock of", self.data_dir.path()))
    }
}

async fn lock_within(file: &File, limit: Duration, folder: &Path) -> Result<bool, NatsServerError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => return Ok(false),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            Err(TryLockError::Error(error)) => return Err(NatsServerError::folder("lock", folder)(error)),
        }
    }
}

/// Stops the nats-server that an earlier run left behind on `data_dir`, and returns its process id.
///
/// [`NatsServer::start`](super::NatsServer::start) does this by itself; this is for tools that work on the files.
///
/// # Errors
/// [`NatsServerError::FolderInUse`] when the run that owns the server is alive, [`NatsServerError::LeftoverHolds`]
/// when the server does not end, [`NatsServerError::Folder`] when the folder cannot be used.
pub async fn stop_leftover(data_dir: &Path) -> Result<Option<u32>, NatsServerError> {
    let (_released_at_the_end, stopped) = DataDir::create(data_dir)?.claim().await?;
    Ok(stopped)
}

/// Stops the process of the pid file if it is a server that runs with our configuration file, and nothing else.
async fn stop_recorded_server(data_dir: &DataDir) -> Result<Option<u32>, NatsServerError> {
    let Some(pid) = fs::read_to_string(data_dir.pid_file()).ok().and_then(|text| text.trim().parse().ok()) else {
        return Ok(None);
    };
    if !runs_with(pid, &data_dir.config_file()) {
        return Ok(None);
    }
    for signal in [Signal::TERM, Signal::KILL] {
        send(pid, signal).map_err(|source| NatsServerError::Signal { action: "stop the leftover", pid, source })?;
        let deadline = tokio::time::Instant::now() + STOP_LIMIT;
        while tokio::time::Instant::now() < deadline {
            if !runs_with(pid, &data_dir.config_file()) {
                return Ok(Some(pid));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Err(NatsServerError::LeftoverHolds { path: data_dir.path().to_owned(), waited: STOP_LIMIT * 2 })
}

/// True when the process was started as `<program> -c <config_file>`, which is how we start it. Process ids are used
/// again, so the number alone would let us stop a stranger.
fn runs_with(pid: u32, config_file: &Path) -> bool {
    let ending = [OsString::from("-c"), config_file.as_os_str().to_owned()];
    if Path::new("/proc/self/cmdline").exists() {
        // Arguments, each ended by a zero byte; empty for a process that is dead but not yet reaped.
        let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let arguments: Vec<_> = bytes.split(|byte| *byte == 0).map(|part| OsString::from_vec(part.to_vec())).collect();
        return arguments.windows(2).any(|pair| pair == ending);
    }
    let printed = std::process::Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    let ending = format!("-c {}", config_file.display());
    printed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim_end().ends_with(&ending))
}
