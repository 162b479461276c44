//! The history of one workflow: read, checked, folded; and continued by guarded appends.

mod cache;
mod store;

use std::{sync::Arc, time::Duration};

use async_nats::HeaderMap;
use common::{
    headers,
    ids::{WorkflowId, WorkflowRef},
    nats::{
        AppendError, Outgoing,
        read::{ReadError, Stored},
    },
    record::{BrokenHistory, ChainEnd, Record, joined_types},
    subject::Subject,
    time::Timestamp,
};
use tokio::time::Instant;

pub use cache::HistoryCache;
pub use store::{HistoryStore, MemoryHistory, NatsHistory};

use crate::workflow::{Next, Workflow};

/// A workflow as its history tells it, and where the history ends.
#[derive(Debug)]
pub struct Replayed<W> {
    /// The state after the last record.
    pub state: W,
    /// The last record's sequence in the stream; 0 when there is none.
    pub revision: u64,
    /// What the next record must continue.
    pub chain: ChainEnd,
    /// The last record's time.
    pub last_at: Timestamp,
    /// The time of the wake-up call that is known to be set for this workflow.
    pub timer: Option<Timestamp>,
    /// The trace that the last record belongs to: an entry of the ledger, which tells many workflows, brings none.
    pub trace_parent: Option<String>,
}

impl<W: Workflow> Default for Replayed<W> {
    fn default() -> Self {
        Self {
            state: W::default(),
            revision: 0,
            chain: ChainEnd::default(),
            last_at: Timestamp::UNIX_EPOCH,
            timer: None,
            trace_parent: None,
        }
    }
}

/// Why a history could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The server could not be asked: worth another try.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be trusted: nothing may be done for this workflow.
    #[error("the history of {workflow} cannot be trusted: {source}")]
    Broken {
        /// Whose.
        workflow: WorkflowRef,
        /// What is wrong with it.
        source: BrokenHistory,
    },
}

/// Fold stored records, checking that each continues the one before it.
///
/// # Errors
/// [`BrokenHistory`] at the first record that cannot be read or does not fit.
pub fn replay<W: Workflow>(id: WorkflowId, stored: &[Stored]) -> Result<Replayed<W>, BrokenHistory> {
    let mut replayed = Replayed::default();
    for message in stored {
        let record: Record<W::Event> = replayed.chain.read_next(&message.payload)?;
        replayed.fold(&record.events, id);
        replayed.revision = message.sequence;
        replayed.last_at = record.at;
    }
    let last = stored.last().and_then(|last| last.headers.get(headers::TRACE_PARENT));
    replayed.trace_parent = last.map(ToString::to_string);
    Ok(replayed)
}

impl<W: Workflow> Replayed<W> {
    fn fold(&mut self, events: &[W::Event], id: WorkflowId) {
        common::panic_point!("worker.evolve", id);
        self.state = events.iter().fold(std::mem::take(&mut self.state), W::evolve);
    }
}

/// A healthy replica is milliseconds behind; one that is further behind is left to the next delivery of the message.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at a replica that is behind.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(10);

/// The histories of all workflows, over one store; clones share it.
#[derive(Clone)]
pub struct History {
    store: Arc<dyn HistoryStore>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl History {
    /// Histories that are kept in a store.
    #[must_use]
    pub fn new(store: Arc<dyn HistoryStore>) -> Self {
        Self { store }
    }

    /// Read and fold a history.
    ///
    /// # Errors
    /// [`HistoryError`] when it cannot be read or cannot be trusted.
    pub async fn load<W: Workflow>(&self, id: WorkflowId) -> Result<Replayed<W>, HistoryError> {
        let workflow = WorkflowRef { kind: W::KIND, id };
        let stored = self.store.read(workflow).await?;
        replay(id, &stored).map_err(|source| HistoryError::Broken { workflow, source })
    }

    /// Read and fold a history up to a revision that is known to be stored. A replica that is behind is asked again.
    ///
    /// # Errors
    /// As [`History::load`]; and when no replica has that revision within a second.
    pub async fn load_at_least<W: Workflow>(&self, id: WorkflowId, revision: u64) -> Result<Replayed<W>, HistoryError> {
        let asked_since = Instant::now();
        loop {
            let replayed = self.load(id).await?;
            if replayed.revision >= revision {
                return Ok(replayed);
            }
            if asked_since.elapsed() > CATCH_UP_PATIENCE {
                let reason = format!("no replica has record {revision} of {} {id} yet", W::KIND);
                return Err(ReadError { stream: "HISTORY", reason }.into());
            }
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
    }

    /// The sequence of a history's last record, 0 when there is none; nothing newer is stored.
    ///
    /// # Errors
    /// [`HistoryError::Read`] when the store cannot be asked.
    pub async fn newest_revision<W: Workflow>(&self, id: WorkflowId) -> Result<u64, HistoryError> {
        Ok(self.store.newest_revision(WorkflowRef { kind: W::KIND, id }).await?)
    }

    /// Append the events of one decision as one record, and fold them when they are stored.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when somebody else has moved the workflow: load again, decide again. The state in
    /// hand must not be used after any error.
    pub async fn append<W: Workflow>(
        &self,
        id: WorkflowId,
        mut replayed: Replayed<W>,
        events: Vec<W::Event>,
        at: Timestamp,
        trace_parent: Option<&str>,
    ) -> Result<Replayed<W>, AppendError> {
        replayed.fold(&events, id);
        // Time never goes back within a history, whatever a worker's clock says.
        let at = at.max(replayed.last_at);
        let record = Record {
            types: joined_types(&events),
            index: replayed.chain.next_index,
            status: replayed.state.status().to_owned(),
            at,
            events,
            previous: replayed.chain.hash.take(),
        };
        let workflow = WorkflowRef { kind: W::KIND, id };
        let payload = record.to_bytes().map_err(|error| AppendError::Refused {
            subject: Subject::History(workflow).to_string(),
            code: 0,
            reason: format!("the record cannot be written as JSON: {error}"),
        })?;
        replayed.chain.extend(&payload);
        common::crash_point!("worker.history.before_append");
        let outgoing = Outgoing {
            subject: Subject::History(workflow),
            headers: record_headers(&record, &replayed.state.next(id), trace_parent),
            payload: payload.into(),
            expected: Some(replayed.revision),
        };
        replayed.revision = self.store.append(outgoing).await?;
        common::crash_point!("worker.history.after_append");
        replayed.last_at = at;
        replayed.trace_parent = trace_parent.map(str::to_owned);
        Ok(replayed)
    }
}

/// What people see in `nats stream view`, and what the sweep reads without the body.
fn record_headers<E>(record: &Record<E>, next: &Next, trace_parent: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(headers::TYPE, record.types.as_str());
    headers.insert(headers::INDEX, record.index.to_string());
    headers.insert(headers::STATUS, record.status.as_str());
    headers.insert(headers::SENDER, crate::SERVICE);
    match next {
        Next::Run(_) => headers.insert(headers::NEXT, "run"),
        Next::Done => headers.insert(headers::NEXT, "done"),
        Next::Wait { until } => {
            headers.insert(headers::NEXT, "wait");
            if let Some(until) = until {
                headers.insert(headers::WAIT_UNTIL, until.to_string());
            }
        }
    }
    if let Some(trace_parent) = trace_parent {
        headers.insert(headers::TRACE_PARENT, trace_parent);
    }
    headers
}
