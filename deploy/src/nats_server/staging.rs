//! Where a server keeps an atomic batch until it is whole.
//!
//! For a stream with one replica nats-server stages each batch on disk: in a store of its own below the stream's folder
//! `batches`, which it makes, syncs and removes again. That is most of what a batch costs (`deploy/README.md`, "Batches staged
//! in memory"). Once all of it is there the messages are written into the stream and synced, and only then is the batch
//! acknowledged; the staged copy serves one purpose more, to complete a batch that a crash has left half written.
//!
//! In memory it outlives a crash of the server, and not a power cut. Then the stream may hold the first messages of a batch that
//! nobody was told is stored. Whoever writes here expects that of every publish: messages of a batch belong to different
//! workflows, each is a whole record, and each is settled on its own when the outcome is unknown (`common::nats::Journal`).

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::data_dir::{DataDir, POLL};

/// The folder, below that of a stream (nats-server 2.15, `server/filestore.go`, `batchesDir`).
const BATCHES: &str = "batches";

/// Where Linux keeps files in memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// How long a stream is waited for in which batches are being staged all the time: each takes some milliseconds.
const MOMENT_LIMIT: Duration = Duration::from_secs(2);

/// How many streams stage their batches where they were told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staging {
    /// There, since now or before.
    pub led: usize,
    /// Still on disk, because a batch was being staged at that moment. Worth another try.
    pub busy: usize,
}

/// A folder in memory for the batches of one server; removed when this is dropped.
///
/// Its name follows from the server's data folder, so a run that was killed leaves one folder, which the next run takes over.
#[derive(Debug)]
pub(super) struct MemoryForBatches(PathBuf);

impl MemoryForBatches {
    pub(super) fn of(data_dir: &DataDir) -> io::Result<Self> {
        let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, data_dir.path().as_os_str().as_encoded_bytes());
        let folder = Path::new(SHARED_MEMORY).join(format!("checkout-batches-{}", name.as_simple()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            // Anybody may make folders there: only one that is ours is taken.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = folder.symlink_metadata()?;
                if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
                    let reason = format!("{} belongs to somebody else", folder.display());
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(Self(folder))
    }

    /// Have the server that runs as `pid` stage there. What earlier ones have left is removed: it was completed or given up when
    /// this one started.
    pub(super) async fn stage(&self, pid: u32, store: &Path) -> io::Result<Staging> {
        let own = self.0.join(pid.to_string());
        for left in fs::read_dir(&self.0)? {
            let left = left?.path();
            if left != own {
                fs::remove_dir_all(left)?;
            }
        }
        let deadline = Instant::now() + MOMENT_LIMIT;
        loop {
            let staging = stage_batches_in(&own, store)?;
            if staging.busy == 0 || Instant::now() >= deadline {
                return Ok(staging);
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for MemoryForBatches {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::debug!(folder = %self.0.display(), %error, "a folder for batches is left in memory");
        }
    }
}

/// Lead the folder in which batches are staged to a folder in `memory`, for every stream below `store` (the folder that is the
/// server's `store_dir`). The server removes the links when it starts.
///
/// A server may be at work meanwhile: a folder in which something is staged is left as it is.
///
/// # Errors
/// When a folder cannot be read, made or replaced.
pub fn stage_batches_in(memory: &Path, store: &Path) -> io::Result<Staging> {
    let mut staging = Staging { led: 0, busy: 0 };
    for account in fs::read_dir(store.join("jetstream"))? {
        let account = account?;
        let streams = account.path().join("streams");
        if !streams.is_dir() {
            continue;
        }
        for stream in fs::read_dir(streams)? {
            let stream = stream?;
            let folder = memory.join(account.file_name()).join(stream.file_name());
            let is_led = lead(&stream.path().join(BATCHES), &folder)?;
            *(if is_led { &mut staging.led } else { &mut staging.busy }) += 1;
        }
    }
    Ok(staging)
}

/// Whether what is staged at `place` goes to `folder` now.
fn lead(place: &Path, folder: &Path) -> io::Result<bool> {
    match place.symlink_metadata() {
        Ok(found) if found.is_symlink() && fs::read_link(place)? == folder => return Ok(true),
        // Of an earlier server, to a place that is gone: the server removes only those of streams that take batches.
        Ok(found) if found.is_symlink() => fs::remove_file(place)?,
        Ok(_) => match fs::remove_dir(place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir_all(folder)?;
    match symlink(folder, place) {
        Ok(()) => Ok(true),
        // The server was faster, with a folder for its next batch.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_led_once_and_a_batch_that_is_being_staged_is_not_lost() {
        let (store, memory) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let streams = store.path().join("jetstream/$G/streams");
        for stream in ["COMMANDS", "HISTORY/batches"] {
            fs::create_dir_all(streams.join(stream)).expect("a stream's folder");
        }
        let stage = || stage_batches_in(memory.path(), store.path()).expect("stage");
        assert_eq!(stage(), Staging { led: 2, busy: 0 });
        fs::write(streams.join("HISTORY/batches/one"), "staged").expect("a staged batch");
        assert_eq!(stage(), Staging { led: 2, busy: 0 });
        assert!(memory.path().join("$G/HISTORY/one").exists(), "it is in memory");

        fs::create_dir_all(streams.join("TIMERS/batches/busy")).expect("a staged batch");
        assert_eq!(stage(), Staging { led: 2, busy: 1 });
        assert!(streams.join("TIMERS/batches/busy").exists(), "it would be lost");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_an_earlier_server_has_left_in_memory_is_removed() {
        let scratch = tempfile::tempdir().expect("a folder");
        let data_dir = DataDir::create(scratch.path()).expect("a data folder");
        fs::create_dir_all(scratch.path().join("jetstream/$G/streams/HISTORY")).expect("a stream's folder");
        let memory = MemoryForBatches::of(&data_dir).expect("a folder in memory");
        let killed = memory.0.clone();
        fs::create_dir_all(killed.join("1/$G/HISTORY/left")).expect("what is left");
        std::mem::forget(memory);

        let memory = MemoryForBatches::of(&data_dir).expect("the same folder");
        assert_eq!(memory.0, killed);
        assert_eq!(memory.stage(2, scratch.path()).await.expect("stage"), Staging { led: 1, busy: 0 });
        assert!(killed.join("2/$G/HISTORY").is_dir() && !killed.join("1").exists());
        // A link that the next server has left is led anew.
        assert_eq!(memory.stage(3, scratch.path()).await.expect("stage"), Staging { led: 1, busy: 0 });
        let led_to = fs::read_link(scratch.path().join("jetstream/$G/streams/HISTORY/batches")).expect("a link");
        assert_eq!(led_to, killed.join("3/$G/HISTORY"));
        assert!(led_to.is_dir());
        drop(memory);
        assert!(!killed.exists());
    }
}
