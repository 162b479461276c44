//! Group commit: one journal per process and stream, one commit unit in flight at a time, or two that are full.
//!
//! With `sync_interval: always` a commit is an fsync, and one fsync can carry many messages. What gathers while a unit
//! is being committed is the next unit; there is no timer. A small unit goes out as single publishes, a large one as
//! one atomic batch, and where the one becomes cheaper than the other is measured while running, because it depends
//! on the disk and on the replicas: a batch has a fixed cost of several milliseconds on a replica-1 file stream. Where a
//! stream is in several parts, each part has its own unit in flight.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::header;
use async_trait::async_trait;
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    append::{Answer, AppendError, Outgoing, Prepared, append_prepared, publish_once, settle},
    connect::Nats,
};
use crate::{
    shards::{Shard, Shards},
    streams::StreamName,
};

/// Most messages of one unit: half of what the server allows in a batch, where throughput has long been flat. For each message
/// of a batch the server walks over all subjects of the batch (2.15, `checkMsgHeadersPreClusteredProposal`), which would be four
/// times as much with twice as many.
const MAX_UNIT: usize = 500;

/// Most bytes of one unit, so that a unit of large messages does not stand in the way for seconds.
const MAX_UNIT_BYTES: usize = 4 * 1024 * 1024;

/// Appends that may wait for their unit before callers have to wait too: memory stays bounded.
const MAX_WAITING: usize = 4_096;

/// Units of one journal under way at the same time. The server commits one after the other, so a third would only wait.
const MOST_UNDER_WAY: usize = 2;

/// Below this a batch has never paid, on any disk that we measured.
const SMALLEST_BATCH: usize = 4;

/// From here on a batch has always paid: a unit of 128 took 28 ms as single publishes and 5.5 ms as a batch that is staged on
/// disk, 64 took 11 and 4 ms (`bench raw`). To try the other method with 500 would stand in everybody's way for 100 ms.
const SMALLEST_SURE_BATCH: usize = 128;

/// Every so many units of a size, times as many as it is more expensive, the method that looked worse is tried again: disks
/// and neighbours change, and no more than a sixtieth of the time goes into trials.
const UNITS_BETWEEN_TRIALS: u32 = 64;

/// So many units are committed each way before one is believed to be cheaper: the first may have met a bad moment.
const FIRST_TRIALS: u32 = 3;

/// Where messages are stored for good: a [`Journal`], or a store in memory for simulations.
#[async_trait]
pub trait Publish: std::fmt::Debug + Send + Sync + 'static {
    /// Store one message; see [`super::append::append`] for what the outcomes mean.
    ///
    /// # Errors
    /// [`AppendError`], as the guarded append gives it.
    async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError>;
}

#[async_trait]
impl Publish for Journal {
    async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError> {
        self.append(outgoing).await
    }
}

/// Makes fewer messages of those that are to be stored in one commit.
pub type Fold = fn(Vec<Outgoing>) -> Vec<Folded>;

/// One message that says what several were to say. Its outcome is the outcome of all of them.
#[derive(Debug)]
pub struct Folded {
    /// What is stored.
    pub message: Outgoing,
    /// The places in the unit of what it stands for; each place stands in exactly one.
    pub places: Vec<usize>,
}

/// A handle to the journal of one stream; clones share it.
#[derive(Debug, Clone)]
pub struct Journal {
    /// One for each part of the stream, where it has several.
    gathering: Arc<[mpsc::Sender<Gathered>]>,
    stream: StreamName,
    shards: Shards,
}

/// A message that waits for its unit.
#[derive(Debug)]
struct Gathered {
    message: Outgoing,
    outcome: OutcomeSender,
}

type OutcomeSender = oneshot::Sender<Result<u64, AppendError>>;

/// A message of a unit, and who is told what became of it.
#[derive(Debug)]
struct Waiting {
    message: Prepared,
    outcome: OutcomeSender,
    /// The others whose messages were folded into this one.
    others: Vec<OutcomeSender>,
}

impl Waiting {
    fn new(Gathered { message, outcome }: Gathered, shard: Shard) -> Self {
        Self { message: Prepared::new(message, shard), outcome, others: Vec::new() }
    }

    fn tell(self, outcome: Result<u64, AppendError>) {
        // Nobody listens any more when the caller was dropped; the message is stored all the same.
        for other in self.others {
            let _ = other.send(outcome.clone());
        }
        let _ = self.outcome.send(outcome);
    }
}

impl Journal {
    /// Start the journal of a stream; it ends when the last handle is gone. An append is tried for `patience`.
    #[must_use]
    pub fn start(nats: Nats, stream: StreamName, patience: Duration) -> Self {
        Self::begin(nats, stream, patience, None)
    }

    /// The same, for messages of which one can say what several were to say. None of them may name an expected sequence.
    #[must_use]
    pub fn folding(nats: Nats, stream: StreamName, patience: Duration, fold: Fold) -> Self {
        Self::begin(nats, stream, patience, Some(fold))
    }

    fn begin(nats: Nats, stream: StreamName, patience: Duration, fold: Option<Fold>) -> Self {
        let shards = if stream.has_parts() { nats.shards } else { Shards::ONE };
        let part = |shard| {
            let (gathering, receiver) = mpsc::channel(MAX_WAITING);
            let stream = stream.part(shard);
            let committer = Committer {
                nats: nats.clone(),
                stream,
                shard,
                patience,
                fold,
                batches_allowed: stream.config().allow_atomic_publish,
            };
            tokio::spawn(committer.run(receiver));
            gathering
        };
        Self { gathering: shards.all().map(part).collect(), stream, shards }
    }

    /// Store one message; see [`super::append::append`] for what the outcomes mean.
    ///
    /// # Errors
    /// [`AppendError`], as the guarded append gives it.
    pub async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError> {
        let subject = outgoing.subject.clone();
        let (outcome, answer) = oneshot::channel();
        let stopped = || AppendError::Unavailable {
            subject: subject.to_string(),
            seconds: 0,
            reason: format!("the journal of {} has stopped", self.stream.as_str()),
        };
        let part = self.gathering.get(self.shards.of_subject(&outgoing.subject).place()).ok_or_else(stopped)?;
        part.send(Gathered { message: outgoing, outcome }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// How a unit was committed, of how many messages, and how long it took.
type Taken = (Method, usize, Duration);

struct Committer {
    nats: Nats,
    stream: StreamName,
    shard: Shard,
    patience: Duration,
    fold: Option<Fold>,
    batches_allowed: bool,
}

impl Committer {
    async fn run(self, mut receiver: mpsc::Receiver<Gathered>) {
        let mut costs = CommitCosts::default();
        let (mut under_way, mut begun) = (FuturesUnordered::new(), 0_u64);
        loop {
            while self.may_begin(under_way.len(), receiver.len()) {
                let mut gathered = Vec::with_capacity(receiver.len().clamp(1, MAX_UNIT));
                if receiver.recv_many(&mut gathered, MAX_UNIT).await == 0 {
                    return;
                }
                begun += 1;
                let began_alone = under_way.is_empty().then_some(begun);
                let units = self.units(gathered, &mut costs);
                under_way.push(self.commit_each(began_alone, units));
            }
            // Beside another one a unit takes longer, which says nothing about the method.
            if let Some((Some(number), taken)) = under_way.next().await
                && number == begun
            {
                taken.into_iter().for_each(|(method, messages, took)| costs.learn(method, messages, took));
            }
        }
    }

    /// Whether another unit is begun. A full one does not wait for the one before: it is on the wire while the server commits
    /// that one. None of them is about what another one is about: a guarded message is only written when what it follows is
    /// stored, and what is folded goes one unit after the other.
    fn may_begin(&self, under_way: usize, waiting: usize) -> bool {
        under_way == 0 || under_way < MOST_UNDER_WAY && waiting >= MAX_UNIT && self.fold.is_none()
    }

    /// What has gathered, as units with the way in which each is committed.
    fn units(&self, gathered: Vec<Gathered>, costs: &mut CommitCosts) -> Vec<(Method, Vec<Waiting>)> {
        let unit = match self.fold {
            Some(fold) if gathered.len() > 1 => folded(gathered, fold, self.shard),
            _ => gathered.into_iter().map(|gathered| Waiting::new(gathered, self.shard)).collect(),
        };
        let mut with_method = |unit: Vec<Waiting>| {
            let may_be_a_batch = self.batches_allowed && can_be_a_batch(&unit);
            (if may_be_a_batch { costs.choose(unit.len()) } else { Method::Singles }, unit)
        };
        within_bytes(unit).into_iter().map(&mut with_method).collect()
    }

    /// One unit after the other; gives the number back that it is given, and what each has taken.
    async fn commit_each(&self, number: Option<u64>, units: Vec<(Method, Vec<Waiting>)>) -> (Option<u64>, Vec<Taken>) {
        let mut taken = Vec::with_capacity(units.len());
        for (method, unit) in units {
            let (messages, started) = (unit.len(), Instant::now());
            match method {
                Method::Singles => self.commit_one_by_one(unit).await,
                Method::Batch => self.commit_as_batch(unit).await,
            }
            taken.push((method, messages, started.elapsed()));
            count(self.stream, method, messages);
        }
        (number, taken)
    }

    /// All at once on the wire, each on its own for the server.
    async fn commit_one_by_one(&self, unit: Vec<Waiting>) {
        let answers = join_all(unit.iter().map(|waiting| {
            let message = &waiting.message;
            async move {
                crate::crash_point!("journal.before_message");
                publish_once(&self.nats, message.subject.clone(), message.headers.clone(), message.payload.clone())
                    .await
            }
        }))
        .await;
        crate::crash_point!("journal.after_messages");
        for (waiting, answer) in unit.into_iter().zip(answers) {
            self.finish(waiting, answer);
        }
    }

    /// One commit for all of them: stored together, or none.
    async fn commit_as_batch(&self, unit: Vec<Waiting>) {
        let answer = self.publish_batch(&unit).await;
        crate::crash_point!("journal.after_batch");
        match answer {
            Answer::Stored { sequence: last } => {
                let first = last + 1 - unit.len() as u64;
                for (sequence, waiting) in (first..).zip(unit) {
                    waiting.tell(Ok(sequence));
                }
            }
            Answer::Unknown(reason) => {
                for waiting in unit {
                    self.finish(waiting, Answer::Unknown(reason.clone()));
                }
            }
            // The server refuses a batch as a whole: sent one by one, a conflict costs nobody else.
            Answer::MovedOn | Answer::TryAgain(_) | Answer::Refused { .. } => {
                let outcomes = join_all(
                    unit.iter()
                        .map(|waiting| append_prepared(&self.nats, self.stream, &waiting.message, self.patience)),
                )
                .await;
                for (waiting, outcome) in unit.into_iter().zip(outcomes) {
                    waiting.tell(outcome);
                }
            }
        }
    }

    /// ADR-50: numbered messages under one batch id, the last one commits and is the only one that is answered.
    async fn publish_batch(&self, unit: &[Waiting]) -> Answer {
        let batch_id = Uuid::now_v7().as_simple().to_string();
        let last = unit.len() - 1;
        for (number, waiting) in unit.iter().enumerate() {
            let message = &waiting.message;
            let mut headers = message.headers.clone();
            headers.insert(header::NATS_BATCH_ID, batch_id.as_str());
            headers.insert(header::NATS_BATCH_SEQUENCE, (number + 1).to_string());
            crate::crash_point!("journal.before_batch_message");
            if number == last {
                headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
                return publish_once(&self.nats, message.subject.clone(), headers, message.payload.clone()).await;
            }
            let sent = self.nats.client.publish_with_headers(message.subject.clone(), headers, message.payload.clone());
            if let Err(error) = sent.await {
                return Answer::Unknown(error.to_string());
            }
        }
        Answer::Unknown("an empty batch".into())
    }

    /// Tell the caller, at once where the answer says it all, or when the outcome is known; the journal goes on meanwhile.
    fn finish(&self, waiting: Waiting, answer: Answer) {
        if let Answer::Stored { sequence } = answer {
            waiting.tell(Ok(sequence));
            return;
        }
        let (nats, stream, patience) = (self.nats.clone(), self.stream, self.patience);
        tokio::spawn(async move {
            let outcome = settle(&nats, stream, &waiting.message, answer, patience).await;
            waiting.tell(outcome);
        });
    }
}

fn folded(gathered: Vec<Gathered>, fold: Fold, shard: Shard) -> Vec<Waiting> {
    let (messages, outcomes): (Vec<_>, Vec<_>) =
        gathered.into_iter().map(|Gathered { message, outcome }| (message, Some(outcome))).unzip();
    let mut outcomes = outcomes;
    let mut told = |place: usize| outcomes.get_mut(place).and_then(Option::take);
    fold(messages)
        .into_iter()
        .filter_map(|Folded { message, places }| {
            let mut senders = places.into_iter().filter_map(&mut told);
            let outcome = senders.next()?;
            Some(Waiting { message: Prepared::new(message, shard), outcome, others: senders.collect() })
        })
        .collect()
}

/// Only the first message of a subject may carry an expectation inside a batch, or roll the subject up, as a schedule does.
fn can_be_a_batch(unit: &[Waiting]) -> bool {
    let mut guarded = HashSet::new();
    let is_guarded =
        |message: &Prepared| message.expected.is_some() || message.headers.get(header::NATS_SCHEDULE).is_some();
    unit.iter()
        .filter(|waiting| is_guarded(&waiting.message))
        .all(|waiting| guarded.insert(waiting.message.subject.as_str()))
}

fn within_bytes(unit: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut units = Vec::with_capacity(1);
    let (mut current, mut bytes) = (Vec::with_capacity(unit.len()), 0);
    for waiting in unit {
        let size = waiting.message.payload.len();
        if bytes + size > MAX_UNIT_BYTES && !current.is_empty() {
            units.push(std::mem::take(&mut current));
            bytes = 0;
        }
        bytes += size;
        current.push(waiting);
    }
    units.push(current);
    units
}

fn count(stream: StreamName, method: Method, messages: usize) {
    let labels = [("stream", stream.as_str()), ("method", method.as_str())];
    metrics::counter!("journal_units_total", &labels).increment(1);
    metrics::counter!("journal_messages_total", &labels).increment(messages as u64);
}

/// How a unit is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Singles,
    Batch,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Singles => "singles",
            Self::Batch => "batch",
        }
    }
}

/// Powers of two below [`SMALLEST_SURE_BATCH`].
const UNSURE_SIZES: usize = SMALLEST_SURE_BATCH.ilog2() as usize;

/// What a message has cost lately, by method and size of unit (powers of two): the break-even, measured.
#[derive(Debug, Default)]
struct CommitCosts {
    by_size: [SizeCosts; UNSURE_SIZES],
}

#[derive(Debug, Default, Clone, Copy)]
struct SizeCosts {
    singles: Cost,
    batch: Cost,
    units_since_trial: u64,
}

/// Nanoseconds for each message.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    nanos: u128,
    units: u32,
}

impl CommitCosts {
    fn choose(&mut self, messages: usize) -> Method {
        if messages < SMALLEST_BATCH {
            return Method::Singles;
        }
        self.by_size.get_mut(size_class(messages)).map_or(Method::Batch, SizeCosts::choose)
    }

    fn learn(&mut self, method: Method, messages: usize, took: Duration) {
        let Some(costs) = self.by_size.get_mut(size_class(messages)) else { return };
        let cost = match method {
            Method::Singles => &mut costs.singles,
            Method::Batch => &mut costs.batch,
        };
        cost.learn(took.as_nanos() / messages.max(1) as u128);
    }
}

impl SizeCosts {
    fn choose(&mut self) -> Method {
        let (singles, batch) = (self.singles, self.batch);
        if singles.units.min(batch.units) < FIRST_TRIALS {
            return if singles.units <= batch.units { Method::Singles } else { Method::Batch };
        }
        let (better, worse) = if batch.nanos < singles.nanos {
            ((Method::Batch, batch), (Method::Singles, singles))
        } else {
            ((Method::Singles, singles), (Method::Batch, batch))
        };
        self.units_since_trial += 1;
        let times_worse = u64::try_from(worse.1.nanos / better.1.nanos.max(1)).unwrap_or(u64::MAX);
        if self.units_since_trial < times_worse.saturating_mul(UNITS_BETWEEN_TRIALS.into()) {
            return better.0;
        }
        self.units_since_trial = 0;
        worse.0
    }
}

impl Cost {
    fn learn(&mut self, nanos: u128) {
        self.nanos = match self.units {
            0 => nanos,
            // The best of the first ones: a bad moment says nothing about the method.
            1..FIRST_TRIALS => self.nanos.min(nanos),
            // Each new figure counts an eighth: steady against one slow fsync, quick to follow a change.
            _ => (self.nanos * 7 + nanos) / 8,
        };
        self.units = self.units.saturating_add(1);
    }
}

fn size_class(messages: usize) -> usize {
    messages.max(1).ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered() -> (Gathered, oneshot::Receiver<Result<u64, AppendError>>) {
        let (outcome, told) = oneshot::channel();
        let subject = crate::subject::Subject::InventoryLedger;
        let message = Outgoing { subject, headers: async_nats::HeaderMap::new(), payload: "".into(), expected: None };
        (Gathered { message, outcome }, told)
    }

    #[test]
    fn everybody_is_told_what_became_of_the_message_that_speaks_for_them() {
        // The first and the last are one, the second is forgotten, which a fold must not do.
        let fold: Fold = |unit| vec![Folded { message: unit[0].clone(), places: vec![0, 2] }];
        let (unit, mut told): (Vec<_>, Vec<_>) = (0..3).map(|_| gathered()).unzip();
        for waiting in folded(unit, fold, Shard::First) {
            waiting.tell(Ok(7));
        }
        assert_eq!((told[0].try_recv(), told[2].try_recv()), (Ok(Ok(7)), Ok(Ok(7))));
        assert!(told[1].try_recv().is_err(), "never told that it is stored");
    }

    /// For units of 100 messages.
    fn taught(singles_ms: u64, batch_ms: u64) -> CommitCosts {
        let mut costs = CommitCosts::default();
        for _ in 0..50 {
            costs.learn(Method::Singles, 100, Duration::from_millis(singles_ms));
            costs.learn(Method::Batch, 100, Duration::from_millis(batch_ms));
        }
        costs
    }

    fn trials(costs: &mut CommitCosts, units: u32, of: Method) -> usize {
        (0..units).filter(|_| costs.choose(100) == of).count()
    }

    #[test]
    fn the_cheaper_method_is_taken_and_the_other_tried_now_and_then() {
        assert_eq!(trials(&mut taught(15, 10), UNITS_BETWEEN_TRIALS, Method::Singles), 1);
        assert_eq!(trials(&mut taught(10, 15), UNITS_BETWEEN_TRIALS, Method::Batch), 1);
    }

    #[test]
    fn the_more_a_trial_costs_the_rarer_it_is() {
        let mut costs = taught(50, 10);
        assert_eq!(trials(&mut costs, 5 * UNITS_BETWEEN_TRIALS - 1, Method::Singles), 0);
        assert_eq!(costs.choose(100), Method::Singles);
        assert_eq!(trials(&mut costs, 5 * UNITS_BETWEEN_TRIALS - 1, Method::Singles), 0);
    }

    #[test]
    fn both_are_tried_first_and_one_bad_moment_decides_nothing() {
        let mut costs = CommitCosts::default();
        let mut chosen = Vec::new();
        for took in [5, 400, 5, 2, 5, 2] {
            let method = costs.choose(100);
            costs.learn(method, 100, Duration::from_millis(took));
            chosen.push(method);
        }
        let in_turn = [Method::Singles, Method::Batch].repeat(3);
        assert_eq!((chosen, costs.choose(100)), (in_turn, Method::Batch));
    }

    #[test]
    fn few_messages_never_make_a_batch_and_many_always_do() {
        let mut costs = taught(10, 20);
        assert_eq!((costs.choose(3), costs.choose(100)), (Method::Singles, Method::Singles));
        assert_eq!((costs.choose(SMALLEST_SURE_BATCH), costs.choose(MAX_UNIT)), (Method::Batch, Method::Batch));
    }

    #[test]
    fn a_change_of_the_disk_is_followed() {
        let mut costs = taught(20, 10);
        for _ in 0..50 {
            costs.learn(Method::Batch, 100, Duration::from_millis(40));
        }
        assert_eq!(costs.choose(100), Method::Singles);
    }
}
