//! Commands come in: the durable pull consumer that pins one instance as the active one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_nats::jetstream::{
    self,
    consumer::{Consumer, pull},
};
use common::{
    contracts::inventory::InventoryCommand,
    nats::Nats,
    streams::{ConsumerName, INVENTORY_GROUP, INVENTORY_PIN_TIMEOUT},
    time::{after, from_server, now},
};
use futures_util::{FutureExt as _, StreamExt as _};

use crate::ledger::Request;

/// A pull ends after this and the next one begins: well within the time after which a silent instance loses its pin.
const PULL_EXPIRES: Duration = INVENTORY_PIN_TIMEOUT.saturating_sub(Duration::from_secs(2));

/// Half of [`PULL_EXPIRES`], the longest that the server allows.
const HEARTBEAT: Duration = Duration::from_millis(1_500);

/// Before the message stream is built again after it has ended.
const REBUILD_PAUSE: Duration = Duration::from_millis(500);

/// A server whose clock runs ahead of ours by more than this is wrong; its time would make the ledger forget what it must
/// still know, and refuse everything that comes at the right time.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// Nothing pulled for so long although something waits: a new process has better chances.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How often the consumer is asked while nothing comes.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);

/// One message of `inventory.command.<id>`.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) message: jetstream::Message,
    /// What is asked, or why it cannot be read.
    pub(crate) request: Result<Request, String>,
}

impl Incoming {
    fn read(message: jetstream::Message) -> Self {
        let request = read_request(&message);
        Self { message, request }
    }
}

fn read_request(message: &jetstream::Message) -> Result<Request, String> {
    let command: InventoryCommand = serde_json::from_slice(&message.payload)
        .map_err(|error| format!("not an inventory command that this version knows: {error}"))?;
    let info = message.info().map_err(|error| format!("not a message of a stream: {error}"))?;
    let at = from_server(info.published).min(after(now(), CLOCK_TOLERANCE));
    Ok(Request { command, at })
}

/// The stream of commands that wait for this instance.
pub(crate) struct Inbox {
    consumer: Consumer<pull::Config>,
    messages: pull::Stream,
    most: usize,
    watch: Watch,
}

/// When something was last seen to happen at the consumer.
struct Watch {
    asked: Instant,
    progress: Instant,
    delivered: u64,
}

/// What the server says of the consumer.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Commands that nobody was given yet.
    pending: u64,
    /// Grows with every delivery, to any instance.
    delivered: u64,
    paused: bool,
}

impl Watch {
    fn new(at: Instant) -> Self {
        Self { asked: at, progress: at, delivered: 0 }
    }

    /// For how long commands have waited without any instance being given one. Another instance that works is progress; so
    /// is a server that cannot be asked, since nobody could pull from it.
    fn stuck_for(&mut self, at: Instant, seen: Option<Seen>) -> Duration {
        let is_stuck = seen.is_some_and(|seen| seen.pending > 0 && !seen.paused && seen.delivered == self.delivered);
        if !is_stuck {
            self.progress = at;
        }
        self.delivered = seen.map_or(self.delivered, |seen| seen.delivered);
        at.duration_since(self.progress)
    }
}

impl Inbox {
    /// Begin to pull groups of at most `most` commands.
    pub(crate) async fn open(nats: &Nats, most: usize) -> anyhow::Result<Self> {
        let name = ConsumerName::Inventory;
        let consumer: Consumer<pull::Config> = nats
            .jetstream
            .get_consumer_from_stream(name.as_str(), name.stream().as_str())
            .await
            .with_context(|| format!("find consumer {} of {}", name.as_str(), name.stream().as_str()))?;
        let messages = pull_messages(&consumer, most).await?;
        Ok(Self { consumer, messages, most: most.max(1), watch: Watch::new(Instant::now()) })
    }

    /// Wait for a command, and take with it whatever else is here already. May be dropped while it waits.
    pub(crate) async fn next_group(&mut self) -> Vec<Incoming> {
        let first = self.next_message().await;
        let mut group = vec![Incoming::read(first)];
        while group.len() < self.most {
            // Unconstrained: tokio's budget for one task would end the group at about sixty messages.
            match tokio::task::unconstrained(self.messages.next()).now_or_never() {
                Some(Some(Ok(message))) => group.push(Incoming::read(message)),
                Some(Some(Err(error))) => tracing::warn!(%error, "pulling inventory commands"),
                // Nothing more now, or the end of the stream, which the next call meets again.
                Some(None) | None => break,
            }
        }
        self.watch.progress = Instant::now();
        group
    }

    async fn next_message(&mut self) -> jetstream::Message {
        loop {
            match self.messages.next().await {
                Some(Ok(message)) => return message,
                // A pause of the server or a broken connection: the stream goes on by itself when they are over.
                Some(Err(error)) => tracing::warn!(%error, "pulling inventory commands"),
                None => self.rebuild().await,
            }
        }
    }

    async fn rebuild(&mut self) {
        loop {
            tokio::time::sleep(REBUILD_PAUSE).await;
            match pull_messages(&self.consumer, self.most).await {
                Ok(messages) => {
                    tracing::info!("pulling inventory commands again");
                    self.messages = messages;
                    return;
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot pull inventory commands"),
            }
        }
    }

    /// Called while nothing comes: see whether that is as it should be.
    ///
    /// Fails when commands have waited for a minute and no instance has taken one.
    pub(crate) async fn watch(&mut self) -> anyhow::Result<()> {
        if self.watch.asked.elapsed() < WATCH_INTERVAL {
            return Ok(());
        }
        self.watch.asked = Instant::now();
        let seen = self.consumer.get_info().await.ok().map(|info| Seen {
            pending: info.num_pending,
            delivered: info.delivered.consumer_sequence,
            paused: info.paused,
        });
        if seen.is_some_and(|seen| seen.paused) {
            tracing::warn!("an operator has paused the consumer of inventory commands");
        }
        let stuck = self.watch.stuck_for(Instant::now(), seen);
        if stuck >= STUCK_AFTER {
            bail!(
                "inventory commands wait and no instance has been given one for {} s ({seen:?}): ending, so that a new \
                 process starts afresh",
                stuck.as_secs()
            );
        }
        Ok(())
    }
}

async fn pull_messages(consumer: &Consumer<pull::Config>, most: usize) -> anyhow::Result<pull::Stream> {
    consumer
        .stream()
        .group(INVENTORY_GROUP)
        // Twice a group: the next one arrives while this one is stored.
        .max_messages_per_batch(most.max(1) * 2)
        .expires(PULL_EXPIRES)
        .heartbeat(HEARTBEAT)
        .messages()
        .await
        .context("pull inventory commands")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Seen = Seen { pending: 0, delivered: 5, paused: false };
    const WAITING: Seen = Seen { pending: 3, delivered: 5, paused: false };

    fn stuck_after(seen: &[Option<Seen>]) -> u64 {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let mut stuck = Duration::ZERO;
        for (seen, number) in seen.iter().zip(1..) {
            stuck = watch.stuck_for(start + WATCH_INTERVAL * number, *seen);
        }
        stuck.as_secs()
    }

    #[test]
    fn commands_that_nobody_is_given_are_noticed() {
        assert_eq!(stuck_after(&[Some(IDLE), Some(WAITING), Some(WAITING), Some(WAITING)]), 30);
    }

    #[test]
    fn quiet_work_elsewhere_a_pause_and_a_server_that_is_away_are_no_reason_to_end() {
        let elsewhere = Seen { delivered: 9, ..WAITING };
        let paused = Seen { paused: true, ..WAITING };
        for last in [Some(IDLE), Some(elsewhere), Some(paused), None] {
            assert_eq!(stuck_after(&[Some(IDLE), Some(WAITING), Some(WAITING), last]), 0, "{last:?}");
        }
    }
}
