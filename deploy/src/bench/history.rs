//! Many finished checkouts are in the streams: the same figures as with none, and how long the inventory takes to start.
//!
//! The histories and the ledger are written by the real code (decide, append, chain), past the services: a million checkouts
//! through the whole shop would take a quarter of an hour.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use async_nats::{HeaderMap, jetstream::consumer::DeliverPolicy};
use clap::Args;
use common::{
    contracts::{
        checkout::{CheckoutCommand, Line, PaymentNotice, PaymentOutcome, RequestFingerprint},
        inventory::{InventoryCommand, StockAnswer, StockLine},
    },
    headers,
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{Outgoing, append::append, read},
    payment::OpenSession,
    record::ChainEnd,
    streams::{ConsumerName, StreamName},
    subject::Subject,
    time::{self, Timestamp},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use inventory_service::ledger::{Ledger, Request};
use serde::Serialize;
use tokio::time::Instant;
use workflow_worker::{
    history::{History, NatsHistory, Replayed},
    workflow::{Input, Settings, StepEnd, Told, Workflow as _},
    workflows::checkout::Checkout,
};

use super::{OutputArgs, TimingArgs, case::Case, engine, provider, report::Run, say, stage::Stage};
use crate::service_process::{Launcher, Service};

/// Checkouts that are written at a time: enough to fill batches.
const AT_A_TIME: usize = 1_500;

/// Checkouts whose stock moves in one entry of the ledger, as in a busy shop.
const GROUP: usize = 250;

/// How long an append is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// A start that takes longer has failed.
const LONGEST_START: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Args)]
pub(super) struct HistoryArgs {
    /// How many are finished.
    #[arg(long, default_value_t = 1_000_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    finished: u32,
    /// How many new checkouts are in flight, one case for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 256], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    in_flight: Vec<u32>,
    #[command(flatten)]
    timing: TimingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Figures {
    finished: u32,
    written_in_s: f64,
    /// Until it has answered its first command. Without a snapshot: the whole ledger is read.
    inventory_start_from_ledger_ms: f64,
    /// From a snapshot and what came after it.
    inventory_start_from_snapshot_ms: f64,
    cases: Vec<Compared>,
}

/// One case, with nothing in the streams and with everything.
#[derive(Debug, Serialize)]
struct Compared {
    in_flight: u32,
    empty: Vec<Run>,
    full: Vec<Run>,
}

pub(super) async fn run(args: &HistoryArgs, launcher: &Launcher) -> anyhow::Result<()> {
    let bar = ProgressBar::new(u64::from(args.finished));
    let mut empty = Vec::new();
    for &in_flight in &args.in_flight {
        say(&bar, &format!("{}, nothing finished yet", Case::engine(in_flight)));
        let mut runs = Vec::new();
        for _ in 0..args.timing.runs {
            runs.push(super::run_case(&Case::engine(in_flight), args.timing.measuring(), launcher).await?);
        }
        empty.push(runs);
    }

    let mut stage = Stage::prepare(&Case::engine(1), launcher).await?;
    say(&bar, &format!("{} finished checkouts are written", args.finished));
    let writing = Instant::now();
    sell_past_the_services(&stage, args.finished, &bar).await?;
    let written_in = writing.elapsed();

    say(&bar, "the inventory service starts");
    let from_ledger = inventory_start(&mut stage).await?;
    stage.stop(Service::Inventory(0)).await?;
    let from_snapshot = inventory_start(&mut stage).await?;
    stage.start(Service::Worker(0))?;

    let mut cases = Vec::new();
    for (&in_flight, empty) in args.in_flight.iter().zip(empty) {
        say(&bar, &format!("{}, {} finished", Case::engine(in_flight), args.finished));
        let mut full = Vec::new();
        for _ in 0..args.timing.runs {
            full.push(engine::drive(&stage, &Case::engine(in_flight), args.timing.measuring()).await?);
        }
        cases.push(Compared { in_flight, empty, full });
    }
    bar.finish_and_clear();
    stage.close().await;
    let figures = Figures {
        finished: args.finished,
        written_in_s: written_in.as_secs_f64(),
        inventory_start_from_ledger_ms: super::latency::in_ms(from_ledger),
        inventory_start_from_snapshot_ms: super::latency::in_ms(from_snapshot),
        cases,
    };
    args.output.give(&figures, &figures.to_text())
}

/// How long the inventory service takes from its start until it has answered a command: one unit comes in.
async fn inventory_start(stage: &mut Stage) -> anyhow::Result<Duration> {
    let restock_id = WorkflowId::random().as_uuid();
    let sku = stage.articles.first().context("an article")?.product.sku.clone();
    let command = InventoryCommand::Restock { restock_id, sku, quantity: 1, by: None };
    let inbox = stage.nats.client.new_inbox();
    let mut answers = stage.nats.client.subscribe(inbox.clone()).await.context("wait for the answer")?;
    let mut asked = HeaderMap::new();
    asked.insert(headers::ANSWER_TO, inbox.as_str());
    let outgoing = Outgoing {
        subject: Subject::InventoryCommand(restock_id),
        headers: asked,
        payload: serde_json::to_vec(&command).context("write a command")?.into(),
        expected: None,
    };
    append(&stage.nats, StreamName::InventoryCommands, outgoing, PATIENCE).await.context("tell of a delivery")?;
    let began = Instant::now();
    stage.start(Service::Inventory(0))?;
    let answered = tokio::time::timeout(LONGEST_START, answers.next()).await;
    answered.with_context(|| format!("the inventory does not answer: see {}", stage.log_dir().display()))?;
    Ok(began.elapsed())
}

/// Histories and ledger as if so many checkouts had been sold; the workers' consumers begin after them.
async fn sell_past_the_services(stage: &Stage, count: u32, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut books = Books::open(stage).await?;
    let history = History::new(Arc::new(NatsHistory::new(stage.nats.clone())));
    let places = (0..count).map(|number| usize::try_from(number).unwrap_or_default() % stage.articles.len());
    let places: Vec<usize> = places.collect();
    for group in places.chunks(GROUP * 20) {
        let sold: Vec<(WorkflowId, Line)> = stream::iter(group.iter().copied())
            .map(|place| {
                let (history, bar) = (&history, bar);
                async move {
                    let product = &stage.articles[place].product;
                    let line = Line {
                        sku: product.sku.clone(),
                        name: product.name.clone(),
                        quantity: 1,
                        unit_price: product.price,
                    };
                    let id = WorkflowId::random();
                    sell(history, id, &line).await?;
                    bar.inc(1);
                    anyhow::Ok((id, line))
                }
            })
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await?;
        for group in sold.chunks(GROUP) {
            books.sell(stage, group).await?;
        }
    }
    for consumer in [ConsumerName::WorkerLedger, ConsumerName::WorkerWebhooks] {
        let stream = stage.nats.jetstream.get_stream(consumer.stream().as_str()).await.context("find a stream")?;
        stream.delete_consumer(consumer.as_str()).await.context("delete a consumer")?;
        let mut config = consumer.config();
        config.deliver_policy = DeliverPolicy::New;
        stream.create_consumer(config).await.context("make a consumer")?;
    }
    Ok(())
}

/// One checkout from its start to its end, decided by its own rules.
async fn sell(history: &History, id: WorkflowId, line: &Line) -> anyhow::Result<()> {
    let at = now();
    let session_id: common::ids::SessionId =
        format!("cs_{}", id.as_uuid().simple()).parse().context("a session's id")?;
    let start = CheckoutCommand::Start {
        lines: vec![line.clone()],
        total: line.unit_price,
        fingerprint: RequestFingerprint("bench".into()),
    };
    let notice = PaymentNotice {
        event_id: None,
        session_id: session_id.clone(),
        outcome: PaymentOutcome::Paid,
        amount: line.unit_price,
    };
    let payment_url = format!("http://127.0.0.1/payment/{session_id}");
    let story = [
        Told::Asked(start),
        Told::Asked(CheckoutCommand::StockAnswer { answer: StockAnswer::Reserved {} }),
        Told::StepEnded(StepEnd::SessionOpened(OpenSession { session_id, payment_url })),
        Told::PaymentNotice(notice),
        Told::Asked(CheckoutCommand::StockAnswer { answer: StockAnswer::Committed {} }),
    ];
    let settings = Settings {
        payment_timeout: Duration::from_secs(30 * 60),
        provider: provider::name(),
        retry_wait: Duration::from_secs(2),
    };
    let mut checkout = Replayed::<Checkout>::default();
    for told in story {
        let events = checkout.state.decide(&Input { at, told, settings: settings.clone() }).context("decide")?;
        checkout = history.append(id, checkout, events, at, None).await.context("continue a history")?;
    }
    ensure!(checkout.state.status() == "paid", "a checkout was to be paid, but it is {}", checkout.state.status());
    Ok(())
}

fn now() -> Timestamp {
    time::to_milliseconds(time::now())
}

/// The ledger, as the inventory service would write it.
struct Books {
    ledger: Ledger,
    end: ChainEnd,
    sequence: u64,
}

impl Books {
    /// Take in what the catalogue brought; the service would do the same, but it must not run yet.
    async fn open(stage: &Stage) -> anyhow::Result<Self> {
        let mut books = Self { ledger: Ledger::default(), end: ChainEnd::default(), sequence: 0 };
        let deliveries = read::stretch(&stage.nats, StreamName::InventoryCommands, 1, 10_000, "inventory.command.>");
        let commands = deliveries.await.context("read the first deliveries")?.messages.into_iter();
        let commands = commands.map(|stored| serde_json::from_slice(&stored.payload)).collect::<Result<Vec<_>, _>>();
        books.book(stage, commands.context("read a delivery")?).await?;
        Ok(books)
    }

    async fn sell(&mut self, stage: &Stage, sold: &[(WorkflowId, Line)]) -> anyhow::Result<()> {
        let workflow = |id: &WorkflowId| WorkflowRef { kind: WorkflowKind::Checkout, id: *id };
        let reserve = sold.iter().map(|(id, line)| InventoryCommand::Reserve {
            workflow: workflow(id),
            lines: vec![StockLine { sku: line.sku.clone(), quantity: line.quantity }],
        });
        self.book(stage, reserve.collect()).await?;
        self.book(stage, sold.iter().map(|(id, _)| InventoryCommand::Commit { workflow: workflow(id) }).collect()).await
    }

    async fn book(&mut self, stage: &Stage, commands: Vec<InventoryCommand>) -> anyhow::Result<()> {
        let at = now();
        let requests: Vec<Request> = commands.into_iter().map(|command| Request { command, at }).collect();
        let group = self.ledger.decide_group(&requests, usize::MAX).context("decide a group")?;
        let entry = group.entry(&self.end);
        ensure!(entry.movements.len() == requests.len(), "every command was to move something");
        let payload = serde_json::to_vec(&entry).context("write an entry")?;
        let mut entry_headers = HeaderMap::new();
        entry_headers.insert(headers::INDEX, entry.index.to_string());
        let outgoing = Outgoing {
            subject: Subject::InventoryLedger,
            headers: entry_headers,
            payload: payload.clone().into(),
            expected: Some(self.sequence),
        };
        self.sequence =
            append(&stage.nats, StreamName::Inventory, outgoing, PATIENCE).await.context("write the ledger")?;
        self.ledger.apply_entry(&entry).context("book an entry")?;
        self.end.extend(&payload);
        Ok(())
    }
}

impl Figures {
    fn to_text(&self) -> String {
        let mut text = format!(
            "{} finished checkouts, written in {:.0} s. The inventory service has answered {:.0} ms after its start when it \
             reads the whole ledger, after {:.0} ms from a snapshot.\n",
            self.finished,
            self.written_in_s,
            self.inventory_start_from_ledger_ms,
            self.inventory_start_from_snapshot_ms,
        );
        let speeds =
            |runs: &[Run]| runs.iter().map(|run| format!("{:.0}", run.per_second())).collect::<Vec<_>>().join("  ");
        for Compared { in_flight, empty, full } in &self.cases {
            let middle = |runs: &[Run]| runs.get(runs.len() / 2).map(|run| run.to_session().p50_ms).unwrap_or_default();
            text += &format!(
                "{in_flight} in flight: {} checkouts/s with none finished, {} with all of them (start→session p50 {:.1} and {:.1} ms)\n",
                speeds(empty),
                speeds(full),
                middle(empty),
                middle(full)
            );
        }
        text
    }
}
