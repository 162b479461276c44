//! Where histories are kept: in JetStream, or in memory for tests of what is built on top. One contract suite
//! (`tests/stories/history_store.rs`) runs on both.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use common::{
    ids::WorkflowRef,
    nats::{
        AppendError, Journal, Nats, Outgoing,
        read::{self, ReadError, Stored},
        read_index::ReadIndex,
    },
    streams::StreamName,
    subject::Subject,
    time,
};

/// A store of histories: what was appended is read back for ever, and of two that append after the same record one wins.
#[async_trait]
pub trait HistoryStore: Send + Sync + 'static {
    /// A whole history, oldest first; empty when the workflow does not exist. It may be older than the newest append of
    /// another process: only an append proves that it is not.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read; nothing is known then.
    async fn read(&self, workflow: WorkflowRef) -> Result<Vec<Stored>, ReadError>;

    /// The sequence of a history's last record, 0 when there is none; nothing newer was stored before this was called.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read; nothing is known then.
    async fn newest_revision(&self, workflow: WorkflowRef) -> Result<u64, ReadError>;

    /// Append one record; gives its sequence.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when the last record of the subject is not the expected one, and nothing is stored;
    /// [`AppendError::Unavailable`] when it is not known to be stored.
    async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError>;
}

/// Histories in the stream `HISTORY`.
#[derive(Debug, Clone)]
pub struct NatsHistory {
    nats: Nats,
    journal: Journal,
    index: ReadIndex,
}

/// An unclean leader change takes 5 to 6 s; after twice that the command is handed back instead.
const APPEND_PATIENCE: Duration = Duration::from_secs(15);

impl NatsHistory {
    /// Open the journal of the histories.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        let journal = Journal::start(nats.clone(), StreamName::History, APPEND_PATIENCE);
        Self { journal, index: ReadIndex::new(nats.clone()), nats }
    }
}

#[async_trait]
impl HistoryStore for NatsHistory {
    async fn read(&self, workflow: WorkflowRef) -> Result<Vec<Stored>, ReadError> {
        read::history(&self.nats, workflow).await
    }

    async fn newest_revision(&self, workflow: WorkflowRef) -> Result<u64, ReadError> {
        self.index.newest(workflow).await
    }

    async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError> {
        self.journal.append(outgoing).await
    }
}

/// Histories in memory, with the same guard.
#[derive(Debug, Default)]
pub struct MemoryHistory {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last_sequence: u64,
    by_subject: HashMap<String, Vec<Stored>>,
}

#[async_trait]
impl HistoryStore for MemoryHistory {
    async fn read(&self, workflow: WorkflowRef) -> Result<Vec<Stored>, ReadError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.by_subject.get(&Subject::History(workflow).to_string()).cloned().unwrap_or_default())
    }

    async fn newest_revision(&self, workflow: WorkflowRef) -> Result<u64, ReadError> {
        Ok(self.read(workflow).await?.last().map_or(0, |last| last.sequence))
    }

    async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError> {
        let subject = outgoing.subject.to_string();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.by_subject.get(&subject).and_then(|all| all.last()).map_or(0, |last| last.sequence);
        if let Some(expected) = outgoing.expected
            && expected != found
        {
            return Err(AppendError::Conflict { subject, expected, found });
        }
        kept.last_sequence += 1;
        let sequence = kept.last_sequence;
        let stored = Stored {
            sequence,
            subject: subject.clone(),
            time: time::now(),
            headers: outgoing.headers,
            payload: outgoing.payload,
        };
        kept.by_subject.entry(subject).or_default().push(stored);
        Ok(sequence)
    }
}
