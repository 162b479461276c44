//! Snapshots bound the start: the state up to a ledger entry, then only the tail is read.
//!
//! A snapshot is an object of two lines: what it is (JSON), and the state (JSON). It is only a shortcut: one that cannot
//! be read or does not match its hash is ignored with a warning, and the ledger is read in full. What is *not* ignored is a
//! sound snapshot of entries that the ledger does not have: then the ledger has lost them.

use anyhow::{Context as _, bail};
use async_nats::jetstream::object_store::ObjectStore;
use common::{
    crash_point,
    nats::Nats,
    record::{ChainEnd, RecordHash},
    streams::INVENTORY_SNAPSHOTS,
    time::{Timestamp, now},
};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt as _, task::JoinHandle};

use crate::{
    journal::{Current, LastUnknown, check_entry_at},
    ledger::Ledger,
};

/// The newest, and the one before it in case the newest is damaged.
const SNAPSHOTS_KEPT: usize = 2;

/// A snapshot is due only when the ledger has grown by at least a quarter of the last one's size: so however much there is to
/// remember, snapshots write at most four times what the ledger itself writes, and the tail stays short beside the state.
const SIZE_PER_LEDGER_BYTE: u64 = 4;

/// The first line of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Heading {
    /// Always `ledger_snapshot`.
    #[serde(rename = "type")]
    snapshot_type: SnapshotType,
    /// The stream sequence of the last entry in it.
    sequence: u64,
    /// The index of the next entry.
    next_index: u64,
    /// The hash of the last entry.
    previous: Option<RecordHash>,
    /// The hash of the second line.
    state_hash: RecordHash,
    /// When it was written, for people.
    written_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SnapshotType {
    LedgerSnapshot,
}

/// A snapshot as it is stored.
#[derive(Debug, Clone)]
pub struct Snapshot {
    heading: Heading,
    ledger: Ledger,
}

/// Why a snapshot cannot be used. The ledger is read in full then.
#[derive(Debug, thiserror::Error)]
pub enum UnusableSnapshot {
    /// It is not two lines.
    #[error("it is cut off: there is no second line")]
    CutOff,
    /// The first line is not a heading.
    #[error("its heading cannot be read: {0}")]
    Heading(serde_json::Error),
    /// The second line was changed after it was written.
    #[error("its state has hash {found}, its heading says {expected}")]
    OtherHash {
        /// What the heading says.
        expected: RecordHash,
        /// What the bytes have.
        found: RecordHash,
    },
    /// The second line is not a state of this version.
    #[error(transparent)]
    State(#[from] crate::ledger::UnreadableState),
}

impl Snapshot {
    /// Read a snapshot and check it against its own hash.
    ///
    /// # Errors
    /// [`UnusableSnapshot`] when it is damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnusableSnapshot> {
        let line_break = bytes.iter().position(|byte| *byte == b'\n').ok_or(UnusableSnapshot::CutOff)?;
        let (heading, state) = (&bytes[..line_break], &bytes[line_break + 1..]);
        let heading: Heading = serde_json::from_slice(heading).map_err(UnusableSnapshot::Heading)?;
        let found = RecordHash::of(state);
        if found != heading.state_hash {
            return Err(UnusableSnapshot::OtherHash { expected: heading.state_hash, found });
        }
        Ok(Self { heading, ledger: Ledger::from_bytes(state)? })
    }

    /// The ledger's state in it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The stream sequence of the last ledger entry in it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.heading.sequence
    }

    fn into_current(self) -> Current {
        let Heading { sequence, next_index, previous, .. } = self.heading;
        Current { ledger: self.ledger, sequence, end: ChainEnd { next_index, hash: previous } }
    }
}

fn snapshot_bytes(current: &Current) -> serde_json::Result<Vec<u8>> {
    let state = current.ledger.to_bytes()?;
    let heading = Heading {
        snapshot_type: SnapshotType::LedgerSnapshot,
        sequence: current.sequence,
        next_index: current.end.next_index,
        previous: current.end.hash.clone(),
        state_hash: RecordHash::of(&state),
        written_at: now(),
    };
    let mut bytes = serde_json::to_vec(&heading)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&state);
    Ok(bytes)
}

/// So named, the names sort like the entries.
fn object_name(next_index: u64) -> String {
    format!("ledger-{next_index:020}")
}

/// When snapshots are written, and the one that is being written.
pub(crate) struct Snapshots {
    store: Option<ObjectStore>,
    every: u64,
    entries_since: u64,
    bytes_since: u64,
    last_bytes: u64,
    writing: Option<JoinHandle<anyhow::Result<u64>>>,
}

impl Snapshots {
    pub(crate) async fn open(nats: &Nats, every: u64) -> Self {
        let store = match nats.jetstream.get_object_store(INVENTORY_SNAPSHOTS).await {
            Ok(store) => Some(store),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "no bucket {INVENTORY_SNAPSHOTS}: every start reads the whole ledger. Run `deploy provision`"
                );
                None
            }
        };
        Self { store, every: every.max(1), entries_since: 0, bytes_since: 0, last_bytes: 0, writing: None }
    }

    /// The ledger has grown.
    pub(crate) fn grown(&mut self, entries: u64, bytes: u64) {
        self.entries_since += entries;
        self.bytes_since += bytes;
    }

    /// Begin to write a snapshot if one is due and none is being written. The loop waits only for the copy of the state.
    pub(crate) async fn write_if_due(&mut self, current: &Current) {
        self.note_outcome().await;
        let is_due = self.entries_since >= self.every
            && self.bytes_since.saturating_mul(SIZE_PER_LEDGER_BYTE) >= self.last_bytes;
        if is_due && self.writing.is_none() {
            self.begin(current);
        }
    }

    /// Write one if there is anything new in the ledger, for a quick next start. May be given up at any time.
    pub(crate) async fn write_at_stop(mut self, current: &Current) {
        if let Some(writing) = self.writing.take() {
            self.learn(writing.await);
        }
        if self.entries_since > 0 {
            self.begin(current);
        }
        if let Some(writing) = self.writing.take() {
            self.learn(writing.await);
        }
    }

    fn begin(&mut self, current: &Current) {
        let Some(store) = self.store.clone() else { return };
        (self.entries_since, self.bytes_since) = (0, 0);
        let current = current.clone();
        self.writing = Some(tokio::spawn(write(store, current)));
    }

    async fn note_outcome(&mut self) {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(writing) = self.writing.take()
        {
            self.learn(writing.await);
        }
    }

    fn learn(&mut self, outcome: Result<anyhow::Result<u64>, tokio::task::JoinError>) {
        match outcome.map_err(anyhow::Error::from).flatten() {
            Ok(bytes) => self.last_bytes = bytes,
            Err(error) => {
                metrics::counter!("inventory_snapshots_failed_total").increment(1);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a snapshot could not be written; the ledger has everything"
                );
            }
        }
    }

    /// The newest snapshot that can be used.
    async fn newest(&self) -> Option<Snapshot> {
        let store = self.store.as_ref()?;
        let names = match names_newest_first(store).await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the snapshots cannot be listed; reading the whole ledger"
                );
                return None;
            }
        };
        for name in names {
            match read(store, &name).await {
                Ok(snapshot) => return Some(snapshot),
                Err(error) => {
                    tracing::warn!(
                        snapshot = name,
                        error = format!("{error:#}"),
                        "ignoring a snapshot that cannot be used"
                    );
                }
            }
        }
        None
    }
}

/// The state as the ledger has it now: the newest good snapshot and the tail, or everything from the first entry on.
pub(crate) async fn restore(nats: &Nats, snapshots: &mut Snapshots) -> anyhow::Result<Current> {
    let mut current = match snapshots.newest().await {
        Some(snapshot) => {
            let current = snapshot.into_current();
            check_ledger_has(nats, &current).await?;
            current
        }
        None => Current::default(),
    };
    tracing::info!(from = current.sequence, "reading the ledger of stock on");
    let last = current.last_sequence(nats).await?;
    let read = current.read_on_to(nats, last).await?;
    snapshots.grown(read.entries, read.bytes);
    Ok(current)
}

async fn check_ledger_has(nats: &Nats, current: &Current) -> anyhow::Result<()> {
    if current.sequence == 0 {
        return Ok(());
    }
    let fits = match current.last_sequence(nats).await {
        Ok(_) => check_entry_at(nats, current.sequence, &current.end).await,
        Err(lost @ LastUnknown::EntriesLost { .. }) => Err(lost.into()),
        Err(unavailable) => return Err(unavailable.into()),
    };
    fits.with_context(|| {
        format!(
            "a sound snapshot holds ledger entries up to sequence {}, which the ledger does not have: INVENTORY has lost \
             entries or belongs to another installation. Restore it from a backup; or, if what it holds now is right, \
             remove the snapshots with `nats object del {INVENTORY_SNAPSHOTS}`, run `deploy provision` and start again",
            current.sequence
        )
    })
}

async fn write(store: ObjectStore, current: Current) -> anyhow::Result<u64> {
    crash_point!("inventory.before_snapshot");
    let (name, entries) = (object_name(current.end.next_index), current.end.next_index);
    let bytes = tokio::task::spawn_blocking(move || snapshot_bytes(&current)).await??;
    store.put(name.as_str(), &mut bytes.as_slice()).await.context("store the snapshot")?;
    crash_point!("inventory.after_snapshot");
    metrics::counter!("inventory_snapshots_total").increment(1);
    tracing::info!(snapshot = name, entries, bytes = bytes.len(), "wrote a snapshot of the ledger of stock");
    remove_old(&store).await.context("remove old snapshots")?;
    Ok(bytes.len() as u64)
}

async fn remove_old(store: &ObjectStore) -> anyhow::Result<()> {
    for name in names_newest_first(store).await?.into_iter().skip(SNAPSHOTS_KEPT) {
        store.delete(&name).await.with_context(|| format!("remove snapshot {name}"))?;
    }
    Ok(())
}

async fn names_newest_first(store: &ObjectStore) -> anyhow::Result<Vec<String>> {
    let mut list = store.list().await.context("list the snapshots")?;
    let mut names = Vec::new();
    while let Some(object) = list.next().await {
        let object = object.context("list the snapshots")?;
        if object.name.starts_with("ledger-") {
            names.push(object.name);
        }
    }
    names.sort_unstable_by(|left, right| right.cmp(left));
    Ok(names)
}

async fn read(store: &ObjectStore, name: &str) -> anyhow::Result<Snapshot> {
    let mut object = store.get(name).await.context("open the snapshot")?;
    let mut bytes = Vec::with_capacity(object.info().size);
    object.read_to_end(&mut bytes).await.context("read the snapshot")?;
    let snapshot = tokio::task::spawn_blocking(move || Snapshot::from_bytes(&bytes)).await??;
    if object_name(snapshot.heading.next_index) != name {
        bail!("it holds {} entries, which its name does not say", snapshot.heading.next_index);
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use common::contracts::inventory::{Movement, StockLine};
    use uuid::Uuid;

    use super::*;

    fn current() -> Current {
        let mut current = Current { sequence: 7, ..Current::default() };
        let line = StockLine { sku: "MUG".parse().expect("a sku"), quantity: 5 };
        let movement = Movement::Restocked { restock_id: Uuid::from_u128(1), line, by: None };
        current.ledger.apply(&movement, Timestamp::UNIX_EPOCH).expect("a sound movement");
        current.end.extend(b"the last entry");
        current
    }

    #[test]
    fn what_is_written_is_read_back() {
        let current = current();
        let read = Snapshot::from_bytes(&snapshot_bytes(&current).expect("writable")).expect("usable").into_current();
        assert_eq!((read.sequence, &read.end), (current.sequence, &current.end));
        assert_eq!(read.ledger.hash().expect("writable"), current.ledger.hash().expect("writable"));
    }

    #[test]
    fn a_flip_of_any_bit_is_noticed_or_changes_nothing_that_counts() {
        let current = current();
        let bytes = snapshot_bytes(&current).expect("writable");
        let hash = current.ledger.hash().expect("writable");
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                // A flip in the heading can only change a name or a place, which the ledger itself is asked about.
                if let Ok(snapshot) = Snapshot::from_bytes(&damaged) {
                    assert_eq!(snapshot.ledger.hash().expect("writable"), hash, "byte {place} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_snapshot_that_is_cut_off_is_not_used() {
        let bytes = snapshot_bytes(&current()).expect("writable");
        for length in 0..bytes.len() {
            assert!(Snapshot::from_bytes(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn names_sort_like_entries() {
        assert!(object_name(9) < object_name(10) && object_name(99) < object_name(u64::MAX));
    }
}
