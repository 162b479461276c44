//! How much JetStream may write: always less than the disk holds.
//!
//! A full disk freezes every stream of the server without an error to anybody; a reached limit is an immediate,
//! clear refusal, and what is stored stays readable.

use std::fs;
use std::path::Path;

use super::NatsServerError;

const MIB: u64 = 1024 * 1024;

/// Below this a shop of one machine would stop within its first day, so it does not start.
const LEAST_FREE_MIB: u64 = 512;

/// The limit for `max_file_store`, in bytes: what the store holds already and three quarters of what is free now.
///
/// The last quarter is for the server's staging of batches, its log, and the other users of the disk.
pub(super) fn file_store_limit(data_dir: &Path) -> Result<u64, NatsServerError> {
    let free = free_bytes(data_dir)?;
    if free / MIB < LEAST_FREE_MIB {
        let path = data_dir.to_owned();
        return Err(NatsServerError::DiskTooFull { path, free_mib: free / MIB, least_mib: LEAST_FREE_MIB });
    }
    Ok(used_bytes(&data_dir.join("jetstream")) + free / 4 * 3)
}

/// What a user without special rights may still write.
fn free_bytes(folder: &Path) -> Result<u64, NatsServerError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| NatsServerError::folder("measure the free space of", folder)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The sizes of all files below `folder`; none when it does not exist yet.
fn used_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0, // removed while we looked
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_below_the_free_space_and_counts_what_is_stored_already() {
        let folder = tempfile::tempdir().expect("folder");
        let free_before = free_bytes(folder.path()).expect("a disk");
        let empty = file_store_limit(folder.path()).expect("enough space to run tests");
        assert!(0 < empty && empty < free_before, "{empty} of {free_before}");

        let stored = folder.path().join("jetstream/streams");
        fs::create_dir_all(&stored).expect("folder");
        fs::write(stored.join("1.blk"), vec![7; 70_000]).expect("write");
        fs::write(folder.path().join("jetstream/meta.inf"), vec![7; 30_000]).expect("write");
        assert_eq!(used_bytes(&folder.path().join("jetstream")), 100_000);
    }
}
