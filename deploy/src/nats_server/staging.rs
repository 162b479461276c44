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

use std::{fs, io, os::unix::fs::symlink, path::Path};

/// The folder, below that of a stream (nats-server 2.15, `server/filestore.go`, `batchesDir`).
const BATCHES: &str = "batches";

/// Lead the folder in which batches are staged to a folder in `memory`, for every stream below `store` (the folder that is the
/// server's `store_dir`). How many streams were led there; those that have a place of their own already are left as they are.
///
/// Call it when the streams exist and nobody publishes yet. The server removes the links when it starts.
///
/// # Errors
/// When a folder cannot be read, made or replaced; also when a batch is being staged at this moment.
pub fn stage_batches_in(memory: &Path, store: &Path) -> io::Result<usize> {
    let mut led = 0;
    for account in fs::read_dir(store.join("jetstream"))? {
        let streams = account?.path().join("streams");
        if !streams.is_dir() {
            continue;
        }
        for stream in fs::read_dir(streams)? {
            led += usize::from(lead(&stream?.path(), memory, led)?);
        }
    }
    Ok(led)
}

fn lead(stream: &Path, memory: &Path, number: usize) -> io::Result<bool> {
    let place = stream.join(BATCHES);
    match place.symlink_metadata() {
        Ok(found) if found.is_symlink() => return Ok(false),
        Ok(_) => fs::remove_dir(&place)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let folder = memory.join(number.to_string());
    fs::create_dir_all(&folder)?;
    symlink(&folder, &place)?;
    Ok(true)
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
        assert_eq!(stage_batches_in(memory.path(), store.path()).expect("both"), 2);
        assert_eq!(stage_batches_in(memory.path(), store.path()).expect("none"), 0);
        fs::write(streams.join("HISTORY/batches/one"), "staged").expect("a staged batch");
        assert!(fs::read_dir(memory.path().join("0")).is_ok() && fs::read_dir(memory.path().join("1")).is_ok());
        let staged = ["0/one", "1/one"].map(|place| memory.path().join(place).exists());
        assert!(staged.contains(&true), "it is in memory");

        fs::create_dir_all(streams.join("TIMERS/batches/busy")).expect("a staged batch");
        stage_batches_in(memory.path(), store.path()).expect_err("it would be lost");
        assert!(streams.join("TIMERS/batches/busy").exists());
    }
}
