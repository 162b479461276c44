//! Workers: the real loop, with its cache, over the server in memory. A turn is a future that is polled by hand; to kill a
//! worker is to drop its turns and its cache.

use std::{num::NonZeroUsize, sync::Arc, task::Context, time::Duration};

use common::{
    ids::{WorkflowKind, WorkflowRef},
    streams::{StreamName, WORKER_ACK_WAIT},
};
use workflow_worker::{
    advance::{AdvanceError, Lane, Turn},
    history::{History, HistoryCache, HistoryError},
    steps::Steps,
    timers::Timers,
    workflow::{Rejection, Settings, Told, Workflow},
    workflows::{checkout::Checkout, refund::Refund},
};

use crate::{
    messages::{Body, Queued},
    provider::Provider,
    server::{Server, Stream, Task, Without},
};

/// As many turns as one worker may have at a time here.
const MOST_TURNS: usize = 3;

/// As in the worker's own inbox: deliveries of a message about a workflow that does not exist.
const MOST_DELIVERIES_UNKNOWN: i64 = 10;

struct Running {
    workflow: WorkflowRef,
    message: Queued,
    task: Task<Result<(), AdvanceError>>,
}

/// One worker process.
pub struct Worker {
    name: usize,
    server: Server,
    checkouts: Arc<Lane<Checkout>>,
    refunds: Arc<Lane<Refund>>,
    running: Vec<Running>,
}

fn lane<W: Workflow>(server: &Server) -> Arc<Lane<W>> {
    let stream = |name| Arc::new(Stream(server.clone(), name));
    Arc::new(Lane {
        history: History::new(Arc::new(server.clone())),
        cache: HistoryCache::new(NonZeroUsize::MIN.saturating_add(1)),
        steps: Arc::new(Steps::over(stream(StreamName::InventoryCommands), Arc::new(Provider(server.clone())))),
        timers: Timers::over(stream(StreamName::Timers)),
        settings: Settings {
            payment_timeout: Duration::from_secs(120),
            provider: "sandbox".parse().expect("a name"),
            retry_wait: Duration::from_secs(2),
        },
    })
}

impl Worker {
    /// A process that has just started.
    pub fn start(name: usize, server: &Server) -> Self {
        let (checkouts, refunds) = (lane(server), lane(server));
        Self { name, server: server.clone(), checkouts, refunds, running: Vec::new() }
    }

    /// How many turns it has.
    pub fn turns(&self) -> usize {
        self.running.len()
    }

    /// Take one message, if there is one and room for it. Turns of one workflow are taken one at a time.
    pub fn take(&mut self) -> bool {
        if self.running.len() >= MOST_TURNS {
            return false;
        }
        let taken = {
            let world = &mut *self.server.lock();
            let is_free = |message: &Queued| {
                message.body.workflow().is_some_and(|its| self.running.iter().all(|turn| turn.workflow != its))
            };
            let taken = world.for_workers.deliver(&mut world.chance, is_free, WORKER_ACK_WAIT);
            if let Some(message) = &taken {
                world.tell(|| format!("worker {} takes message {}: {:?}", self.name, message.number, message.body));
                if world.without == Some(Without::AckAfterTurn) {
                    world.for_workers.ack(message.number);
                }
            }
            taken
        };
        let Some(message) = taken else { return false };
        let Some(workflow) = message.body.workflow() else { return false };
        let task = self.turn(workflow, &message);
        self.running.push(Running { workflow, message, task });
        true
    }

    fn turn(&self, workflow: WorkflowRef, message: &Queued) -> Task<Result<(), AdvanceError>> {
        let (id, at, is_repeat) = (workflow.id, message.at, message.deliveries > 1);
        match workflow.kind {
            WorkflowKind::Checkout => {
                let told = match &message.body {
                    Body::Notice(_, notice) => Some(Told::PaymentNotice(notice.clone())),
                    other => read(other),
                };
                let lane = Arc::clone(&self.checkouts);
                Box::pin(async move {
                    let Some(told) = told else { return Ok(()) };
                    lane.advance(Turn { id, at, told, is_repeat, trace_parent: None }).await
                })
            }
            WorkflowKind::Refund => {
                let (told, lane) = (read(&message.body), Arc::clone(&self.refunds));
                Box::pin(async move {
                    let Some(told) = told else { return Ok(()) };
                    lane.advance(Turn { id, at, told, is_repeat, trace_parent: None }).await
                })
            }
        }
    }

    /// One of its turns goes on until it waits for somebody.
    pub fn go_on(&mut self, which: usize) {
        let Some(turn) = self.running.get_mut(which) else { return };
        let mut context = Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(outcome) = turn.task.as_mut().poll(&mut context) {
            let turn = self.running.swap_remove(which);
            self.settle(turn.workflow, &turn.message, outcome);
        }
    }

    /// It dies, with everything that it had in memory.
    pub fn die(&mut self) {
        let name = self.name;
        self.server.lock().tell(|| format!("worker {name} dies"));
        *self = Self::start(name, &self.server);
    }

    /// What becomes of a message, as `workflow-worker/src/inbox/settle.rs` says.
    fn settle(&self, workflow: WorkflowRef, message: &Queued, outcome: Result<(), AdvanceError>) {
        let world = &mut *self.server.lock();
        world.tell(|| format!("worker {} has done with message {}: {outcome:?}", self.name, message.number));
        let ack_is_lost = world.faults && world.chance.percent(5);
        match outcome {
            Ok(()) | Err(AdvanceError::Rejected(Rejection::No(_))) if ack_is_lost => {}
            Ok(()) | Err(AdvanceError::Rejected(Rejection::No(_))) => world.for_workers.ack(message.number),
            Err(AdvanceError::Rejected(Rejection::NotStarted(_))) if message.deliveries >= MOST_DELIVERIES_UNKNOWN => {
                world.for_workers.ack(message.number);
                world.truth.parked += 1;
            }
            Err(AdvanceError::Rejected(Rejection::Contradiction(why))) => {
                world.for_workers.ack(message.number);
                world.truth.parked += 1;
                if !matches!(message.body, Body::Notice(..)) {
                    world.complain(format!("a command of {workflow} was parked: {why}"));
                }
            }
            Err(broken @ AdvanceError::History(HistoryError::Broken { .. })) => {
                world.complain(format!("G8: {broken}"));
                world.for_workers.ack(message.number);
            }
            Err(_) => {
                let doublings = u32::try_from(message.deliveries.saturating_sub(1)).unwrap_or(0).min(20);
                let wait = Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(doublings));
                world.for_workers.hand_back(message.number, wait.min(Duration::from_secs(30)));
            }
        }
    }
}

fn read<C: serde::de::DeserializeOwned>(body: &Body) -> Option<Told<C>> {
    match body {
        Body::Command(_, payload) => serde_json::from_slice(payload).ok().map(Told::Asked),
        Body::Due(_) => Some(Told::TimeHasCome),
        Body::Notice(..) | Body::Inventory(_) => None,
    }
}
