//! Reading: what is judged is read from the streams alone, without a consumer, in an order that makes it one cut although
//! nobody stops for it.
//!
//! A worker records what it owes before it asks the inventory, and records the answer after the ledger has moved. So the
//! ledger is read between two readings of the histories, until nothing has moved in between; what still moves then is
//! not compared. Acks are asked about first, because a worker acks after it has written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use async_nats::jetstream::consumer::pull;
use common::{
    contracts::{
        inventory::{InventoryCommand, InventoryGroup, LedgerEntry, Movement, StockProjection},
        wake_up::WakeUpCalls,
    },
    ids::WorkflowRef,
    nats::{
        Nats,
        check::differences,
        read::{Stored, stretch},
    },
    payment::{
        PaymentProvider,
        sandbox::{DEVELOPMENT_SECRET, SandboxProvider},
        stripe::StripeProvider,
    },
    streams::{ConsumerName, DURABILITY_KEY, Durability, StreamName},
    subject::Subject,
    time,
};
use tokio::time::Instant;

use super::{
    Options,
    dead_letters::DeadLetters,
    finding::{Findings, Promise},
    history::Histories,
    progress::UnderWay,
    spinner::Spinner,
    stock::{self, LedgerRead, Projections, Standing},
    webhooks::{WebhookCheck, WebhookCounts},
};

/// Messages per request; a ledger entry can be half a megabyte, a record has a few kilobytes.
const MESSAGES_PER_READ: usize = 1_000;
const ENTRIES_PER_READ: usize = 64;

/// Readings of ledger and histories in turn, before what still moves is left out of the comparison.
const MOST_ROUNDS: usize = 5;

/// The inventory service writes the projection within a tenth of a second of the ledger, and an fsync can take long.
const PROJECTION_PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at something that is expected soon.
const PAUSE: Duration = Duration::from_millis(100);

/// Everything that is judged.
pub(super) struct Evidence {
    pub(super) histories: Histories,
    pub(super) ledger: LedgerRead,
    pub(super) projections: Projections,
    /// Articles whose projection stayed behind the ledger.
    pub(super) behind: Vec<common::ids::Sku>,
    pub(super) letters: DeadLetters,
    pub(super) webhooks: WebhookCounts,
    pub(super) under_way: UnderWay,
    /// Workflows that moved while they were being read.
    pub(super) moved: HashSet<WorkflowRef>,
}

/// Read all streams.
pub(super) async fn read(nats: &Nats, options: &Options, findings: &mut Findings) -> anyhow::Result<Evidence> {
    let now = time::now();
    let spinner = Spinner::new(options.progress);
    check_configurations(nats, findings).await?;
    let webhooks_acked = acked_up_to(nats, ConsumerName::WorkerWebhooks).await?;
    let acked = AckedUpTo::ask(nats).await?;
    let (mut histories, mut ledger) = (Histories::default(), LedgerRead::default());
    let patience = options.replica_patience;
    // Readers' proofs, too: between records they would look like holes otherwise.
    let history_cursor = |part| Cursor::new(part, ">", MESSAGES_PER_READ, patience);
    let mut history_cursors: Vec<Cursor> = nats.shards.streams(StreamName::History).map(history_cursor).collect();
    let mut ledger_cursor = Cursor::new(StreamName::Inventory, "inventory.ledger", ENTRIES_PER_READ, patience);

    let projections = read_projections(nats, findings).await?;
    read_histories(nats, &mut history_cursors, &mut histories, findings, &spinner).await?;
    let mut moved = HashSet::new();
    for _ in 0..MOST_ROUNDS {
        ledger_cursor.read_to_end(nats, &spinner, &mut |stored| ledger.read_on(stored, findings)).await?;
        moved = read_histories(nats, &mut history_cursors, &mut histories, findings, &spinner).await?;
        if moved.is_empty() {
            break;
        }
    }

    let letters = read_letters(nats).await?;
    let readers = webhook_readers()?;
    let mut check = WebhookCheck::new(&histories, &letters, &readers, webhooks_acked, now);
    for_each(nats, StreamName::Webhooks, "webhook.>", &mut |stored| check.look_at(stored, findings)).await?;
    let webhooks = check.finish(findings);
    let under_way = read_under_way(nats, &acked).await?;
    moved.extend(read_histories(nats, &mut history_cursors, &mut histories, findings, &spinner).await?);
    history_cursors.iter().for_each(|cursor| cursor.report_holes(Promise::End, findings));
    ledger_cursor.report_holes(Promise::Stock, findings);
    let behind = wait_for_projections(nats, &ledger, &projections).await?;
    spinner.finish();
    Ok(Evidence { histories, ledger, projections, behind, letters, webhooks, under_way, moved })
}

/// What the ledger says of one workflow: nothing, or its newest movement.
///
/// Fails when the ledger cannot be read or trusted.
pub(crate) async fn standing_of(nats: &Nats, workflow: WorkflowRef) -> anyhow::Result<Option<Standing>> {
    let (mut ledger, mut findings) = (LedgerRead::default(), Findings::default());
    let patience = Options::default().replica_patience;
    let mut cursor = Cursor::new(StreamName::Inventory, "inventory.ledger", ENTRIES_PER_READ, patience);
    let spinner = Spinner::new(false);
    cursor.read_to_end(nats, &spinner, &mut |stored| ledger.read_on(stored, &mut findings)).await?;
    anyhow::ensure!(!ledger.is_broken, "the ledger cannot be trusted: ask `doctor` where, and restore INVENTORY");
    Ok(ledger.standings.remove(&workflow))
}

/// Streams that are not as they must be: a service that starts would refuse them.
async fn check_configurations(nats: &Nats, findings: &mut Findings) -> anyhow::Result<()> {
    for stream in nats.shards.all_streams(&StreamName::ALL) {
        let info = nats.jetstream.get_stream(stream.as_str()).await.with_context(|| {
            format!(
                "stream {} is not there or cannot be asked: run `deploy provision` against this server",
                stream.as_str()
            )
        })?;
        let found = &info.cached_info().config;
        let mut wrong = differences(&stream.config(), found);
        if found.metadata.get(DURABILITY_KEY).map(String::as_str) != Some(Durability::SyncAlways.as_str()) {
            wrong.push("it was not provisioned on a server that syncs every write".into());
        }
        if !wrong.is_empty() {
            let text =
                format!("it is not as it must be ({}): run `deploy provision` against this server", wrong.join("; "));
            findings.attention(Promise::End, format_args!("stream {}", stream.as_str()), text);
        }
    }
    Ok(())
}

/// What is done for certain in the queues, which keep it for some seconds, in the ledger and in `TIMERS`: everything up to
/// these sequences is acked.
#[derive(Debug, Default)]
struct AckedUpTo {
    /// Of each part.
    commands: HashMap<StreamName, u64>,
    inventory_commands: u64,
    ledger: u64,
    due: u64,
}

impl AckedUpTo {
    async fn ask(nats: &Nats) -> anyhow::Result<Self> {
        let mut commands = HashMap::new();
        for part in nats.shards.all_consumers(&[ConsumerName::WorkerCommands]) {
            commands.insert(part.stream(), acked_up_to(nats, part).await?);
        }
        Ok(Self {
            commands,
            inventory_commands: acked_up_to(nats, ConsumerName::Inventory).await?,
            ledger: acked_up_to(nats, ConsumerName::WorkerLedger).await?,
            due: acked_up_to(nats, ConsumerName::WorkerDue).await?,
        })
    }
}

/// Everything up to this sequence of its stream is acked at a consumer.
async fn acked_up_to(nats: &Nats, consumer: ConsumerName) -> anyhow::Result<u64> {
    let (name, stream) = (consumer.as_str(), consumer.stream().as_str());
    let found = nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, stream).await.with_context(|| {
        format!("consumer {name} of {stream} is not there or cannot be asked: run `deploy provision` against this server")
    })?;
    Ok(found.cached_info().ack_floor.stream_sequence)
}

/// Reads a stream that is only ever appended to, and keeps in mind what it should have had.
struct Cursor {
    stream: StreamName,
    filter: &'static str,
    per_read: usize,
    replica_patience: Duration,
    /// The sequence to be read next.
    next: u64,
    /// What is not there: first and last sequence.
    holes: Vec<(u64, u64)>,
    /// A roll-up tombstone was seen: somebody has erased a subject on purpose.
    something_was_erased: bool,
}

impl Cursor {
    fn new(stream: StreamName, filter: &'static str, per_read: usize, replica_patience: Duration) -> Self {
        let holes = Vec::new();
        Self { stream, filter, per_read, replica_patience, next: 1, holes, something_was_erased: false }
    }

    /// Read on to what the leader says is the last message now.
    async fn read_to_end(
        &mut self,
        nats: &Nats,
        spinner: &Spinner,
        each: &mut (dyn FnMut(&Stored) + Send),
    ) -> anyhow::Result<()> {
        let last = last_sequence(nats, self.stream).await?;
        let mut deadline = Instant::now() + self.replica_patience;
        while self.next <= last {
            let batch = stretch(nats, self.stream, self.next, self.per_read, self.filter).await?;
            for stored in &batch.messages {
                self.take(stored, each);
            }
            spinner.tell(self.stream, self.next.saturating_sub(1), last);
            if !batch.messages.is_empty() {
                deadline = Instant::now() + self.replica_patience;
            } else if Instant::now() >= deadline {
                self.skip_to(last + 1);
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    fn take(&mut self, stored: &Stored, each: &mut (dyn FnMut(&Stored) + Send)) {
        self.skip_to(stored.sequence);
        self.something_was_erased |= stored.headers.get(async_nats::header::NATS_ROLLUP).is_some();
        self.next = stored.sequence + 1;
        each(stored);
    }

    /// What lies between is not there.
    fn skip_to(&mut self, sequence: u64) {
        if self.next < sequence {
            self.holes.push((self.next, sequence - 1));
            self.next = sequence;
        }
    }

    /// A hole at the end of a history shows nowhere else: index and chain end before it.
    fn report_holes(&self, promise: Promise, findings: &mut Findings) {
        if self.holes.is_empty() {
            return;
        }
        let holes: Vec<String> = self.holes.iter().take(10).map(|(from, to)| format!("{from}–{to}")).collect();
        let more = self.holes.len().saturating_sub(holes.len());
        let more = if more > 0 { format!(" and {more} more stretches") } else { String::new() };
        let subject = format!("stream {}", self.stream.as_str());
        let missing = format!("sequences {}{more} are missing", holes.join(", "));
        if self.something_was_erased {
            findings.attention(
                promise,
                subject,
                format!("{missing}: make sure that they are what was erased on purpose"),
            );
        } else {
            let text =
                format!("{missing}: the server has lost them; restore the stream from a backup or another replica");
            findings.broken(promise, subject, text);
        }
    }
}

async fn last_sequence(nats: &Nats, stream: StreamName) -> anyhow::Result<u64> {
    let name = stream.as_str();
    let info = nats.jetstream.get_stream(name).await.with_context(|| format!("ask for the end of stream {name}"))?;
    Ok(info.cached_info().state.last_sequence)
}

/// Read on in the histories; whose moved.
async fn read_histories(
    nats: &Nats,
    cursors: &mut [Cursor],
    histories: &mut Histories,
    findings: &mut Findings,
    spinner: &Spinner,
) -> anyhow::Result<HashSet<WorkflowRef>> {
    let mut moved = HashSet::new();
    let mut read_on = |stored: &Stored| moved.extend(histories.read_on(stored, findings));
    for cursor in cursors {
        cursor.read_to_end(nats, spinner, &mut read_on).await?;
    }
    Ok(moved)
}

/// Everything that a stream holds now, oldest first.
async fn for_each(
    nats: &Nats,
    stream: StreamName,
    filter: &str,
    each: &mut (dyn FnMut(&Stored) + Send),
) -> anyhow::Result<()> {
    for_each_after(0, nats, stream, filter, each).await
}

/// The same, for what comes after a sequence.
async fn for_each_after(
    after: u64,
    nats: &Nats,
    stream: StreamName,
    filter: &str,
    each: &mut (dyn FnMut(&Stored) + Send),
) -> anyhow::Result<()> {
    let (mut next, last) = (after + 1, last_sequence(nats, stream).await?);
    while next <= last {
        let batch = stretch(nats, stream, next, MESSAGES_PER_READ, filter).await?;
        batch.messages.iter().for_each(&mut *each);
        match batch.messages.last() {
            Some(newest) if batch.more => next = newest.sequence + 1,
            _ => break,
        }
    }
    Ok(())
}

async fn read_projections(nats: &Nats, findings: &mut Findings) -> anyhow::Result<Projections> {
    let mut projections = Projections::new();
    for_each(
        nats,
        StreamName::Stock,
        "inventory.stock.*",
        &mut |stored| match serde_json::from_slice::<StockProjection>(&stored.payload) {
            Ok(projection) => {
                projections.insert(projection.level.sku.clone(), projection);
            }
            Err(error) => findings.attention(
                Promise::Stock,
                &stored.subject,
                format!("readers cannot read it ({error}): start the inventory service again, which writes over it"),
            ),
        },
    )
    .await?;
    Ok(projections)
}

/// Which articles stay behind the ledger although they were given time.
async fn wait_for_projections(
    nats: &Nats,
    ledger: &LedgerRead,
    first: &Projections,
) -> anyhow::Result<Vec<common::ids::Sku>> {
    let deadline = Instant::now() + PROJECTION_PATIENCE;
    let mut behind = stock::behind(ledger, first);
    while !behind.is_empty() && Instant::now() < deadline {
        // What cannot be read was reported the first time.
        let newest = read_projections(nats, &mut Findings::default()).await?;
        behind = stock::behind(ledger, &newest);
        if !behind.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(behind)
}

async fn read_letters(nats: &Nats) -> anyhow::Result<DeadLetters> {
    let mut letters = DeadLetters::default();
    for_each(nats, StreamName::DeadLetters, "deadletter.>", &mut |stored| letters.read_on(stored)).await?;
    letters.some_are_gone = last_sequence(nats, StreamName::DeadLetters).await? > letters.seen;
    Ok(letters)
}

/// What a message asks of the inventory; nothing when it cannot be read, which the inventory will find.
fn inventory_commands(stored: &Stored) -> Vec<InventoryCommand> {
    match stored.subject.parse() {
        Ok(Subject::InventoryGroup(_)) => {
            serde_json::from_slice::<InventoryGroup>(&stored.payload).map(|group| group.commands).unwrap_or_default()
        }
        _ => serde_json::from_slice(&stored.payload).into_iter().collect(),
    }
}

/// Whom a wake-up call wakes, or will wake.
fn woken_by(stored: &Stored) -> Vec<WorkflowRef> {
    match stored.subject.parse() {
        Ok(Subject::Timer(workflow) | Subject::Due(workflow)) => vec![workflow],
        Ok(Subject::TimerGroup(_) | Subject::DueGroup(_)) => {
            serde_json::from_slice::<WakeUpCalls>(&stored.payload).map(|calls| calls.workflows).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

async fn read_under_way(nats: &Nats, acked: &AckedUpTo) -> anyhow::Result<UnderWay> {
    let mut under_way = UnderWay::default();
    // What is done stays in a queue for some seconds.
    for part in nats.shards.streams(StreamName::Commands) {
        let acked = acked.commands.get(&part).copied().unwrap_or_default();
        for_each_after(acked, nats, part, "command.>", &mut |stored| {
            under_way.counts.commands += 1;
            if let Ok(Subject::Command(workflow)) = stored.subject.parse() {
                under_way.add(workflow);
            }
        })
        .await?;
    }
    let not_acked = acked.inventory_commands;
    for_each_after(not_acked, nats, StreamName::InventoryCommands, "inventory.*.*", &mut |stored| {
        for command in inventory_commands(stored) {
            under_way.counts.inventory_commands += 1;
            if let Some(workflow) = command.workflow() {
                under_way.add(workflow);
            }
        }
    })
    .await?;
    for_each_after(acked.ledger, nats, StreamName::Inventory, "inventory.ledger", &mut |stored| {
        // One that cannot be read was reported already.
        let Ok(entry) = serde_json::from_slice::<LedgerEntry>(&stored.payload) else { return };
        for (workflow, _) in entry.movements.iter().filter_map(Movement::answer) {
            under_way.counts.booked += 1;
            under_way.add(workflow);
        }
    })
    .await?;
    for_each(nats, StreamName::Timers, "timer.>", &mut |stored| {
        under_way.timers.extend(woken_by(stored));
    })
    .await?;
    for_each(nats, StreamName::Timers, "due.>", &mut |stored| {
        if stored.sequence > acked.due {
            for workflow in woken_by(stored) {
                under_way.counts.due += 1;
                under_way.add(workflow);
            }
        }
    })
    .await?;
    Ok(under_way)
}

/// Providers that are never called: all that is used of them is how they read a stored webhook.
pub(crate) fn webhook_readers() -> anyhow::Result<[Arc<dyn PaymentProvider>; 2]> {
    let nowhere = "http://127.0.0.1:1";
    let secrets: common::payment::WebhookSecrets =
        DEVELOPMENT_SECRET.parse().context("set up the reading of webhooks")?;
    let sandbox = SandboxProvider::new(nowhere, secrets.clone(), Duration::from_secs(1))?;
    let no_key = "never used".parse().unwrap_or_else(|never| match never {});
    let stripe = StripeProvider::new(nowhere, no_key, secrets, nowhere, Duration::from_secs(1))?;
    Ok([Arc::new(sandbox), Arc::new(stripe)])
}

#[cfg(test)]
mod tests;
