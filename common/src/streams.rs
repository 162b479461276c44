//! Every stream and consumer of the system, with the reason of each setting. Only the provisioner creates them;
//! a service compares what it finds with this and refuses to run on a difference.

use std::{collections::HashMap, num::NonZeroU8, time::Duration};

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, PriorityPolicy, pull},
    stream::{Config, DiscardPolicy, Republish, StorageType},
};

use crate::shards::{MOST_SHARDS, Names, SHARDS_KEY, Shard, Shards};

/// A command that nobody has taken for this long is of no use to anybody, and the inventory forgets finished
/// reservations only after it; see the inventory's memory bound.
pub const COMMAND_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Longer than any provider retries a webhook (Stripe: 3 days; disputes refer back for weeks).
pub const WEBHOOK_MAX_AGE: Duration = Duration::from_secs(45 * 24 * 60 * 60);

/// Long enough for a person to look at a parked message after a holiday.
pub const DEAD_LETTER_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A wake-up call that no worker has taken for this long is left to the sweep. Calls that were taken stay as long, and almost
/// all of them are for workflows that are done: at 2,000 a second and a hundred in each call an hour of them takes 300 MB.
pub const DUE_TTL: Duration = Duration::from_secs(60 * 60);

/// The sweep's own call bears the mark from where it may read, which saves the next worker a reading of all histories.
pub const SWEEP_DUE_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A worker that has not acked or reported progress for this long is taken for dead, and its command goes to another. So
/// long do customers wait for a worker that was killed, and for a delivery that was lost with the node that sent it
/// (`cluster_rolling_restart`). A turn may last longer: it reports progress every three seconds.
pub const WORKER_ACK_WAIT: Duration = Duration::from_secs(10);

/// The inventory answers a group within milliseconds, or after a leader change of some seconds; a crashed instance's commands
/// come back after this, and so does an answer that was lost on its way: the command is answered once more.
pub const INVENTORY_ACK_WAIT: Duration = Duration::from_secs(5);

/// How long the inventory's active instance may be silent before a stand-by takes over.
pub const INVENTORY_PIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A history longer than this is a runaway workflow: its appends are refused and it is parked. A checkout that
/// retries its provider every 30 s for a day stays below.
pub const MAX_RECORDS_PER_WORKFLOW: i64 = 10_000;

/// The duplicate window is a convenience that nothing relies on (expected sequences do the work), so it is as short
/// as the server allows to be useful, to save its memory.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// The bucket (object store) of the inventory's snapshots.
pub const INVENTORY_SNAPSHOTS: &str = "INVENTORY_SNAPSHOTS";

/// The priority group in which one inventory instance is pinned as the active one.
pub const INVENTORY_GROUP: &str = "active";

/// The priority group of the workers: whoever has a lower number is given messages first, see [`ConsumerName::config`].
pub const WORKER_GROUP: &str = "workers";

/// The highest number of a worker's turn, the last to be given messages (nats-server allows 0 to 9, ADR-42).
pub const LOWEST_WORKER_PRIORITY: u8 = 9;

/// One stream of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamName {
    /// What is asked of workflows.
    Commands,
    /// What has happened in workflows: the truth.
    History,
    /// Wake-up calls.
    Timers,
    /// What payment providers have told.
    Webhooks,
    /// What is asked of the inventory.
    InventoryCommands,
    /// The ledger of stock: the other truth.
    Inventory,
    /// How many there are of each article, for readers.
    Stock,
    /// What the shop sells.
    Catalogue,
    /// What could not be handled.
    DeadLetters,
    /// A further part of the commands, where there are several; see [`crate::shards`].
    CommandsPart(NonZeroU8),
    /// A further part of the histories.
    HistoryPart(NonZeroU8),
}

static COMMANDS_NAMES: Names = Names::of_commands();
static HISTORY_NAMES: Names = Names::of_histories();

impl StreamName {
    /// Every stream of a shop whose histories and commands are in one stream each.
    pub const ALL: [Self; 9] = [
        Self::Commands,
        Self::History,
        Self::Timers,
        Self::Webhooks,
        Self::InventoryCommands,
        Self::Inventory,
        Self::Stock,
        Self::Catalogue,
        Self::DeadLetters,
    ];

    /// Its name at the server.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "COMMANDS",
            Self::History => "HISTORY",
            Self::Timers => "TIMERS",
            Self::Webhooks => "WEBHOOKS",
            Self::InventoryCommands => "INVENTORY_COMMANDS",
            Self::Inventory => "INVENTORY",
            Self::Stock => "STOCK",
            Self::Catalogue => "CATALOGUE",
            Self::DeadLetters => "DEAD_LETTERS",
            Self::CommandsPart(number) => COMMANDS_NAMES.get(number),
            Self::HistoryPart(number) => HISTORY_NAMES.get(number),
        }
    }

    /// How many streams there can be, parts included.
    pub(crate) const PLACES: usize = Self::ALL.len() + 2 * MOST_SHARDS as usize;

    /// Its place among all that there can be.
    pub(crate) fn place(self) -> usize {
        let part = |number: NonZeroU8| usize::from(number.get());
        match self {
            Self::CommandsPart(number) => Self::ALL.len() + part(number),
            Self::HistoryPart(number) => Self::ALL.len() + usize::from(MOST_SHARDS) + part(number),
            first => Self::ALL.iter().position(|&stream| stream == first).unwrap_or_default(),
        }
    }

    /// The stream of a name; `None` when it is not one of ours.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        if let Some(first) = Self::ALL.into_iter().find(|stream| stream.as_str() == name) {
            return Some(first);
        }
        let (kind, number) = name.rsplit_once('_')?;
        let kind = Self::ALL.into_iter().find(|stream| stream.as_str() == kind && stream.has_parts())?;
        let number = number.parse::<NonZeroU8>().ok().filter(|number| number.get() < MOST_SHARDS)?;
        Some(kind.part(Shard::Numbered(number))).filter(|part| part.as_str() == name)
    }

    /// Whether there may be several of this kind.
    #[must_use]
    pub fn has_parts(self) -> bool {
        matches!(self.kind(), Self::Commands | Self::History)
    }

    /// The place of this part among those of its kind, from 0.
    #[must_use]
    pub fn part_place(self) -> usize {
        match self {
            Self::CommandsPart(number) | Self::HistoryPart(number) => usize::from(number.get()),
            _ => 0,
        }
    }

    /// The first of its kind.
    #[must_use]
    pub fn kind(self) -> Self {
        match self {
            Self::CommandsPart(_) => Self::Commands,
            Self::HistoryPart(_) => Self::History,
            other => other,
        }
    }

    /// A part of this kind; the stream itself where a kind has none.
    #[must_use]
    pub fn part(self, shard: Shard) -> Self {
        match (self.kind(), shard) {
            (Self::Commands, Shard::Numbered(number)) => Self::CommandsPart(number),
            (Self::History, Shard::Numbered(number)) => Self::HistoryPart(number),
            (kind, _) => kind,
        }
    }

    /// Its configuration, but for what the place it runs in decides (replicas and bytes).
    #[must_use]
    pub fn config(self) -> Config {
        let base = Config {
            name: self.as_str().into(),
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            allow_direct: true,
            duplicate_window: DUPLICATE_WINDOW,
            ..Config::default()
        };
        match self {
            Self::Commands | Self::CommandsPart(_) => Config {
                subjects: vec![self.with_number("command", "*.*")],
                description: Some("What is asked of workflows: command.<kind>.<workflow id>. Gone soon after it is done.".into()),
                max_age: COMMAND_MAX_AGE,
                allow_atomic_publish: true,
                ..base
            },
            Self::History | Self::HistoryPart(_) => Config {
                subjects: vec![self.with_number("history", "*.*"), self.with_number("proof.history", "*")],
                description: Some("What has happened in workflows, for ever: history.<kind>.<workflow id>.".into()),
                allow_atomic_publish: true,
                // An append-only truth: neither one message nor a part of it can be taken away by a client, except by a
                // roll-up tombstone, which is how personal data is erased without the subject becoming "first" again.
                deny_delete: true,
                allow_rollup: true,
                max_messages_per_subject: MAX_RECORDS_PER_WORKFLOW,
                discard_new_per_subject: true,
                republish: Some(Republish {
                    source: self.with_number("history", ">"),
                    destination: self.with_number("live.history", ">"),
                    headers_only: false,
                }),
                ..base
            },
            Self::Timers => Config {
                subjects: vec!["timer.>".into(), "due.>".into()],
                description: Some(
                    "Wake-up calls: timer.<kind>.<id> is a schedule that becomes due.<kind>.<id>; timer.group.<id> is one for many.".into(),
                ),
                allow_message_schedules: true,
                allow_atomic_publish: true,
                // The server allows schedules only so (error 10052 otherwise). A call that is pushed out by a full stream
                // is what the sweep is for.
                discard: DiscardPolicy::Old,
                allow_message_ttl: true,
                // A schedule replaces the one before it on its subject by a roll-up.
                allow_rollup: true,
                ..base
            },
            Self::Webhooks => Config {
                subjects: vec!["webhook.*.*".into()],
                description: Some("Authentic webhooks as they came, each once: webhook.<provider>.<event id>.".into()),
                max_age: WEBHOOK_MAX_AGE,
                allow_atomic_publish: true,
                ..base
            },
            Self::InventoryCommands => Config {
                subjects: vec!["inventory.command.*".into(), "inventory.group.*".into()],
                description: Some(
                    "What is asked of the inventory: inventory.command.<id>, or many at once. Gone soon after it is done.".into(),
                ),
                max_age: COMMAND_MAX_AGE,
                allow_atomic_publish: true,
                ..base
            },
            Self::Inventory => Config {
                subjects: vec!["inventory.ledger".into()],
                description: Some("The ledger of stock, for ever: one message per group of commands.".into()),
                deny_delete: true,
                ..base
            },
            Self::Stock => Config {
                subjects: vec!["inventory.stock.*".into()],
                description: Some("How many there are of each article now: a projection of INVENTORY, for readers.".into()),
                max_messages_per_subject: 1,
                discard: DiscardPolicy::Old,
                allow_atomic_publish: true,
                ..base
            },
            Self::Catalogue => Config {
                subjects: vec!["catalogue.*".into()],
                description: Some("What the shop sells: catalogue.<sku>, the newest counts.".into()),
                max_messages_per_subject: 1,
                discard: DiscardPolicy::Old,
                ..base
            },
            Self::DeadLetters => Config {
                subjects: vec!["deadletter.*".into(), "deadletter.settled.*".into()],
                description: Some(
                    "What could not be handled, with its reason in the headers, and what operators did about it.".into(),
                ),
                max_age: DEAD_LETTER_MAX_AGE,
                // What an operator did is kept for ever (`Nats-TTL: never`), longer than the letter itself.
                allow_message_ttl: true,
                ..base
            },
        }
    }

    fn with_number(self, before: &str, after: &str) -> String {
        match self {
            Self::CommandsPart(number) | Self::HistoryPart(number) => format!("{before}.{number}.{after}"),
            _ => format!("{before}.{after}"),
        }
    }

    /// The share of the room that there is, in percent, of this kind: the truths get the most, and each has its own, so that a
    /// flood of one kind leaves room for the others to be settled.
    #[must_use]
    pub fn percent_of_storage(self) -> u64 {
        match self {
            Self::History | Self::HistoryPart(_) => 40,
            Self::Inventory => 15,
            Self::Webhooks => 12,
            Self::Commands | Self::CommandsPart(_) | Self::InventoryCommands | Self::Timers => 8,
            Self::DeadLetters => 4,
            Self::Stock | Self::Catalogue => 1,
        }
    }
}

/// What the place decides: how many servers keep each stream, how much room there is, and whether it was checked that
/// the servers sync every write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// 1 on one machine, 3 in production.
    pub replicas: usize,
    /// Bytes for all streams together.
    pub storage_bytes: u64,
    /// What the provisioner saw of the servers' `sync_interval`.
    pub durability: Durability,
    /// In how many parts histories and commands are; decided once.
    pub shards: Shards,
}

/// What a power cut does to acked writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: the servers sync every write (`sync_interval: always`).
    SyncAlways,
    /// It loses up to the sync interval. For throw-away tests and comparisons only.
    SyncSometimes,
}

impl Durability {
    /// The word in a stream's metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SyncAlways => "sync-always",
            Self::SyncSometimes => "sync-sometimes",
        }
    }
}

/// The metadata key under which the provisioner leaves what it saw, for services to read: they need no access to the
/// server's monitoring port.
pub const DURABILITY_KEY: &str = "checkout-durability";

impl Placement {
    /// The full configuration of a stream here.
    #[must_use]
    pub fn config(&self, stream: StreamName) -> Config {
        let parts = u64::try_from(self.shards.streams(stream.kind()).count()).unwrap_or(1);
        let room = self.storage_bytes / 100 * stream.percent_of_storage() / parts.max(1);
        let mut metadata = HashMap::from([(DURABILITY_KEY.to_owned(), self.durability.as_str().to_owned())]);
        if stream == StreamName::Commands && self.shards != Shards::ONE {
            metadata.insert(SHARDS_KEY.to_owned(), self.shards.to_string());
        }
        Config {
            num_replicas: self.replicas,
            max_bytes: i64::try_from(room).unwrap_or(i64::MAX),
            metadata,
            ..stream.config()
        }
    }
}

/// One durable consumer of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConsumerName {
    /// Workers take commands.
    WorkerCommands,
    /// Workers take webhooks.
    WorkerWebhooks,
    /// Workers take wake-up calls.
    WorkerDue,
    /// Workers take what the inventory has booked.
    WorkerLedger,
    /// The active inventory instance takes its commands.
    Inventory,
    /// Workers take commands from a further part; see [`crate::shards`].
    WorkerCommandsPart(NonZeroU8),
}

impl ConsumerName {
    /// Every consumer of a shop whose commands are in one stream.
    pub const ALL: [Self; 5] =
        [Self::WorkerCommands, Self::WorkerWebhooks, Self::WorkerDue, Self::WorkerLedger, Self::Inventory];

    /// Its durable name, one for all instances and versions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkerCommands
            | Self::WorkerCommandsPart(_)
            | Self::WorkerWebhooks
            | Self::WorkerDue
            | Self::WorkerLedger => "workflow-worker",
            Self::Inventory => "inventory-service",
        }
    }

    /// The stream that it reads.
    #[must_use]
    pub fn stream(self) -> StreamName {
        match self {
            Self::WorkerCommands => StreamName::Commands,
            Self::WorkerWebhooks => StreamName::Webhooks,
            Self::WorkerDue => StreamName::Timers,
            Self::WorkerLedger => StreamName::Inventory,
            Self::Inventory => StreamName::InventoryCommands,
            Self::WorkerCommandsPart(number) => StreamName::CommandsPart(number),
        }
    }

    /// The first of its kind.
    #[must_use]
    pub fn kind(self) -> Self {
        match self {
            Self::WorkerCommandsPart(_) => Self::WorkerCommands,
            other => other,
        }
    }

    /// The same for a part of its stream's kind; itself where there are no parts.
    #[must_use]
    pub fn part(self, shard: Shard) -> Self {
        match (self, shard) {
            (Self::WorkerCommands, Shard::Numbered(number)) => Self::WorkerCommandsPart(number),
            (consumer, _) => consumer,
        }
    }

    /// The priority group that pulls from it name; the server refuses a pull that names none.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self.kind() {
            Self::Inventory => INVENTORY_GROUP,
            _ => WORKER_GROUP,
        }
    }

    /// Its configuration. `max_deliver` is unlimited: a message over the limit would stay in the stream, silent; we count
    /// deliveries ourselves and park it with its reason.
    ///
    /// Workers are given messages by their priority, not in turn: what one worker is told of a checkout it knows already, and
    /// few large commits beat many small ones (two workers in turn did half of what one does alone, measured). The next worker
    /// is given what the first does not ask for: when it has no room, or is gone.
    #[must_use]
    pub fn config(self) -> pull::Config {
        let base = pull::Config {
            durable_name: Some(self.as_str().into()),
            ack_policy: AckPolicy::Explicit,
            deliver_policy: DeliverPolicy::All,
            ack_wait: WORKER_ACK_WAIT,
            max_deliver: -1,
            // Enough for 2,000 checkouts in flight, twice over.
            max_ack_pending: 4_096,
            // The default of 512 waiting pulls is enough for hundreds of instances.
            ..pull::Config::default()
        };
        let by_priority = pull::Config {
            priority_policy: PriorityPolicy::Prioritized,
            priority_groups: vec![self.group().into()],
            ..base.clone()
        };
        match self {
            Self::WorkerCommands | Self::WorkerCommandsPart(_) => pull::Config {
                description: Some("Workers take commands; an unacked command is the lease on its workflow.".into()),
                ..by_priority
            },
            Self::WorkerWebhooks => pull::Config {
                description: Some("Workers carry webhooks to the checkouts they are about.".into()),
                ..by_priority
            },
            Self::WorkerDue => pull::Config {
                description: Some("Workers wake the workflows whose time has come.".into()),
                filter_subject: "due.>".into(),
                ..by_priority
            },
            Self::WorkerLedger => pull::Config {
                description: Some(
                    "Workers carry what the inventory has booked to the checkouts that asked for it.".into(),
                ),
                // Made anew on a long ledger, it must not tell every checkout there ever was; whoever misses an answer is
                // found by the sweep, and asks again.
                deliver_policy: DeliverPolicy::New,
                ..by_priority
            },
            Self::Inventory => pull::Config {
                description: Some("The one active inventory instance takes its commands; others stand by.".into()),
                ack_wait: INVENTORY_ACK_WAIT,
                priority_policy: PriorityPolicy::PinnedClient,
                priority_groups: vec![self.group().into()],
                priority_timeout: INVENTORY_PIN_TIMEOUT,
                ..base
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_share_all_the_room_but_a_reserve() {
        let sum: u64 = StreamName::ALL.iter().map(|stream| stream.percent_of_storage()).sum();
        // The rest is for snapshots and for what the server needs itself.
        assert_eq!(sum, 97);
    }
}
