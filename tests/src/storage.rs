//! What can happen to the disk below the streams: too small, full, damaged.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use common::streams::StreamName;

use crate::shop::Shop;

impl Shop {
    /// The folder in which the server keeps a stream.
    #[must_use]
    pub fn stream_folder(&self, stream: StreamName) -> PathBuf {
        self.server.data_dir().join("jetstream/$G/streams").join(stream.as_str()).join("msgs")
    }

    /// The files with a stream's messages, oldest first.
    #[must_use]
    pub fn blocks(&self, stream: StreamName) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.stream_folder(stream)).expect("the folder of a stream");
        let mut blocks: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "blk"))
            .collect();
        blocks.sort_by_key(|path| {
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok())
        });
        blocks
    }

    /// How many bytes a stream holds.
    pub async fn bytes_in(&self, stream: StreamName) -> u64 {
        let mut stream = self.nats.jetstream.get_stream(stream.as_str()).await.expect("a stream of the shop");
        stream.info().await.expect("its state").state.bytes
    }

    /// Let a stream hold at most so many bytes; the limit that it had.
    pub async fn limit(&self, stream: StreamName, max_bytes: i64) -> i64 {
        let found = self.nats.jetstream.get_stream(stream.as_str()).await.expect("a stream of the shop");
        let mut config = found.cached_info().config.clone();
        let before = std::mem::replace(&mut config.max_bytes, max_bytes);
        self.nats.jetstream.update_stream(config).await.expect("change a stream's limit");
        before
    }
}

/// Flip one bit of the byte at a place of a file.
pub fn flip_a_bit(file: &Path, place: u64) {
    let mut file = File::options().read(true).write(true).open(file).expect("open a file to damage it");
    let mut byte = [0];
    file.seek(SeekFrom::Start(place)).expect("a place in the file");
    file.read_exact(&mut byte).expect("a byte to flip");
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(place)).expect("the same place");
    file.write_all(&byte).expect("damage a file");
}

/// Where some bytes stand in a file.
///
/// # Panics
/// When they are not there.
#[must_use]
pub fn place_of(bytes: &[u8], file: &Path) -> u64 {
    let content = fs::read(file).expect("read a file to damage it");
    let place = content.windows(bytes.len()).position(|window| window == bytes).expect("the bytes are in the file");
    u64::try_from(place).expect("a place in a file")
}

/// A disk of a few megabytes, in memory. It is unmounted at the end.
#[derive(Debug)]
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mount one; `None`, and a loud line, where this user may not mount: only root may.
    #[must_use]
    pub fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("small-disk-").tempdir().expect("a folder to mount on");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "small-disk"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            refused => {
                eprintln!("SKIPPED: a small disk cannot be mounted here (it needs root): {refused:?}");
                None
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How many bytes are in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).expect("measure the small disk");
        (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    }

    /// Make it smaller or larger; what is stored stays.
    pub fn resize(&self, bytes: u64) {
        let status = Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "resize the small disk to {bytes} bytes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is just ending may still have files open.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("the small disk at {} is still mounted", self.path().display());
        }
    }
}
