//! What the inventory's stories share: a server with streams, the service as a task or as a process of its own, and a
//! reader of everything that it has written.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, jetstream::consumer::pull};
use common::{
    contracts::{
        TypeName as _,
        checkout::CheckoutCommand,
        inventory::{Balance, InventoryCommand, LedgerEntry, Movement, StockAnswer, StockLine, StockProjection},
    },
    headers,
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    nats::{
        Nats, NatsOptions,
        connect::connect,
        read::{self, Stored},
    },
    streams::{ConsumerName, Durability, Placement, StreamName},
    subject::Subject,
};
use deploy::provision::provision;
use inventory_service::{Config, ledger::Ledger};
use stories::{Servers, nodes_from_environment};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longer than any take-over (ack wait 5 s, pin 5 s) on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// What `std::process::abort` ends a process with.
const SIGABRT: i32 = 6;

/// A provisioned server of its own, or three.
pub(crate) struct Warehouse {
    pub(crate) server: Servers,
    pub(crate) nats: Nats,
}

impl Warehouse {
    pub(crate) async fn open() -> Self {
        let server = Servers::start(nodes_from_environment()).await;
        let nats = connect_to(&server.client_url()).await;
        let (replicas, storage_bytes) = (server.replicas(), 1 << 30);
        let placement = Placement {
            replicas,
            storage_bytes,
            durability: Durability::SyncAlways,
            shards: common::shards::Shards::ONE,
        };
        provision(&nats, &placement).await.expect("the server can be provisioned");
        Self { server, nats }
    }

    /// The service as a task of this process, with a connection of its own.
    pub(crate) async fn start_service(&self, config: Config) -> Service {
        let nats = connect_to(&self.server.client_url()).await;
        let stop = CancellationToken::new();
        let task = tokio::spawn(inventory_service::run(config, nats, stop.clone()));
        Service { stop, task }
    }

    /// The service as a process of its own, which dies at `crash_at` if that is given.
    pub(crate) fn start_process(&self, crash_at: Option<&str>) -> Process {
        let mut command = Command::new(crate::SERVICE);
        command
            .args(["inventory", "--snapshot-every=3"])
            .arg(format!("--nats-url={}", self.server.client_url()))
            .env_remove("CHECKOUT_CRASH_AT")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null());
        if let Some(place) = crash_at {
            command.env("CHECKOUT_CRASH_AT", place);
        }
        Process(command.spawn().expect("the service's binary can be started"))
    }

    pub(crate) async fn send(&self, command: &InventoryCommand) {
        let id = match command {
            InventoryCommand::Reserve { workflow, .. }
            | InventoryCommand::Commit { workflow }
            | InventoryCommand::Release { workflow } => workflow.id.as_uuid(),
            InventoryCommand::Restock { restock_id, .. } => *restock_id,
        };
        let payload = serde_json::to_vec(command).expect("writable");
        self.send_raw(Subject::InventoryCommand(id), command.type_name(), payload).await;
    }

    pub(crate) async fn send_raw(&self, subject: Subject, command_type: &str, payload: Vec<u8>) {
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, command_type);
        let ack = self.nats.jetstream.publish_with_headers(subject.to_string(), headers, payload.into()).await;
        ack.expect("the command is sent").await.expect("the command is stored");
    }

    pub(crate) async fn send_all(&self, commands: &[InventoryCommand]) {
        futures_util::future::join_all(commands.iter().map(|command| self.send(command))).await;
    }

    /// Every answer that a workflow was given, oldest first: by the ledger, or by a command of its own.
    pub(crate) async fn answers(&self, workflow: WorkflowRef) -> Vec<StockAnswer> {
        let booked = self.stored_entries().await.into_iter().flat_map(|stored| {
            let entry: LedgerEntry = serde_json::from_slice(&stored.payload).expect("a ledger entry");
            let told = entry.movements.iter().filter_map(Movement::answer).filter(|(told, _)| *told == workflow);
            told.map(|(_, answer)| (stored.time, answer)).collect::<Vec<_>>()
        });
        let commands = self.current(StreamName::Commands, &Subject::Command(workflow)).await;
        let sent =
            commands.into_iter().map(|stored| match serde_json::from_slice(&stored.payload).expect("a command") {
                CheckoutCommand::StockAnswer { answer } => (stored.time, answer),
                other => panic!("the inventory sent {other:?}"),
            });
        let mut answers: Vec<_> = booked.chain(sent).collect();
        answers.sort_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Wait for so many answers to a workflow, and give the last one.
    pub(crate) async fn answer(&self, workflow: WorkflowRef, number: usize) -> StockAnswer {
        let answers = until(&format!("answer {number} to {workflow}"), async || {
            let answers = self.answers(workflow).await;
            (answers.len() >= number).then_some(answers)
        })
        .await;
        answers.into_iter().next_back().expect("at least one")
    }

    /// How many inventory commands are not acked.
    /// Counted from what the stream's leader has stored: on three nodes the consumer's may hear of it a moment later.
    pub(crate) async fn waiting_commands(&self) -> u64 {
        let (name, stream) = (ConsumerName::Inventory.as_str(), ConsumerName::Inventory.stream().as_str());
        let stored = self.nats.jetstream.get_stream(stream).await.expect("the inventory's commands");
        let last = stored.cached_info().state.last_sequence;
        let found = self.nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, stream).await;
        last.saturating_sub(found.expect("the inventory's consumer").cached_info().ack_floor.stream_sequence)
    }

    /// A whole subject as its leader knows it: another replica may be a moment behind, and is asked again.
    async fn current(&self, stream: StreamName, subject: &Subject) -> Vec<Stored> {
        until(&format!("a replica has all of {subject}"), async || {
            let newest = read::newest(&self.nats, stream, subject).await.expect("the leader can be asked");
            let read = read::subject(&self.nats, stream, subject).await.expect("the stream can be read");
            let last = |sequence: Option<u64>| sequence.unwrap_or_default();
            let is_whole = last(read.last().map(|last| last.sequence)) >= last(newest.map(|newest| newest.sequence));
            is_whole.then_some(read)
        })
        .await
    }

    /// Wait until no inventory command is left: all are answered and acked.
    pub(crate) async fn all_commands_are_done(&self) {
        until("every inventory command is acked", async || (self.waiting_commands().await == 0).then_some(())).await;
    }

    /// The whole ledger as it is stored.
    pub(crate) async fn entries(&self) -> Vec<LedgerEntry> {
        let read = |stored: &Stored| serde_json::from_slice(&stored.payload).expect("a ledger entry");
        self.stored_entries().await.iter().map(read).collect()
    }

    pub(crate) async fn stored_entries(&self) -> Vec<Stored> {
        self.current(StreamName::Inventory, &Subject::InventoryLedger).await
    }

    pub(crate) async fn movements(&self) -> Vec<Movement> {
        self.entries().await.into_iter().flat_map(|entry| entry.movements).collect()
    }

    /// The state, replayed from the first entry on by the rules, which check every movement and balance.
    pub(crate) async fn replayed(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for entry in self.entries().await {
            ledger.apply_entry(&entry).expect("a sound ledger");
        }
        ledger
    }

    pub(crate) async fn balance(&self, name: &str) -> Balance {
        self.replayed().await.level(&sku(name)).balance
    }

    /// What readers of stock see.
    pub(crate) async fn projected(&self, name: &str) -> Option<Balance> {
        let stored =
            read::last(&self.nats, StreamName::Stock, &Subject::Stock(sku(name))).await.expect("STOCK can be read");
        let read = |stored: Stored| serde_json::from_slice(&stored.payload).expect("a stock level");
        stored.map(|stored| -> StockProjection { read(stored) }).map(|projection| projection.level.balance)
    }

    pub(crate) async fn projection_shows(&self, name: &str, expected: Balance) {
        until(&format!("readers see {expected:?} of {name}"), async || {
            (self.projected(name).await == Some(expected)).then_some(())
        })
        .await;
    }

    pub(crate) async fn dead_letters(&self) -> Vec<Stored> {
        let subject = Subject::DeadLetter(common::subject::DeadLetterArea::Inventory);
        read::subject(&self.nats, StreamName::DeadLetters, &subject).await.expect("DEAD_LETTERS can be read")
    }
}

async fn connect_to(url: &str) -> Nats {
    let options = NatsOptions { nats_url: url.to_owned(), nats_creds: None };
    connect(&options, "inventory story").await.expect("the test's own server answers")
}

/// The service in this process.
pub(crate) struct Service {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended().await.expect("a clean stop");
    }

    /// How it ends by itself.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(DEADLINE, self.task).await.expect("the service ends in time");
        ended.expect("the service does not panic")
    }
}

/// The service in a process of its own; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Whether it has died, which must be at its crash point and not of anything else.
    pub(crate) fn has_died(&mut self) -> bool {
        let ended = self.0.try_wait().expect("our own child");
        assert!(ended.is_none_or(|status| status.signal() == Some(SIGABRT)), "it should have aborted, but: {ended:?}");
        ended.is_some()
    }

    /// Wait until it has died by itself.
    pub(crate) async fn died(&mut self) {
        until("the process has died", async || self.has_died().then_some(())).await;
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(status.expect("kill can be run").success(), "kill {signal}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ask until the answer is there.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not so after {} s: {what}", DEADLINE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn sku(name: &str) -> Sku {
    name.parse().expect("a sku")
}

pub(crate) fn balance(available: u64, reserved: u64, sold: u64) -> Balance {
    Balance { available, reserved, sold }
}

pub(crate) fn workflow(number: u128) -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::from(Uuid::from_u128(number)) }
}

pub(crate) fn reserve(number: u128, lines: &[(&str, u32)]) -> InventoryCommand {
    let lines = lines.iter().map(|(name, quantity)| StockLine { sku: sku(name), quantity: *quantity }).collect();
    InventoryCommand::Reserve { workflow: workflow(number), lines }
}

pub(crate) fn commit(number: u128) -> InventoryCommand {
    InventoryCommand::Commit { workflow: workflow(number) }
}

pub(crate) fn release(number: u128) -> InventoryCommand {
    InventoryCommand::Release { workflow: workflow(number) }
}

pub(crate) fn restock(id: u128, name: &str, quantity: u32) -> InventoryCommand {
    InventoryCommand::Restock { restock_id: Uuid::from_u128(id), sku: sku(name), quantity, by: None }
}

/// How often each workflow's stock was reserved.
pub(crate) fn times_reserved(movements: &[Movement]) -> BTreeMap<WorkflowRef, usize> {
    let mut times = BTreeMap::new();
    for movement in movements {
        if let Movement::Reserved { workflow, .. } = movement {
            *times.entry(*workflow).or_default() += 1;
        }
    }
    times
}
