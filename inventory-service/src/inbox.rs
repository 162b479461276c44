//! Commands come in: the durable pull consumer that pins one instance as the active one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        consumer::{Consumer, pull},
    },
};
use common::{
    contracts::inventory::InventoryGroup,
    headers,
    ids::WorkflowRef,
    nats::Nats,
    streams::{ConsumerName, INVENTORY_GROUP, INVENTORY_PIN_TIMEOUT},
    subject::Subject,
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

/// A message of `INVENTORY_COMMANDS`, which brings one command or many and is settled when all of them are.
#[derive(Debug)]
struct Delivery {
    message: jetstream::Message,
    /// Commands of it that are not handled yet.
    open: AtomicUsize,
    /// Whether one of them could not be answered: then all come again, and those that were are answered the same.
    failed: AtomicBool,
}

/// One command that has come in, or a message that cannot be read.
#[derive(Debug)]
pub(crate) struct Incoming {
    delivery: Arc<Delivery>,
    /// What is asked, or why it cannot be read.
    pub(crate) request: Result<Request, String>,
}

impl Incoming {
    /// Everything that a message asks.
    fn read(message: jetstream::Message) -> Vec<Self> {
        let requests = read_requests(&message);
        let open = AtomicUsize::new(requests.as_ref().map_or(1, Vec::len));
        let delivery = Arc::new(Delivery { message, open, failed: AtomicBool::new(false) });
        let incoming = |request| Self { delivery: Arc::clone(&delivery), request };
        match requests {
            Ok(requests) => requests.into_iter().map(|request| incoming(Ok(request))).collect(),
            Err(reason) => vec![incoming(Err(reason))],
        }
    }

    /// The message that brought it.
    pub(crate) fn message(&self) -> &jetstream::Message {
        &self.delivery.message
    }

    /// It is handled, or could not be. With the last command of a message, what is to be done with the message.
    pub(crate) fn handled(&self, is_answered: bool) -> Option<Settled> {
        if !is_answered {
            self.delivery.failed.store(true, Ordering::Relaxed);
        }
        let is_last = self.delivery.open.fetch_sub(1, Ordering::AcqRel) == 1;
        is_last.then(|| if self.delivery.failed.load(Ordering::Relaxed) { Settled::Again } else { Settled::Done })
    }

    /// Where somebody waits for the answer in person. Only a private inbox: a header must not make us write into somebody's
    /// subject.
    pub(crate) fn answer_inbox(&self) -> Option<String> {
        self.message().headers.as_ref().and_then(private_inbox)
    }

    /// The workflow whose answer a person waits for, instead of a worker.
    pub(crate) fn answered_in_person(&self) -> Option<WorkflowRef> {
        self.answer_inbox()?;
        self.request.as_ref().ok()?.command.workflow()
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All of its commands are answered.
    Done,
    /// It comes again.
    Again,
}

fn private_inbox(headers: &HeaderMap) -> Option<String> {
    let subject = headers.get(headers::ANSWER_TO)?.as_str();
    let is_token = |token: &str| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'>')
    };
    let rest = subject.strip_prefix("_INBOX.")?;
    (subject.len() <= 256 && rest.split('.').all(is_token)).then(|| subject.to_owned())
}

/// At least one command, each with the time at which the server took it in.
fn read_requests(message: &jetstream::Message) -> Result<Vec<Request>, String> {
    let unreadable = |error: serde_json::Error| format!("not an inventory command that this version knows: {error}");
    let commands = match message.subject.parse() {
        Ok(Subject::InventoryGroup(_)) => {
            serde_json::from_slice::<InventoryGroup>(&message.payload).map_err(unreadable)?.commands
        }
        _ => vec![serde_json::from_slice(&message.payload).map_err(unreadable)?],
    };
    if commands.is_empty() {
        return Err("a group without commands".to_owned());
    }
    let info = message.info().map_err(|error| format!("not a message of a stream: {error}"))?;
    let at = from_server(info.published).min(after(now(), CLOCK_TOLERANCE));
    Ok(commands.into_iter().map(|command| Request { command, at }).collect())
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
        take_the_place_of_the_dead(nats, &consumer).await;
        let messages = pull_messages(&consumer, most).await?;
        Ok(Self { consumer, messages, most: most.max(1), watch: Watch::new(Instant::now()) })
    }

    /// Wait for a command, and take with it whatever else is here already. May be dropped while it waits.
    pub(crate) async fn next_group(&mut self) -> Vec<Incoming> {
        let first = self.next_message().await;
        let mut group = Incoming::read(first);
        while group.len() < self.most {
            // Unconstrained: tokio's budget for one task would end the group at about sixty messages.
            match tokio::task::unconstrained(self.messages.next()).now_or_never() {
                Some(Some(Ok(message))) => group.extend(Incoming::read(message)),
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

/// An instance that has died keeps its pin until it has been silent for long enough. When nobody at all waits for commands, the
/// pinned one is dead or just between two pulls, and the place is given free at once. To be wrong about it is harmless: the
/// pinned one notices and pulls again, and who may write is decided by the ledger alone.
async fn take_the_place_of_the_dead(nats: &Nats, consumer: &Consumer<pull::Config>) {
    // Asked for a moment ago, to find the consumer.
    let info = consumer.cached_info();
    let is_pinned = info.priority_groups.iter().any(|group| group.pinned_client_id.is_some());
    if !is_pinned || info.num_waiting > 0 {
        return;
    }
    let unpinned = async {
        let stream = nats.jetstream.get_stream_no_info(&info.stream_name).await.map_err(|error| error.to_string())?;
        stream.unpin_consumer(&info.name, INVENTORY_GROUP).await.map_err(|error| error.to_string())
    };
    match unpinned.await {
        Ok(()) => tracing::info!("the former active instance is gone: its place is free"),
        Err(error) => tracing::debug!(error, "the place of the former active instance comes free by itself"),
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

    #[test]
    fn only_a_private_inbox_is_answered() {
        let inbox = |subject: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(headers::ANSWER_TO, subject);
            private_inbox(&headers)
        };
        assert_eq!(inbox("_INBOX.abc.1").as_deref(), Some("_INBOX.abc.1"));
        for subject in
            ["", "_INBOX", "_INBOX.", "_INBOX.a..b", "_INBOX.*", "_INBOX.a.>", "inventory.ledger", "x._INBOX.a"]
        {
            assert_eq!(inbox(subject), None, "{subject}");
        }
        assert_eq!(private_inbox(&HeaderMap::new()), None);
    }
}
