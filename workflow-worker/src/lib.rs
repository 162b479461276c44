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
    nats::{Nats, check::check},
    payment::PaymentProvider,
    streams::StreamName,
};
use tokio_util::sync::CancellationToken;

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
        StreamName::DeadLetters,
    ];
    // The consumer of INVENTORY_COMMANDS is the inventory's, but a missing one would leave every checkout undecided.
    check(&nats, &streams, config.allow_unsynced).await.context("check the streams before taking commands")?;

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
    Inbox::new(nats, lanes, sweep, provider, config.most_turns.get()).run(stop).await
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
