//! What comes in: messages are pulled, read into types, put into per-workflow order, and settled when their turn has
//! ended: acked, handed back, or parked with the reason. An unacked command is the lease on its workflow.

mod many;
mod order;
mod pull;
mod room;
mod route;
mod settle;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::AckKind;
use common::{
    ids::{WorkflowKind, WorkflowRef},
    nats::Nats,
    streams::{ConsumerName, LOWEST_WORKER_PRIORITY},
};
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config,
    advance::{AdvanceError, Lane},
    sweep::Sweep,
    workflows::{checkout::Checkout, refund::Refund},
};
use order::PerWorkflowOrder;
use route::{Incoming, Unroutable};

/// A turn that lasts longer than this tells the server that it is alive; a third of the ack wait, so that two of these
/// may get lost.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// The registry: one line for each kind of workflow.
pub(crate) struct Lanes {
    pub(crate) checkout: Lane<Checkout>,
    pub(crate) refund: Lane<Refund>,
}

/// Everything that a message may need on its way.
pub(crate) struct Inbox {
    nats: Nats,
    lanes: Lanes,
    sweep: Sweep,
    provider: Arc<dyn common::payment::PaymentProvider>,
    order: PerWorkflowOrder,
    /// Turns that may run or wait at the same time.
    room: Arc<Semaphore>,
    /// Deliveries after which a message that always fails is parked.
    most_failures: i64,
    /// Who has a lower number is given messages first.
    priority: u8,
    turns: TaskTracker,
}

impl Inbox {
    pub(crate) fn new(
        nats: Nats,
        lanes: Lanes,
        sweep: Sweep,
        provider: Arc<dyn common::payment::PaymentProvider>,
        config: &Config,
    ) -> Arc<Self> {
        Arc::new(Self {
            nats,
            lanes,
            sweep,
            provider,
            order: PerWorkflowOrder::default(),
            room: room::widening(config.most_turns.get()),
            most_failures: config.most_failures,
            priority: config.priority.unwrap_or_else(|| fastrand::u8(0..=LOWEST_WORKER_PRIORITY)),
            turns: TaskTracker::new(),
        })
    }

    /// Take messages from every consumer until asked to stop, then let the turns that have begun come to an end.
    ///
    /// # Errors
    /// When a consumer is gone, or nothing comes although something waits: the process should be started anew.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(priority = self.priority, "taking messages; workers with a lower number are given them first");
        let consumers = self.nats.shards.all_consumers(&[
            ConsumerName::WorkerCommands,
            ConsumerName::WorkerWebhooks,
            ConsumerName::WorkerDue,
            ConsumerName::WorkerLedger,
        ]);
        let pulling = consumers.into_iter().map(|consumer| pull::pull(Arc::clone(&self), consumer, stop.clone()));
        let taken = futures_util::future::try_join_all(pulling).await;
        self.turns.close();
        self.turns.wait().await;
        taken.map(|_| ())
    }

    /// One message of a consumer: find out whose it is and give it its turn.
    pub(crate) async fn accept(self: &Arc<Self>, consumer: ConsumerName, message: async_nats::jetstream::Message) {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
        let message = Taken::new(consumer, message);
        let inbox = Arc::clone(self);
        match read(consumer, &message.message, &*self.provider) {
            Ok(Incoming::Sweep(at)) => {
                self.turns.spawn(async move {
                    let _permit = permit;
                    let outcome = message.with_progress(inbox.sweep.run(&inbox.nats, at)).await;
                    settle::sweep(&message, outcome).await;
                });
            }
            Ok(Incoming::ForMany(parts)) => {
                // Each of its turns takes a place of its own.
                drop(permit);
                self.accept_many(message, parts).await;
            }
            Ok(Incoming::Nothing { why }) => settle::nothing_to_do(&message, why).await,
            Ok(Incoming::Later { why }) => settle::later(&message, &why).await,
            Ok(Incoming::ForWorkflow(workflow, input)) => {
                self.order.submit(&self.turns, workflow, async move {
                    let _permit = permit;
                    inbox.take_turn(workflow, input, message).await;
                });
            }
            // Beside the others: parking may take a while when the dead letters cannot be written.
            Err(Unroutable { reason }) => {
                self.turns.spawn(async move {
                    let _permit = permit;
                    settle::park(&inbox.nats, &message, &reason).await;
                });
            }
        }
    }

    /// One turn of one workflow, from message to ack. A panic in it harms nobody else.
    async fn take_turn(&self, workflow: WorkflowRef, input: route::Input, message: Taken) {
        let turn = std::panic::AssertUnwindSafe(self.advance(workflow, input)).catch_unwind();
        let outcome = message.with_progress(turn).await;
        settle::turn(&self.nats, workflow, &message, outcome, self.most_failures).await;
    }

    async fn advance(&self, workflow: WorkflowRef, input: route::Input) -> Result<(), TurnError> {
        match workflow.kind {
            WorkflowKind::Checkout => self.lanes.checkout.advance(input.turn(workflow.id)?).await?,
            WorkflowKind::Refund => self.lanes.refund.advance(input.turn(workflow.id)?).await?,
        }
        Ok(())
    }
}

/// Find out what a message is for. A reader that panics has met a message that it cannot read: that one is parked, and
/// the others go on.
fn read(
    consumer: ConsumerName,
    message: &async_nats::jetstream::Message,
    provider: &dyn common::payment::PaymentProvider,
) -> Result<Incoming, Unroutable> {
    let read = std::panic::AssertUnwindSafe(|| route::route(consumer, message, provider));
    std::panic::catch_unwind(read).unwrap_or_else(|panic| {
        metrics::counter!("worker_panics_total").increment(1);
        Err(Unroutable { reason: format!("reading it panicked: {}", settle::panic_text(&*panic)) })
    })
}

/// Why a turn did not use its message up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    /// The message cannot be read as what its kind may be told.
    #[error(transparent)]
    Unreadable(#[from] Unroutable),
    /// The loop could not go on.
    #[error(transparent)]
    Advance(#[from] AdvanceError),
}

/// A message that was taken and must be settled.
pub(crate) struct Taken {
    pub(crate) consumer: ConsumerName,
    pub(crate) message: async_nats::jetstream::Message,
    /// How often it has been delivered, this time included.
    pub(crate) deliveries: i64,
}

impl Taken {
    fn new(consumer: ConsumerName, message: async_nats::jetstream::Message) -> Self {
        let deliveries = message.info().map_or(1, |info| info.delivered);
        Self { consumer, message, deliveries }
    }

    /// Run something for this message, telling the server now and then that it is still in good hands.
    async fn with_progress<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(PROGRESS_INTERVAL) => {
                    if let Err(error) = self.message.ack_with(AckKind::Progress).await {
                        tracing::debug!(%error, "could not tell the server that a turn is going on");
                    }
                }
            }
        }
    }
}
