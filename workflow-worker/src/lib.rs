//! workflow-worker: take a command, replay its workflow, append what it causes, do the step it owes.
//!
//! Reading order, the way of a command: `inbox` (taken, put in order, settled) → [`history`] (read, folded, continued)
//! → [`advance`] (the loop) → [`workflows`] (what it means, pure) → [`steps`] (the only code that acts outside);
//! beside it [`timers`] and the safety net, [`sweep`].

pub mod advance;
pub mod config;
pub mod history;
mod inbox;
pub mod steps;
pub mod sweep;
pub mod timers;
pub mod workflow;
pub mod workflows;

use std::sync::Arc;

use anyhow::Context as _;
use common::{
    high_water::HighWater,
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{
        Nats,
        check::check,
        permissions::{Needs, check_in},
        trim::keep_trimmed,
    },
    payment::PaymentProvider,
    streams::{ConsumerName, StreamName},
    subject::{DeadLetterArea, Subject},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use config::Config;

use crate::{
    advance::Lane,
    history::{History, HistoryCache, NatsHistory},
    inbox::{Inbox, Lanes},
    steps::Steps,
    sweep::Sweep,
    timers::Timers,
    workflow::{Settings, Workflow},
};

/// The name under which this service writes messages and logs.
pub const SERVICE: &str = "workflow-worker";

/// Run a worker until asked to stop; what it has begun comes to an end first.
///
/// # Errors
/// When the streams are not as they must be, or the worker cannot go on and should be started anew. Nothing is lost
/// either way: what was not acked comes to another worker.
pub async fn run(
    config: Config,
    nats: Nats,
    provider: Arc<dyn PaymentProvider>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let streams = [
        StreamName::Commands,
        StreamName::History,
        StreamName::Timers,
        StreamName::Webhooks,
        StreamName::InventoryCommands,
        StreamName::Inventory,
        StreamName::DeadLetters,
    ];
    let nats = check_in(nats, SERVICE, &needs(&streams)).await?;
    // The consumer of INVENTORY_COMMANDS is the inventory's, but a missing one would leave every checkout undecided.
    check(&nats, &streams, config.allow_unsynced).await.context("check the streams before taking commands")?;
    let high_water =
        HighWater::check(&config.high_water, &nats, &nats.shards.all_streams(&[StreamName::History])).await?;

    let timers = Timers::new(nats.clone());
    let sweep = Sweep::new(&nats, timers.clone(), config.sweep_interval, config.forgotten_after);
    sweep.arm(&nats).await.context("arm the sweep")?;

    let steps = Arc::new(Steps::new(nats.clone(), Arc::clone(&provider)));
    let history = History::new(Arc::new(NatsHistory::new(nats.clone())));
    let settings =
        Settings { payment_timeout: config.payment_timeout, provider: provider.name(), retry_wait: config.retry_wait };
    let lanes = Lanes {
        checkout: lane(&history, &steps, &timers, &settings, &config),
        refund: lane(&history, &steps, &timers, &settings, &config),
    };
    tracing::info!(payment_timeout = %common::time::in_words(config.payment_timeout), provider = %provider.name(), "taking commands");
    let inbox = Inbox::new(nats.clone(), lanes, sweep.clone(), provider, &config);
    let working = async {
        tokio::select! {
            ended = inbox.run(stop) => ended,
            never = sweep.keep_armed(&nats) => match never {},
            never = keep_trimmed(&nats, ConsumerName::WorkerCommands) => match never {},
        }
    };
    high_water.guard(working).await
}

/// Everything that a worker does at the server.
fn needs(streams: &[StreamName]) -> Needs<'_> {
    let mut writes = vec![
        Subject::HistoryProof(Uuid::nil()),
        Subject::SweepTimer,
        Subject::InventoryCommand(Uuid::nil()),
        Subject::InventoryGroup(Uuid::nil()),
        Subject::TimerGroup(Uuid::nil()),
    ];
    for kind in WorkflowKind::ALL {
        let workflow = WorkflowRef { kind, id: WorkflowId::from(Uuid::nil()) };
        writes.extend([Subject::History(workflow), Subject::Command(workflow), Subject::Timer(workflow)]);
    }
    let areas = [DeadLetterArea::Command, DeadLetterArea::Webhook, DeadLetterArea::Due, DeadLetterArea::History];
    writes.extend(areas.map(Subject::DeadLetter));
    Needs {
        streams,
        takes: &[
            ConsumerName::WorkerCommands,
            ConsumerName::WorkerWebhooks,
            ConsumerName::WorkerDue,
            ConsumerName::WorkerLedger,
        ],
        reads: &[StreamName::History, StreamName::Timers],
        asks_leader: &[StreamName::History],
        trims: &[StreamName::Commands],
        writes,
        publishes: &[],
    }
}

fn lane<W: Workflow>(
    history: &History,
    steps: &Arc<Steps>,
    timers: &Timers,
    settings: &Settings,
    config: &Config,
) -> Lane<W> {
    Lane {
        history: history.clone(),
        cache: HistoryCache::new(config.cached_histories),
        steps: Arc::clone(steps),
        timers: timers.clone(),
        settings: settings.clone(),
    }
}
