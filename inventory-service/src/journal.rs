//! The ledger as it is stored: reading it on, checking its chain, and the guarded append that is the fence.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use async_nats::HeaderMap;
use common::{
    contracts::inventory::LedgerEntry,
    headers,
    ids::{Sku, WorkflowRef},
    nats::{
        Nats, Outgoing,
        append::{AppendError, append},
        read::{ReadError, Stored, ask_again, stretch},
    },
    record::{BrokenHistory, ChainEnd},
    streams::StreamName,
    subject::Subject,
};

use crate::{
    SERVICE,
    ledger::{Ledger, movement_name},
};

/// Entries per read. One holds at most half a megabyte, so this is at most 32 MB at a time.
const ENTRIES_PER_READ: usize = 64;

/// An append that is not settled by then is decided anew; a leader change takes 5 to 6 s.
const APPEND_PATIENCE: Duration = Duration::from_secs(15);

/// How long a replica that answers reads may be behind what was acked before we give up on it.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a replica that is behind; a healthy one is milliseconds behind.
const BEHIND_PAUSE: Duration = Duration::from_millis(20);

/// Between two looks while nobody answers.
const UNREADABLE_PAUSE: Duration = Duration::from_millis(500);

/// A server that has just started or become the leader may not have read everything it has: before entries are called
/// lost, it is asked so often, for longer than a leader change takes.
const LOSS_CHECKS: u32 = 10;
const LOSS_CHECK_PAUSE: Duration = Duration::from_secs(1);

/// The type in the headers of an entry without movements, for those who look at the stream.
const NOTHING_MOVED: &str = "nothing_moved";

/// The state, and the place in `inventory.ledger` up to which it is true.
#[derive(Debug, Clone, Default)]
pub(crate) struct Current {
    /// All entries up to `sequence` have happened in it, and nothing else.
    pub(crate) ledger: Ledger,
    /// The stream sequence of the last entry; 0 when there is none.
    pub(crate) sequence: u64,
    /// The index and the hash that the next entry continues.
    pub(crate) end: ChainEnd,
}

/// Entries that were read on.
#[derive(Debug, Default)]
pub(crate) struct ReadOn {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// The articles whose balance they changed.
    pub(crate) touched: BTreeSet<Sku>,
}

impl Current {
    /// Book every entry that is stored after this place; what was read is counted even when the reading stops.
    async fn read_on(&mut self, nats: &Nats, read: &mut ReadOn) -> anyhow::Result<()> {
        loop {
            let subject = Subject::InventoryLedger.to_string();
            let batch = stretch(nats, StreamName::Inventory, self.sequence + 1, ENTRIES_PER_READ, &subject).await?;
            for stored in &batch.messages {
                let entry = self.book_stored(stored)?;
                read.entries += 1;
                read.bytes += stored.payload.len() as u64;
                read.touched.extend(entry.balances.into_iter().map(|level| level.sku));
            }
            if !batch.more {
                return Ok(());
            }
            // A start after long operation reads for a while; other tasks of the process go on.
            tokio::task::yield_now().await;
        }
    }

    /// The same, and not before the entry at `sequence` is read: a replica may answer that is behind, and nobody at all while
    /// a server hangs or the connection is made again.
    pub(crate) async fn read_on_to(&mut self, nats: &Nats, sequence: u64) -> anyhow::Result<ReadOn> {
        let mut read = ReadOn::default();
        let mut behind_since = Instant::now();
        while self.sequence < sequence {
            match self.read_on(nats, &mut read).await {
                Ok(()) if self.sequence >= sequence => break,
                Ok(()) => tokio::time::sleep(BEHIND_PAUSE).await,
                Err(error) if error.is::<ReadError>() => {
                    tracing::warn!(%error, "the ledger cannot be read just now; trying again");
                    tokio::time::sleep(UNREADABLE_PAUSE).await;
                    behind_since = Instant::now();
                }
                Err(error) => return Err(error),
            }
            if behind_since.elapsed() > READ_PATIENCE {
                bail!("{} has an entry at sequence {sequence} that cannot be read", StreamName::Inventory.as_str());
            }
        }
        Ok(read)
    }

    fn book_stored(&mut self, stored: &Stored) -> anyhow::Result<LedgerEntry> {
        let untrusted = |error: anyhow::Error| error.context(untrusted_at(stored.sequence));
        let entry = read_entry(&self.end, &stored.payload).map_err(|broken| untrusted(broken.into()))?;
        self.ledger.apply_entry(&entry).map_err(|impossible| untrusted(impossible.into()))?;
        self.end.extend(&stored.payload);
        self.sequence = stored.sequence;
        Ok(entry)
    }

    /// Store an entry after this one and book it. The expected sequence is the fence: whoever was paused or is no longer
    /// the active one gets [`AppendError::Conflict`], and nothing has happened.
    ///
    /// Workers are told of every movement but those that are answered `in_person`.
    pub(crate) async fn append(
        &mut self,
        nats: &Nats,
        entry: &LedgerEntry,
        in_person: &BTreeSet<WorkflowRef>,
    ) -> Result<u64, NotAppended> {
        let payload = serde_json::to_vec(entry).context("write a ledger entry as JSON")?;
        let outgoing = Outgoing {
            subject: Subject::InventoryLedger,
            headers: entry_headers(entry, in_person),
            payload: payload.clone().into(),
            expected: Some(self.sequence),
        };
        let sequence = append(nats, StreamName::Inventory, outgoing, APPEND_PATIENCE).await?;
        self.ledger.apply_entry(entry).context("book an entry that has just been decided")?;
        self.end.extend(&payload);
        self.sequence = sequence;
        Ok(payload.len() as u64)
    }

    /// The ledger's last sequence, told by the stream's leader.
    ///
    /// Fails when it lies before this place: acked entries are gone, and what comes next would contradict them.
    pub(crate) async fn last_sequence(&self, nats: &Nats) -> Result<u64, LastUnknown> {
        let mut last = ask_leader(nats).await?;
        for _ in 0..LOSS_CHECKS {
            if last >= self.sequence {
                return Ok(last);
            }
            tokio::time::sleep(LOSS_CHECK_PAUSE).await;
            last = ask_leader(nats).await?;
        }
        Err(LastUnknown::EntriesLost { known: self.sequence, last })
    }
}

async fn ask_leader(nats: &Nats) -> Result<u64, LastUnknown> {
    let unavailable = |error: &dyn std::fmt::Display| LastUnknown::Unavailable(error.to_string());
    let name = StreamName::Inventory.as_str();
    let stream = nats.jetstream.get_stream_no_info(name).await.map_err(|error| unavailable(&error))?;
    let info = ask_again(|| stream.get_info()).await.map_err(|error| unavailable(&error))?;
    Ok(info.state.last_sequence)
}

/// Why an entry is not booked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAppended {
    /// It is not stored, or not known to be.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A defect.
    #[error(transparent)]
    Defect(#[from] anyhow::Error),
}

/// Why the ledger's last sequence is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastUnknown {
    /// The leader cannot be asked now.
    #[error("the leader of INVENTORY cannot be asked: {0}")]
    Unavailable(String),
    /// The ledger is shorter than it was.
    #[error(
        "the ledger in stream INVENTORY ends at sequence {last}, but entries up to {known} were stored before: it has lost \
         entries or was restored from an old backup. Nothing is reserved or sold until a person has looked: restore the \
         stream from a newer backup or another replica and start again"
    )]
    EntriesLost {
        /// What we have seen stored.
        known: u64,
        /// What there is.
        last: u64,
    },
}

fn read_entry(end: &ChainEnd, stored: &[u8]) -> Result<LedgerEntry, BrokenHistory> {
    let entry: LedgerEntry = serde_json::from_slice(stored)
        .map_err(|error| BrokenHistory::Unreadable { index: end.next_index, reason: error.to_string() })?;
    if entry.index != end.next_index {
        return Err(BrokenHistory::Gap { expected: end.next_index, found: entry.index });
    }
    if entry.previous != end.hash {
        let (named, actual) = (entry.previous, end.hash.clone());
        return Err(BrokenHistory::BrokenChain { index: entry.index, named, actual });
    }
    Ok(entry)
}

fn untrusted_at(sequence: u64) -> String {
    format!(
        "the ledger cannot be trusted at sequence {sequence}. Nothing is reserved or sold until a person has looked: see \
         `nats stream get INVENTORY {sequence}`, restore the stream from a backup or another replica, and start again. If \
         a newer version has written it, start that version"
    )
}

fn entry_headers(entry: &LedgerEntry, in_person: &BTreeSet<WorkflowRef>) -> HeaderMap {
    let mut types: Vec<&str> = entry.movements.iter().map(movement_name).collect();
    types.sort_unstable();
    types.dedup();
    let mut headers = HeaderMap::new();
    let types = if types.is_empty() { NOTHING_MOVED.to_owned() } else { types.join("+") };
    headers.insert(headers::TYPE, types.as_str());
    headers.insert(headers::INDEX, entry.index.to_string().as_str());
    headers.insert(headers::SENDER, SERVICE);
    if !in_person.is_empty() {
        let workflows: Vec<String> = in_person.iter().map(|workflow| workflow.id.to_string()).collect();
        headers.insert(headers::ANSWERED_IN_PERSON, workflows.join(" ").as_str());
    }
    headers
}

/// Read one entry again and see that it is the one after which `end` stands.
pub(crate) async fn check_entry_at(nats: &Nats, sequence: u64, end: &ChainEnd) -> anyhow::Result<()> {
    let subject = Subject::InventoryLedger.to_string();
    let batch = stretch(nats, StreamName::Inventory, sequence, 1, &subject).await?;
    let Some(stored) = batch.messages.first().filter(|stored| stored.sequence == sequence) else {
        bail!("there is no entry at sequence {sequence}");
    };
    let hash = common::record::RecordHash::of(&stored.payload);
    if end.hash.as_ref() == Some(&hash) {
        Ok(())
    } else {
        Err(anyhow!("the entry at sequence {sequence} has hash {hash}, expected {:?}", end.hash))
    }
}

#[cfg(test)]
mod tests {
    use common::{
        contracts::inventory::{LedgerEntryType, Movement, StockLine},
        time::Timestamp,
    };
    use uuid::Uuid;

    use super::*;

    fn stored_chain(entries: u64) -> Vec<Stored> {
        let mut end = ChainEnd::default();
        let mut ledger = Ledger::default();
        (0..entries)
            .map(|index| {
                let line = StockLine { sku: "MUG".parse().expect("a sku"), quantity: 1 };
                let movement = Movement::Restocked { restock_id: Uuid::from_u128(index.into()), line, by: None };
                ledger.apply(&movement, Timestamp::UNIX_EPOCH).expect("a sound movement");
                let entry = LedgerEntry {
                    entry_type: LedgerEntryType::Movements,
                    index,
                    previous: end.hash.clone(),
                    at: Timestamp::UNIX_EPOCH,
                    movements: vec![movement],
                    balances: ledger.levels().collect(),
                };
                let payload = serde_json::to_vec(&entry).expect("writable");
                end.extend(&payload);
                stored(index + 1, payload)
            })
            .collect()
    }

    fn stored(sequence: u64, payload: Vec<u8>) -> Stored {
        Stored {
            sequence,
            subject: Subject::InventoryLedger.to_string(),
            time: Timestamp::UNIX_EPOCH,
            headers: HeaderMap::new(),
            payload: payload.into(),
        }
    }

    fn read(messages: &[Stored]) -> anyhow::Result<Current> {
        let mut current = Current::default();
        messages.iter().try_for_each(|stored| current.book_stored(stored).map(|_| ()))?;
        Ok(current)
    }

    #[test]
    fn a_whole_chain_is_booked() {
        let current = read(&stored_chain(5)).expect("a sound ledger");
        assert_eq!((current.sequence, current.end.next_index), (5, 5));
        let level = current.ledger.level(&"MUG".parse().expect("a sku"));
        assert_eq!(level.balance.available, 5);
    }

    #[test]
    fn a_hole_a_changed_byte_and_an_unknown_word_stop_the_reading_with_what_to_do() {
        let sound = stored_chain(5);
        let mut with_a_hole = sound.clone();
        with_a_hole.remove(2);
        let mut changed = sound.clone();
        let text = String::from_utf8(changed[1].payload.to_vec()).expect("JSON");
        // Still a sound movement with sound balances: only the chain tells.
        changed[1].payload =
            text.replace("00000000-0000-0000-0000-000000000001", "10000000-0000-0000-0000-000000000001").into();
        let mut unknown = sound.clone();
        unknown[4].payload = text.replace("restocked", "teleported").into();
        for (damaged, place) in [(with_a_hole, "sequence 4"), (changed, "sequence 3"), (unknown, "sequence 5")] {
            let error = format!("{:#}", read(&damaged).expect_err("a damaged ledger"));
            assert!(error.contains(place) && error.contains("restore the stream"), "{error}");
        }
    }
}
