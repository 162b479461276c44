//! Requests in, stock moved once, answers out: one writer, one ledger.
//!
//! Reading order, the way of a command: [`config`] → `inbox` (pull a group) → [`ledger`] (pure: decide it) → `journal`
//! (store it as one message, which is also the fence) → `answers` (tell the workflows, then ack) → `projection` (tell the
//! readers of stock). `keeper` is the loop that leads through them; `snapshots` bound the start.

pub mod config;
pub mod ledger;

mod answers;
mod inbox;
mod journal;
mod keeper;
mod projection;
mod snapshots;

use anyhow::Context as _;
use common::{
    high_water::HighWater,
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    nats::{
        Nats,
        check::check,
        permissions::{Needs, check_in},
        trim::keep_trimmed,
    },
    streams::{ConsumerName, StreamName},
    subject::{DeadLetterArea, Subject},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use config::Config;
pub use snapshots::{Snapshot, UnusableSnapshot};

use crate::{answers::Answers, inbox::Inbox, keeper::Keeper, projection::Projection, snapshots::Snapshots};

/// The name in headers and logs, and at the server's connection list.
pub const SERVICE: &str = "inventory-service";

/// What this service reads or writes.
const STREAMS: [StreamName; 5] = [
    StreamName::InventoryCommands,
    StreamName::Inventory,
    StreamName::Stock,
    StreamName::Commands,
    StreamName::DeadLetters,
];

/// Keep the ledger until `stop`: as the active instance when the server chooses this one, as a stand-by that follows the
/// ledger otherwise. Safe to kill anywhere: what is stored is kept, and what is not acked comes again.
///
/// # Errors
/// When the server is not as it must be, the ledger cannot be trusted, or nothing can be pulled although commands wait.
pub async fn run(config: Config, nats: Nats, stop: CancellationToken) -> anyhow::Result<()> {
    let nats = check_in(nats, SERVICE, &needs()).await?;
    check(&nats, &STREAMS, config.allow_unsynced).await?;
    let high_water = HighWater::check(&config.high_water, &nats, &[StreamName::Inventory]).await?;
    let mut snapshots = Snapshots::open(&nats, config.snapshot_every).await;
    let current = snapshots::restore(&nats, &mut snapshots).await.context("read the ledger of stock")?;
    tracing::info!(
        entries = current.end.next_index,
        remembered = current.ledger.remembered(),
        "the ledger of stock is read"
    );
    let inbox = Inbox::open(&nats, config.group_commands).await?;
    let projection = Projection::start(nats.clone());
    let answers = Answers::start(nats.clone());
    let keeper = Keeper::new(nats.clone(), current, inbox, answers, projection, snapshots);
    let keeping = async {
        tokio::select! {
            ended = keeper.run(stop) => ended,
            never = keep_trimmed(&nats, ConsumerName::Inventory) => match never {},
        }
    };
    high_water.guard(keeping).await
}

/// Everything that this service does at the server.
fn needs() -> Needs<'static> {
    let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::from(Uuid::nil()) };
    let mut writes =
        vec![Subject::InventoryLedger, Subject::Command(workflow), Subject::DeadLetter(DeadLetterArea::Inventory)];
    writes.extend("PERMISSION-CHECK".parse::<Sku>().map(Subject::Stock));
    Needs {
        streams: &STREAMS,
        takes: &[ConsumerName::Inventory],
        reads: &[StreamName::Inventory, StreamName::Stock],
        asks_leader: &[StreamName::Inventory, StreamName::Stock],
        trims: &[StreamName::InventoryCommands],
        writes,
        publishes: &[
            // The place of an instance that has died.
            "$JS.API.CONSUMER.UNPIN.INVENTORY_COMMANDS.inventory-service",
            // The bucket of snapshots.
            "$O.INVENTORY_SNAPSHOTS.permission-check",
            "$JS.API.STREAM.INFO.OBJ_INVENTORY_SNAPSHOTS",
            "$JS.API.CONSUMER.CREATE.OBJ_INVENTORY_SNAPSHOTS",
        ],
    }
}
