//! The stock that others read: the last message of `inventory.stock.<sku>`, written after the ledger, in the background.
//!
//! Only the newest level of each article is written, however many movements there were in between. It may be thrown away
//! (purge the stream and start the service again): it is rebuilt from the ledger. It never goes back: every write names
//! the message that it follows, so an instance that was paused cannot write over a newer level.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::HeaderMap;
use common::{
    contracts::inventory::{StockLevel, StockProjection, StockProjectionType},
    crash_point, headers,
    ids::Sku,
    nats::{
        Journal, Nats, Outgoing,
        append::AppendError,
        read::{ReadError, last},
    },
    streams::StreamName,
    subject::Subject,
};
use futures_util::{StreamExt as _, stream};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::SERVICE;

/// Between the beginnings of two flushes: a person does not see it, and a hot article costs 5 messages a second at most.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// After a flush that failed in part.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long one write is tried; what could not be written stays marked.
const PATIENCE: Duration = Duration::from_secs(15);

/// Articles that are read or written at a time: enough to fill one commit of the journal.
const AT_A_TIME: usize = 256;

/// How often a write that loses against another instance looks again, before it waits for the next flush.
const MOST_LOOKS: usize = 5;

/// A handle to the background task.
pub(crate) struct Projection {
    marked: Arc<Marked>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The levels that are to be written: at most one for each article.
#[derive(Default)]
struct Marked {
    levels: Mutex<BTreeMap<Sku, Wanted>>,
    changed: Notify,
}

#[derive(Debug, Clone)]
struct Wanted {
    projection: StockProjection,
    /// Another instance may have written it since we last did: look before writing.
    look_first: bool,
}

impl Marked {
    fn levels(&self) -> MutexGuard<'_, BTreeMap<Sku, Wanted>> {
        // Nothing can panic while the lock is held; if it did, the map would still be whole.
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Projection {
    pub(crate) fn start(nats: Nats) -> Self {
        let (marked, stop) = (Arc::new(Marked::default()), CancellationToken::new());
        let writer = Writer {
            journal: Journal::start(nats.clone(), StreamName::Stock, PATIENCE),
            nats,
            written: Mutex::new(HashMap::new()),
        };
        let task = tokio::spawn(writer.run(marked.clone(), stop.clone()));
        Self { marked, stop, task }
    }

    /// These levels are true up to the ledger's entry `ledger_index`; they are written soon.
    pub(crate) fn mark(&self, levels: impl IntoIterator<Item = StockLevel>, ledger_index: u64) {
        self.mark_wanted(levels, ledger_index, false);
    }

    /// The same, where another instance may have written these articles since we did.
    pub(crate) fn mark_unsure(&self, levels: impl IntoIterator<Item = StockLevel>, ledger_index: u64) {
        self.mark_wanted(levels, ledger_index, true);
    }

    fn mark_wanted(&self, levels: impl IntoIterator<Item = StockLevel>, ledger_index: u64, look_first: bool) {
        let mut marked = self.marked.levels();
        for level in levels {
            let sku = level.sku.clone();
            let projection = StockProjection { projection_type: StockProjectionType::Stock, level, ledger_index };
            let look_first = look_first || marked.get(&sku).is_some_and(|wanted| wanted.look_first);
            marked.insert(sku, Wanted { projection, look_first });
        }
        drop(marked);
        self.marked.changed.notify_one();
    }

    /// Write what is marked. May be given up at any time: stock levels are compared at the next start.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "writing the stock levels broke off; they are compared at the next start");
        }
    }
}

struct Writer {
    nats: Nats,
    journal: Journal,
    /// The sequence of the last message that we know of each article.
    written: Mutex<HashMap<Sku, u64>>,
}

#[derive(Debug, thiserror::Error)]
enum NotWritten {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the level cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl Writer {
    async fn run(self, marked: Arc<Marked>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.flush(&marked).await;
                    return;
                }
                () = marked.changed.notified() => {}
            }
            let next_flush = Instant::now() + FLUSH_INTERVAL;
            let is_complete = self.flush(&marked).await;
            let next_flush = if is_complete { next_flush } else { Instant::now() + RETRY_PAUSE };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until(next_flush) => {}
            }
        }
    }

    /// Write everything that is marked; what fails is marked again, unless it is already marked with something newer.
    async fn flush(&self, marked: &Marked) -> bool {
        let wanted = std::mem::take(&mut *marked.levels());
        let failed: Vec<(Wanted, NotWritten)> = stream::iter(wanted.into_values())
            .map(|wanted| async move { self.write(&wanted).await.err().map(|error| (wanted, error)) })
            .buffer_unordered(AT_A_TIME)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let Some((_, error)) = failed.first() else { return true };
        tracing::warn!(%error, articles = failed.len(), "stock levels could not be written; they will be tried again");
        let mut levels = marked.levels();
        for (mut wanted, _) in failed {
            wanted.look_first = true;
            levels.entry(wanted.projection.level.sku.clone()).or_insert(wanted);
        }
        drop(levels);
        marked.changed.notify_one();
        false
    }

    async fn write(&self, wanted: &Wanted) -> Result<(), NotWritten> {
        let sku = &wanted.projection.level.sku;
        if wanted.look_first {
            self.written().remove(sku);
        }
        let mut outcome = Ok(());
        for _ in 0..MOST_LOOKS {
            let known = self.written().get(sku).copied();
            let expected = match known {
                Some(sequence) => sequence,
                None => match self.look(wanted).await? {
                    Look::IsWritten => return Ok(()),
                    Look::Behind { sequence } => sequence,
                },
            };
            match self.append(&wanted.projection, expected).await {
                Ok(sequence) => {
                    self.written().insert(sku.clone(), sequence);
                    return Ok(());
                }
                Err(error @ NotWritten::Append(AppendError::Conflict { .. })) => outcome = Err(error),
                Err(error) => return Err(error),
            }
            self.written().remove(sku);
        }
        outcome
    }

    /// What stands there now.
    async fn look(&self, wanted: &Wanted) -> Result<Look, NotWritten> {
        let StockProjection { level, ledger_index, .. } = &wanted.projection;
        let Some(stored) = last(&self.nats, StreamName::Stock, &Subject::Stock(level.sku.clone())).await? else {
            return Ok(Look::Behind { sequence: 0 });
        };
        let sequence = stored.sequence;
        // What cannot be read is written over: the ledger knows better.
        let Ok(found) = serde_json::from_slice::<StockProjection>(&stored.payload) else {
            return Ok(Look::Behind { sequence });
        };
        if found.level == *level || found.ledger_index > *ledger_index {
            self.written().insert(level.sku.clone(), sequence);
            return Ok(Look::IsWritten);
        }
        Ok(Look::Behind { sequence })
    }

    async fn append(&self, projection: &StockProjection, expected: u64) -> Result<u64, NotWritten> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, "stock");
        headers.insert(headers::SENDER, SERVICE);
        let outgoing = Outgoing {
            subject: Subject::Stock(projection.level.sku.clone()),
            headers,
            payload: serde_json::to_vec(projection)?.into(),
            expected: Some(expected),
        };
        crash_point!("inventory.projection.before_append");
        let stored = self.journal.append(outgoing).await;
        crash_point!("inventory.projection.after_append");
        Ok(stored?)
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Sku, u64>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    IsWritten,
    Behind { sequence: u64 },
}
