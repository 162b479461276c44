//! FP10, FP14: the power fails while records are being acknowledged. What was acknowledged is on the disk; and the same cut
//! on a server that does not sync every write loses records, so this story would notice.
//!
//! The server's folder is a file system of its own in an image file, on a loop device that writes past the page cache. So
//! what is in the image is what the file system has sent to its disk, and a copy of the image is what a power cut
//! leaves. (A real disk may also lose what it has in a cache of its own and nobody has flushed.)
//!
//! It needs root, loop devices and mkfs.ext4. Without them it is skipped with a loud line, and fails when
//! `CHECKOUT_REQUIRE_POWER_CUT` is set.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::HeaderMap;
use bytes::Bytes;
use common::{
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{Journal, Nats, NatsOptions, Outgoing, connect::connect, read},
    streams::{Durability, Placement, StreamName},
    subject::Subject,
};
use deploy::{
    nats_server::{ClientPort, NatsServer, ServerConfig, StartOptions, SyncPolicy, stage_batches_in},
    provision::provision,
};
use stories::eventually;
use tempfile::TempDir;

/// Bytes of a disk: as much as the server asks for. The image has holes where nothing is written, so it is copied quickly.
const DISK_BYTES: u64 = 1024 * 1024 * 1024;

/// Bytes for streams on it.
const STORAGE_BYTES: u64 = 200 * 1024 * 1024;

/// Acknowledged records before the power fails.
const RECORDS: usize = 1_000;

/// Writers at a time, so that the cut finds commits under way.
const WRITERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let Some((acknowledged, lost)) = lost_in_a_power_cut(SyncPolicy::Always, Batches::OnDisk).await else { return };
    println!("sync always: {lost} of {acknowledged} acknowledged records lost");
    assert_eq!(lost, 0, "of {acknowledged} acknowledged records");
}

/// Nor does one that takes with it what was staged in memory: a batch is acknowledged when it is in the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_that_was_acknowledged_when_batches_are_staged_in_memory() {
    let Some((acknowledged, lost)) = lost_in_a_power_cut(SyncPolicy::Always, Batches::InMemory).await else { return };
    println!("sync always, batches in memory: {lost} of {acknowledged} acknowledged records lost");
    assert_eq!(lost, 0, "of {acknowledged} acknowledged records");
}

/// The control: without a sync of every write the same cut loses records, even a whole stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_cut_loses_records_of_a_server_that_does_not_sync_every_write() {
    let Some((acknowledged, lost)) = lost_in_a_power_cut(SyncPolicy::ServerDefault, Batches::OnDisk).await else {
        return;
    };
    println!("sync by default: {lost} of {acknowledged} acknowledged records lost");
    assert!(lost > 0, "all of {acknowledged} records survived: this story would not notice a loss");
}

/// How many records were acknowledged before the cut, and how many of them are gone or different after it.
async fn lost_in_a_power_cut(sync: SyncPolicy, batches: Batches) -> Option<(usize, usize)> {
    let disk = Disk::new()?;
    let memory = TempDir::with_prefix("power-cut-memory-").expect("a folder that the cut empties");
    let server = start_on(&disk, sync).await;
    let nats = connected(&server).await;
    let placement = Placement {
        replicas: 1,
        storage_bytes: STORAGE_BYTES,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&nats, &placement).await.expect("provision");
    if batches == Batches::InMemory {
        let staging = stage_batches_in(memory.path(), &disk.folder().join("nats")).expect("stage batches elsewhere");
        assert!(staging.led > 0 && staging.busy == 0, "{staging:?}");
    }
    // The streams themselves are on the disk in any case: this is about records.
    run("sync", &["--file-system", path(&disk.folder())]).expect("sync the disk");
    let acknowledged = write_until_the_cut(&nats, &server).await;
    let after_the_cut = disk.as_it_is().await;
    drop(server);
    drop(disk);
    drop(memory);

    let server = start_on(&after_the_cut, sync).await;
    let nats = connected(&server).await;
    let found = read_all(&nats).await;
    let lost = acknowledged.iter().filter(|(sequence, body)| found.get(sequence) != Some(body)).count();
    let is_whole = |body: &Bytes| serde_json::from_slice::<serde_json::Value>(body).is_ok();
    assert!(found.values().all(is_whole), "half a record was stored");
    drop(server);
    drop(after_the_cut);
    Some((acknowledged.len(), lost))
}

/// Where the server stages atomic batches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batches {
    OnDisk,
    InMemory,
}

async fn start_on(disk: &Disk, sync: SyncPolicy) -> NatsServer {
    let binary = NatsServer::start_for_test().await.start_options().binary.clone();
    let mut config =
        ServerConfig::for_one_machine(&disk.folder().join("nats"), ClientPort::Any).expect("a configuration");
    config.sync = sync;
    NatsServer::start(StartOptions::new(binary, config)).await.expect("start the server")
}

async fn connected(server: &NatsServer) -> Nats {
    connect(&NatsOptions { nats_url: server.client_url(), nats_creds: None }, "story").await.expect("connect")
}

/// Writers append histories without a pause; when enough is acknowledged the server stands still in the middle of it.
async fn write_until_the_cut(nats: &Nats, server: &NatsServer) -> BTreeMap<u64, Bytes> {
    let journal = Journal::start(nats.clone(), StreamName::History, Duration::from_secs(10));
    let acknowledged: Arc<Mutex<BTreeMap<u64, Bytes>>> = Arc::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (journal, acknowledged) = (journal.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                loop {
                    let id = WorkflowId::random();
                    let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id };
                    let body = Bytes::from(format!(r#"{{"id":"{id}"}}"#));
                    let outgoing = Outgoing {
                        subject: Subject::History(workflow),
                        headers: HeaderMap::new(),
                        payload: body.clone(),
                        expected: Some(0),
                    };
                    let Ok(sequence) = journal.append(outgoing).await else { return };
                    acknowledged.lock().expect("no writer panics").insert(sequence, body);
                }
            })
        })
        .collect();
    let enough = async || {
        let count = acknowledged.lock().expect("no writer panics").len();
        (count >= RECORDS).then_some(())
    };
    eventually("enough is acknowledged", enough).await;
    server.pause().expect("freeze the server");
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    acknowledged.lock().expect("no writer panics").clone()
}

/// Every record that there is; none when even the stream is gone.
async fn read_all(nats: &Nats) -> BTreeMap<u64, Bytes> {
    let (mut found, mut from) = (BTreeMap::new(), 1);
    if nats.jetstream.get_stream(StreamName::History.as_str()).await.is_err() {
        return found;
    }
    loop {
        let batch = read::stretch(nats, StreamName::History, from, 500, ">").await.expect("read the histories");
        from = batch.messages.last().map_or(from, |last| last.sequence + 1);
        found.extend(batch.messages.into_iter().map(|record| (record.sequence, record.payload)));
        if !batch.more {
            return found;
        }
    }
}

/// An ext4 file system in an image file. It is gone when it is dropped.
struct Disk {
    folder: TempDir,
    device: String,
}

impl Disk {
    /// An empty one, or none where this user cannot make one.
    fn new() -> Option<Self> {
        let folder = TempDir::with_prefix("power-cut-").expect("a folder");
        let image = image(folder.path());
        fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).expect("an image file");
        let made = run("mkfs.ext4", &["-q", "-F", path(&image)]).and_then(|_| Self::attach(folder));
        match made {
            Ok(disk) => Some(disk),
            Err(missing) => {
                assert!(
                    std::env::var_os("CHECKOUT_REQUIRE_POWER_CUT").is_none(),
                    "no disk to cut the power of: {missing}"
                );
                eprintln!("SKIPPED a power cut: it needs root, loop devices and mkfs.ext4: {missing}");
                None
            }
        }
    }

    fn attach(folder: TempDir) -> Result<Self, String> {
        let mount_point = folder.path().join("disk");
        fs::create_dir(&mount_point).map_err(|error| error.to_string())?;
        // Past the page cache: otherwise a write that nobody has synced would be in the image, too.
        let device = run("losetup", &["--find", "--show", "--direct-io=on", path(&image(folder.path()))])?;
        let disk = Self { folder, device };
        run("mount", &["-t", "ext4", &disk.device, path(&mount_point)])?;
        Ok(disk)
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// The disk as the power cut leaves it: a copy of the image at one moment, mounted. Whatever writes must stand still; the
    /// kernel may still send something to the disk, so it is copied again until nothing was written meanwhile.
    async fn as_it_is(&self) -> Self {
        let folder = TempDir::with_prefix("power-cut-").expect("a folder");
        let (from, to) = (image(self.folder.path()), image(folder.path()));
        let written_at = || fs::metadata(&from).and_then(|metadata| metadata.modified()).expect("the image");
        eventually("the disk stands still", async || {
            let before = written_at();
            run("cp", &["--sparse=always", path(&from), path(&to)]).expect("copy the image");
            (written_at() == before).then_some(())
        })
        .await;
        Self::attach(folder).expect("mount the copy, as the machine does when the power is back")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let folder = self.folder();
        for (program, arguments) in [("umount", vec![path(&folder)]), ("losetup", vec!["--detach", &self.device])] {
            if let Err(error) = run(program, &arguments) {
                eprintln!("a disk of a power cut is left over: {error}");
            }
        }
    }
}

fn image(folder: &Path) -> PathBuf {
    folder.join("image")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a folder for temporary files with a readable name")
}

/// What a program says; why it failed otherwise.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
