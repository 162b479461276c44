//! The database: one writer that commits a group of operations at once, and readers that never wait for it.
//!
//! An operation is answered after its transaction is on disk. While one group is being synced the next one gathers,
//! so many callers share one sync and a single caller waits for no timer.

use std::{ops::Bound, path::Path, sync::Arc};

use anyhow::Context as _;
use common::crash_point;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError};
use tokio::sync::{mpsc, oneshot};

use crate::{
    books::{Books, BooksError, EVENTS, PENDING, Refusal, SESSION_EVENTS, SESSIONS, decode},
    events::{Event, Pending},
    session::Session,
};

/// Most operations in one transaction; more than that gain little and make the first one wait.
const MAX_GROUP: usize = 1024;

/// Operations that wait for the writer; beyond it callers wait to be let in.
const MAX_WAITING: usize = 4096;

/// Memory for pages of the database; redb's own default of 1 GiB is too much for a small machine.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The books do not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database has failed: nobody knows whether it was done, and the service stops.
    #[error("the database has failed: {0}")]
    Failed(String),
}

/// What is called once a transaction is on disk.
type Answer = Box<dyn FnOnce() + Send>;

/// One operation for the writer.
type Job = Box<dyn FnOnce(&mut Books<'_>) -> Result<Answer, StorageError> + Send>;

/// The database of all sessions and events.
#[derive(Clone)]
pub(crate) struct Store {
    database: Arc<Database>,
    jobs: mpsc::Sender<Job>,
}

/// What the writer tells the rest of the service.
pub(crate) struct Written {
    /// Events to be delivered: first what an earlier run left, then what is committed.
    pub(crate) events: mpsc::UnboundedReceiver<Pending>,
    /// Told when the writer has ended and left the database: with the reason, if it was not asked to.
    pub(crate) ended: oneshot::Receiver<Option<String>>,
}

impl Store {
    /// Open the database in a folder, which is made if need be.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<(Self, Written)> {
        std::fs::create_dir_all(folder).with_context(|| format!("make the data folder {}", folder.display()))?;
        let file = folder.join("sandbox.redb");
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                anyhow::anyhow!("{} is in use: another payment sandbox runs on this folder", file.display())
            }
            other => anyhow::Error::new(other).context(format!("open the database {}", file.display())),
        })?;
        let database = Arc::new(database);
        let left = prepare(&database).with_context(|| format!("read the database {}", file.display()))?;

        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let (event_sender, events) = mpsc::unbounded_channel();
        let (ending, ended) = oneshot::channel();
        for pending in left {
            let _ = event_sender.send(pending);
        }
        let writing = database.clone();
        std::thread::Builder::new()
            .name("payment-books".into())
            .spawn(move || {
                let result = write_groups(&writing, waiting, &event_sender);
                drop(writing);
                let _ = ending.send(result.err().map(|error| error.to_string()));
            })
            .context("start the thread that writes the database")?;
        Ok((Self { database, jobs }, Written { events, ended }))
    }

    /// Do an operation and wait until it is on disk.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Books<'_>) -> Result<T, BooksError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |books| {
            let result = match operation(books) {
                Ok(value) => Ok(value),
                Err(BooksError::Refused(refusal)) => Err(refusal),
                Err(BooksError::Storage(error)) => return Err(error),
            };
            // The caller may have gone; what it asked for is done all the same.
            Ok(Box::new(move || drop(sender.send(result))))
        });
        let failed = || StoreError::Failed("its writer has ended".into());
        self.jobs.send(job).await.map_err(|_| failed())?;
        answer.await.map_err(|_| failed())?.map_err(StoreError::Refused)
    }

    /// A session as it was last committed.
    pub(crate) fn session(&self, id: &str) -> Result<Session, StoreError> {
        let read = || -> Result<Option<Session>, redb::Error> {
            let sessions = self.database.begin_read()?.open_table(SESSIONS)?;
            Ok(sessions.get(id)?.map(|row| decode(row.value())).transpose()?)
        };
        read().map_err(failed)?.ok_or(Refusal::UnknownSession.into())
    }

    /// Up to `limit` sessions with ids after `after`, oldest first, and whether there are more.
    pub(crate) fn sessions(&self, after: &str, limit: usize) -> Result<(Vec<Session>, bool), StoreError> {
        let read = || -> Result<(Vec<Session>, bool), redb::Error> {
            let table = self.database.begin_read()?.open_table(SESSIONS)?;
            let mut rows = table.range::<&str>((Bound::Excluded(after), Bound::Unbounded))?;
            let page: Result<Vec<Session>, StorageError> =
                rows.by_ref().take(limit).map(|row| row.and_then(|(_, row)| decode(row.value()))).collect();
            Ok((page?, rows.next().is_some()))
        };
        read().map_err(failed)
    }

    /// The events of a session, oldest first.
    pub(crate) fn events_of(&self, id: &str) -> Result<Vec<Event>, StoreError> {
        let read = || -> Result<Vec<Event>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let events = transaction.open_table(EVENTS)?;
            let mut found = Vec::new();
            for row in transaction.open_table(SESSION_EVENTS)?.range((id, 0)..=(id, u64::MAX))? {
                if let Some(event) = events.get(row?.0.value().1)? {
                    found.push(decode(event.value())?);
                }
            }
            Ok(found)
        };
        read().map_err(failed)
    }

    /// An event by its number.
    pub(crate) fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        let read = || -> Result<Option<Event>, redb::Error> {
            let events = self.database.begin_read()?.open_table(EVENTS)?;
            Ok(events.get(number)?.map(|row| decode(row.value())).transpose()?)
        };
        read().map_err(failed)
    }
}

fn failed(error: redb::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

/// Make the tables of a new database, and find the events that an earlier run has not delivered.
fn prepare(database: &Database) -> Result<Vec<Pending>, redb::Error> {
    let transaction = database.begin_write()?;
    drop(Books::open(&transaction)?);
    transaction.commit()?;
    let pending = database.begin_read()?.open_table(PENDING)?;
    let mut left = Vec::new();
    for row in pending.iter()? {
        let (number, session_id) = row?;
        let session_id = session_id.value().parse().map_err(|error| StorageError::Corrupted(format!("{error}")))?;
        left.push(Pending { number: number.value(), session_id });
    }
    Ok(left)
}

/// Until nobody is left to ask: take what waits, do it, commit it once, answer everybody.
fn write_groups(
    database: &Database,
    mut waiting: mpsc::Receiver<Job>,
    events: &mpsc::UnboundedSender<Pending>,
) -> Result<(), redb::Error> {
    let mut group = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        group.push(first);
        while group.len() < MAX_GROUP
            && let Ok(job) = waiting.try_recv()
        {
            group.push(job);
        }
        crash_point!("sandbox.before_commit");
        let (answers, new_events) = commit(database, group.drain(..))?;
        crash_point!("sandbox.after_commit");
        for answer in answers {
            answer();
        }
        for event in new_events {
            // Nobody delivers any more when the service is stopping; the event is in the database.
            let _ = events.send(event);
        }
    }
    Ok(())
}

fn commit(database: &Database, group: impl Iterator<Item = Job>) -> Result<(Vec<Answer>, Vec<Pending>), redb::Error> {
    let transaction = database.begin_write()?;
    let mut books = Books::open(&transaction)?;
    let answers = group.map(|job| job(&mut books)).collect::<Result<Vec<_>, _>>()?;
    let new_events = books.finish();
    transaction.commit()?;
    Ok((answers, new_events))
}
