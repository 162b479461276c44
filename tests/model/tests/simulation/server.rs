//! JetStream in memory, with the bad manners that were measured: publishes that arrive long after their sender gave up,
//! acks that get lost, refusals in the words of one server and of three, readers that are behind, schedules that go off
//! late, twice or never. It decides nothing: the guarded append and everything above it is the real code.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use async_nats::{HeaderMap, header};
use async_trait::async_trait;
use bytes::Bytes;
use common::{
    contracts::{
        checkout::CheckoutCommand,
        inventory::{LedgerEntry, Movement},
    },
    headers,
    ids::{WorkflowId, WorkflowRef},
    nats::{
        AppendError, Outgoing, Publish,
        append::{Answer, Wire, append},
        read::{LastAtLeader, ReadError, Stored},
    },
    streams::StreamName,
    subject::Subject,
    time::Timestamp,
};
use workflow_worker::history::HistoryStore;

use crate::{
    chance::Chance,
    checks::Truth,
    clock,
    inventory::Snapshot,
    messages::{Body, Queue},
    provider::Books,
};

/// What is taken out, to see that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// Records are appended wherever the history ends.
    ExpectedSequenceOfHistory,
    /// Entries are appended wherever the ledger ends.
    ExpectedSequenceOfLedger,
    /// A message is gone once it is delivered.
    AckAfterTurn,
    /// The leader may answer what a replica that is behind would.
    NewestStateBeforeAck,
    /// The provider opens a session for each call.
    SessionKey,
    /// The provider gives money back for each call.
    RefundKey,
    /// The provider says that a session is closed and leaves it open.
    CloseBeforeRelease,
    /// Schedules never go off.
    Timers,
}

/// Everything that outlives processes.
pub struct Inner {
    /// What happens next.
    pub chance: Chance,
    /// Whether things go wrong.
    pub faults: bool,
    /// Whether three servers answer, or one.
    pub replicated: bool,
    /// Calls to the provider in a hundred that get no answer, whether they are carried out or not.
    pub unanswered_percent: usize,
    /// What is taken out.
    pub without: Option<Without>,
    /// What happened, for people; none when nobody reads it.
    pub trace: Option<Vec<String>>,
    /// The first thing that was found to be wrong.
    pub broken: Option<String>,
    /// The stream HISTORY, by subject.
    pub histories: BTreeMap<WorkflowRef, Vec<Stored>>,
    /// The stream INVENTORY.
    pub ledger: Vec<Stored>,
    /// Snapshots of the inventory.
    pub snapshots: Vec<Snapshot>,
    /// What customers have asked for.
    pub starts: Vec<(WorkflowId, CheckoutCommand)>,
    /// COMMANDS, WEBHOOKS and what became due in TIMERS.
    pub for_workers: Queue,
    /// INVENTORY_COMMANDS.
    pub for_inventory: Queue,
    /// Schedules in TIMERS.
    pub timers: BTreeMap<WorkflowRef, Timestamp>,
    /// Whether somebody has purged TIMERS.
    pub timers_purged: bool,
    /// Publishes that are still on their way.
    pub late: Vec<(async_nats::Subject, HeaderMap, Bytes)>,
    /// The payment provider.
    pub provider: Books,
    /// What is checked against.
    pub truth: Truth,
    last_sequence: u64,
}

/// A handle to the world; clones share it.
#[derive(Clone)]
pub struct Server(Arc<Mutex<Inner>>);

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    pub fn new(seed: u64, without: Option<Without>, is_told: bool) -> Self {
        let mut chance = Chance::of(seed);
        let replicated = chance.percent(50);
        // Three in a row make a failed round: only a provider in real trouble shows what becomes of those.
        let unanswered_percent = [0, 20, 50, 80][chance.below(4)];
        Self(Arc::new(Mutex::new(Inner {
            chance,
            faults: true,
            replicated,
            unanswered_percent,
            without,
            trace: is_told.then(Vec::new),
            broken: None,
            histories: BTreeMap::new(),
            ledger: Vec::new(),
            snapshots: Vec::new(),
            starts: Vec::new(),
            for_workers: Queue::default(),
            for_inventory: Queue::default(),
            timers: BTreeMap::new(),
            timers_purged: false,
            late: Vec::new(),
            provider: Books::default(),
            truth: Truth::default(),
            last_sequence: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody else may go first: the future is not ready when it is asked for the first time.
pub fn pause() -> impl Future<Output = ()> + Send {
    let mut has_paused = false;
    std::future::poll_fn(
        move |_| {
            if std::mem::replace(&mut has_paused, true) { Poll::Ready(()) } else { Poll::Pending }
        },
    )
}

/// A task of a process.
pub type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Inner {
    /// Note what happened.
    pub fn tell(&mut self, words: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", clock::now(), words()));
        }
    }

    /// Something is wrong.
    pub fn complain(&mut self, what: String) {
        self.tell(|| format!("BROKEN: {what}"));
        self.broken.get_or_insert(what);
    }

    fn goes_wrong(&mut self, percent: usize) -> bool {
        self.faults && self.chance.percent(percent)
    }

    /// A publish reaches the stream.
    pub fn store(&mut self, subject: &async_nats::Subject, headers: HeaderMap, payload: Bytes) -> Answer {
        let Ok(parsed) = subject.parse::<Subject>() else {
            return Answer::of_error(0, format!("no stream listens on {subject}"));
        };
        let expected = headers.get(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE);
        let expected: Option<u64> = expected.and_then(|text| text.as_str().parse().ok());
        let last = self.last_sequence_of(&parsed);
        let is_guarded = match self.without {
            Some(Without::ExpectedSequenceOfHistory) => !matches!(parsed, Subject::History(_)),
            Some(Without::ExpectedSequenceOfLedger) => !matches!(parsed, Subject::InventoryLedger),
            _ => true,
        };
        if expected.is_some_and(|expected| expected != last) && is_guarded {
            let code = if self.replicated && self.chance.percent(50) { 10_164 } else { 10_071 };
            self.tell(|| format!("{subject} refused: {last} is the last, not {expected:?}"));
            return Answer::of_error(code, "wrong last sequence".to_owned());
        }
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.tell(|| format!("{subject} stored as {sequence}: {}", String::from_utf8_lossy(&payload)));
        let stored = Stored { sequence, subject: subject.to_string(), time: clock::now(), headers, payload };
        self.keep(parsed, stored);
        Answer::Stored { sequence }
    }

    /// How many messages were ever stored.
    pub fn stored(&self) -> u64 {
        self.last_sequence
    }

    fn last_sequence_of(&self, subject: &Subject) -> u64 {
        let last = match subject {
            Subject::History(workflow) => self.histories.get(workflow).and_then(|all| all.last()),
            Subject::InventoryLedger => self.ledger.last(),
            _ => None,
        };
        last.map_or(0, |last| last.sequence)
    }

    fn keep(&mut self, subject: Subject, stored: Stored) {
        let now = clock::now();
        match subject {
            Subject::History(workflow) => {
                self.histories.entry(workflow).or_default().push(stored.clone());
                self.check_record(workflow, &stored);
            }
            Subject::InventoryLedger => {
                self.ledger.push(stored.clone());
                self.check_entry(&stored);
                self.tell_workers(&stored);
            }
            Subject::Command(workflow) => self.for_workers.put(Body::Command(workflow, stored.payload), now),
            Subject::InventoryCommand(_) => self.for_inventory.put(Body::Inventory(stored.payload), now),
            Subject::Timer(workflow) => {
                let at = stored.headers.get(header::NATS_SCHEDULE).map(|at| at.as_str().trim_start_matches("@at "));
                match at.and_then(|at| at.parse().ok()) {
                    Some(at) => drop(self.timers.insert(workflow, at)),
                    None => self.complain(format!("the schedule of {workflow} cannot be read: {at:?}")),
                }
            }
            other => self.complain(format!("nobody should publish on {other} here")),
        }
    }

    /// Workers read the ledger: every part of an entry comes to its workflow as a command would.
    fn tell_workers(&mut self, stored: &Stored) {
        let Ok(entry) = serde_json::from_slice::<LedgerEntry>(&stored.payload) else { return };
        for (workflow, answer) in entry.movements.iter().filter_map(Movement::answer) {
            let command = serde_json::to_vec(&CheckoutCommand::StockAnswer { answer }).unwrap_or_default();
            self.for_workers.put(Body::Command(workflow, command.into()), clock::now());
        }
    }
}

/// A publish that its sender has begun: when the sender dies, it may still arrive.
struct OnItsWay {
    server: Server,
    message: Option<(async_nats::Subject, HeaderMap, Bytes)>,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            let mut world = self.server.lock();
            if world.faults && world.chance.percent(50) {
                world.late.push(message);
            }
        }
    }
}

#[async_trait]
impl Wire for Server {
    async fn publish(&self, subject: async_nats::Subject, headers: HeaderMap, payload: Bytes) -> Answer {
        let mut on_its_way = OnItsWay { server: self.clone(), message: Some((subject, headers, payload)) };
        pause().await;
        let taken = on_its_way.message.take();
        let Some((subject, headers, payload)) = taken else { return Answer::Unknown("nothing was sent".to_owned()) };
        let answer = {
            let mut world = self.lock();
            if world.goes_wrong(4) {
                world.tell(|| format!("{subject} is not heard of; it may arrive later"));
                world.late.push((subject, headers, payload));
                Answer::Unknown("timed out".to_owned())
            } else if world.goes_wrong(3) {
                let code = [10_077, 10_163, 10_023, 10_158][world.chance.below(4)];
                Answer::of_error(code, "try again".to_owned())
            } else {
                let answer = world.store(&subject, headers, payload);
                if world.goes_wrong(4) { Answer::Unknown("the ack was lost".to_owned()) } else { answer }
            }
        };
        pause().await;
        answer
    }

    async fn last_at_leader(&self, stream: StreamName, subject: &str) -> Result<Option<LastAtLeader>, ReadError> {
        pause().await;
        let mut world = self.lock();
        if world.goes_wrong(3) {
            return Err(ReadError { stream: stream.as_str(), reason: "no leader".to_owned() });
        }
        // A server that led the stream and has not heard of the new leader yet answers, too.
        let behind = if world.replicated && world.goes_wrong(5) { 1 + world.chance.below(2) } else { 0 };
        let all = match subject.parse::<Subject>() {
            Ok(Subject::History(workflow)) => world.histories.get(&workflow).map_or(&[][..], Vec::as_slice),
            Ok(Subject::InventoryLedger) => &world.ledger,
            _ => &[],
        };
        let last = all.iter().rev().nth(behind);
        Ok(last.map(|last| LastAtLeader {
            sequence: last.sequence,
            record_id: last.headers.get(headers::RECORD_ID).map(|id| id.as_str().to_owned()),
            redriven_from: None,
        }))
    }
}

/// As the services' own: twice an unclean leader change.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

/// A stream that messages are stored in.
#[derive(Debug, Clone)]
pub struct Stream(pub Server, pub StreamName);

#[async_trait]
impl Publish for Stream {
    async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError> {
        append(&self.0, self.1, outgoing, PATIENCE).await
    }
}

#[async_trait]
impl HistoryStore for Server {
    async fn read(&self, workflow: WorkflowRef) -> Result<Vec<Stored>, ReadError> {
        pause().await;
        let mut world = self.lock();
        if world.goes_wrong(2) {
            return Err(ReadError { stream: "HISTORY", reason: "timed out".to_owned() });
        }
        let mut stored = world.histories.get(&workflow).cloned().unwrap_or_default();
        if world.goes_wrong(10) {
            // A replica that is behind.
            let behind = world.chance.below(3);
            stored.truncate(stored.len().saturating_sub(behind));
        }
        Ok(stored)
    }

    async fn newest_revision(&self, workflow: WorkflowRef) -> Result<u64, ReadError> {
        pause().await;
        let mut world = self.lock();
        if world.goes_wrong(2) {
            return Err(ReadError { stream: "HISTORY", reason: "timed out".to_owned() });
        }
        let is_behind = world.without == Some(Without::NewestStateBeforeAck) && world.chance.percent(50);
        let all = world.histories.get(&workflow).map_or(&[][..], Vec::as_slice);
        let last = if is_behind { all.split_last().and_then(|(_, rest)| rest.last()) } else { all.last() };
        Ok(last.map_or(0, |last| last.sequence))
    }

    async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError> {
        append(self, StreamName::History, outgoing, PATIENCE).await
    }
}
