//! One seed: a few customers, two workers, two instances of the inventory, and everything that can go wrong, in an order
//! that the seed decides; then nothing goes wrong any more, and all must come to its end by itself.

use std::{collections::BTreeSet, task::Context, time::Duration};

use common::{
    contracts::{checkout::CheckoutCommand, inventory::InventoryCommand},
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    time::{Timestamp, after},
};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;
use workflow_worker::workflow::{Next, Workflow as _};

use crate::{
    clock,
    happenings::{HAPPENINGS, Happening, json, sku, start},
    inventory,
    messages::Body,
    processes::Worker,
    server::{Inner, Server, Task, Without},
};

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The first thing that was wrong.
    pub broken: Option<String>,
    /// What happened, if somebody wanted to know.
    pub trace: Vec<String>,
    /// Workflows that only the sweep remembered.
    pub nudges: usize,
    /// Records that were stored.
    pub records: usize,
    /// The types of the events in them.
    pub events: BTreeSet<String>,
}

/// As the worker's default.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// As the worker's default: later than this, a workflow that has not moved is nudged.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Longer than the shortest wait before a repeat, shorter than the longest.
const A_MOMENT: Duration = Duration::from_millis(50);

/// More rounds without faults than the longest way to an end takes: 24 rounds of refunds with their waits, and as many polls.
const MOST_ROUNDS: usize = 20_000;

struct World {
    server: Server,
    workers: Vec<Worker>,
    inventories: Vec<Task<()>>,
    nudges: usize,
}

/// Play a seed from its beginning to its end.
pub fn play(seed: u64, without: Option<Without>, is_told: bool) -> Outcome {
    // Without tokio's budget: sleeps are asked again and again within one poll of this.
    let course = tokio::task::unconstrained(async {
        clock::begin().await;
        let mut world = World::new(seed, without, is_told);
        let steps = 40 + world.server.lock().chance.below(260);
        for _ in 0..steps {
            if world.server.lock().broken.is_some() {
                break;
            }
            world.something_happens().await;
        }
        world.come_to_rest().await;
        world.outcome()
    });
    RUNTIME.with(|runtime| runtime.block_on(course))
}

thread_local! {
    /// One for all seeds of a thread: to make one takes a tenth of a seed's time.
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
}

impl World {
    fn new(seed: u64, without: Option<Without>, is_told: bool) -> Self {
        let server = Server::new(seed, without, is_told);
        {
            let world = &mut *server.lock();
            for article in 0..2 {
                let quantity = u32::try_from(1 + world.chance.below(3)).unwrap_or(1);
                let restock_id = Uuid::from_u128(0x1000 + article);
                let command = InventoryCommand::Restock { restock_id, sku: sku(article), quantity, by: None };
                let times = 1 + usize::from(world.chance.percent(20));
                for _ in 0..times {
                    world.for_inventory.put(Body::Inventory(json(&command)), clock::now());
                }
            }
            for customer in 0..=world.chance.below(3) {
                let id = WorkflowId::from(Uuid::from_u128(customer as u128 + 1));
                world.starts.push((id, start(world.chance.below(3))));
                world.ask(customer);
            }
        }
        let workers = (0..2).map(|name| Worker::start(name, &server)).collect();
        let inventories = (0..2).map(|_| keep(&server)).collect();
        Self { server, workers, inventories, nudges: 0 }
    }

    async fn something_happens(&mut self) {
        let Some(happening) = self.server.lock().chance.weighted(&HAPPENINGS) else { return };
        match happening {
            Happening::TurnGoesOn => {
                let which = self.server.lock().chance.below(self.workers.iter().map(Worker::turns).sum());
                self.turn_goes_on(which);
            }
            Happening::WorkerTakes => {
                let which = self.server.lock().chance.below(self.workers.len());
                self.workers[which].take();
            }
            Happening::InventoryGoesOn => {
                let which = self.server.lock().chance.below(self.inventories.len());
                self.inventory_goes_on(which);
            }
            Happening::TimePasses => self.time_passes(2_000).await,
            Happening::MuchTimePasses => self.time_passes(150_000).await,
            Happening::WorkerDies => {
                let which = self.server.lock().chance.below(self.workers.len());
                self.workers[which].die();
            }
            Happening::InventoryDies => {
                let which = self.server.lock().chance.below(self.inventories.len());
                self.server.lock().tell(|| format!("inventory {which} dies"));
                self.inventories[which] = Box::pin(std::future::pending());
                self.inventories[which] = keep(&self.server);
            }
            other => self.server.lock().happens(other),
        }
    }

    fn turn_goes_on(&mut self, mut which: usize) {
        for worker in &mut self.workers {
            if which < worker.turns() {
                return worker.go_on(which);
            }
            which -= worker.turns();
        }
    }

    fn inventory_goes_on(&mut self, which: usize) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let _ = self.inventories[which].as_mut().poll(&mut context);
    }

    async fn time_passes(&mut self, most_ms: usize) {
        let ms = self.server.lock().chance.below(most_ms) as u64;
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    /// From now on nothing goes wrong: everything is delivered, everybody answers, time goes by.
    async fn come_to_rest(&mut self) {
        {
            let world = &mut *self.server.lock();
            world.tell(|| "from now on nothing goes wrong".to_owned());
            world.faults = false;
            for (subject, headers, payload) in std::mem::take(&mut world.late) {
                world.store(&subject, headers, payload);
            }
        }
        let (mut stored, mut next_sweep) = (0, clock::now());
        for _ in 0..MOST_ROUNDS {
            if self.server.lock().broken.is_some() {
                return;
            }
            for worker in &mut self.workers {
                while worker.take() {}
                for turn in (0..worker.turns()).rev() {
                    worker.go_on(turn);
                }
            }
            for which in 0..self.inventories.len() {
                self.inventory_goes_on(which);
            }
            // A message that is handed back again and again, such as a webhook before its session, is no rest.
            if self.server.lock().timers_purged && next_sweep <= clock::now() {
                next_sweep = after(clock::now(), SWEEP_INTERVAL);
                self.sweep();
            }
            let next = self.server.lock().what_next();
            match next {
                // Whoever could go on waits for a moment of its own, such as the next try of an append.
                WhatNext::GoOn if self.server.lock().stored() == stored => {
                    tokio::time::advance(A_MOMENT).await;
                }
                WhatNext::GoOn => {}
                WhatNext::At(at) => {
                    let turns_under_way = self.workers.iter().any(|worker| worker.turns() > 0);
                    let wait = if turns_under_way { A_MOMENT } else { time_until(at) };
                    tokio::time::advance(wait).await;
                }
                WhatNext::Nothing if self.workers.iter().any(|worker| worker.turns() > 0) => {
                    tokio::time::advance(A_MOMENT).await;
                }
                WhatNext::Nothing if self.server.lock().open().is_empty() => {
                    return self.server.lock().check_at_rest();
                }
                // Only a purge of TIMERS may make anybody forget.
                WhatNext::Nothing if self.server.lock().timers_purged => tokio::time::advance(SWEEP_INTERVAL).await,
                WhatNext::Nothing => {
                    let world = &mut *self.server.lock();
                    let open = world.open();
                    world.complain(format!("promise 3: forgotten, although TIMERS was not purged: {open:?}"));
                }
            }
            stored = self.server.lock().stored();
        }
        self.server.lock().complain("promise 3: it does not come to rest".to_owned());
    }

    /// Nudge what was forgotten.
    fn sweep(&mut self) {
        let world = &mut *self.server.lock();
        for workflow in world.forgotten() {
            self.nudges += 1;
            // Both kinds spell it the same.
            let payload = json(&CheckoutCommand::Nudge);
            world.for_workers.put(Body::Command(workflow, payload), clock::now());
        }
    }

    fn outcome(&mut self) -> Outcome {
        let world = &mut *self.server.lock();
        Outcome {
            broken: world.broken.take(),
            trace: world.trace.take().unwrap_or_default(),
            nudges: self.nudges,
            records: world.histories.values().map(Vec::len).sum(),
            events: std::mem::take(&mut world.truth.events),
        }
    }
}

enum WhatNext {
    GoOn,
    At(Timestamp),
    Nothing,
}

fn time_until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(clock::now())).unwrap_or_default() + Duration::from_millis(1)
}

fn keep(server: &Server) -> Task<()> {
    Box::pin(inventory::keep(server.clone()))
}

impl Inner {
    /// The next moment at which something happens by itself.
    fn what_next(&mut self) -> WhatNext {
        let next = [self.for_workers.next(), self.for_inventory.next(), self.timers.values().min().copied()];
        let Some(at) = next.into_iter().flatten().min() else { return WhatNext::Nothing };
        self.timer_goes_off();
        if at <= clock::now() { WhatNext::GoOn } else { WhatNext::At(at) }
    }

    /// Every workflow that has not ended, and what it owes.
    fn open(&self) -> Vec<(WorkflowRef, Next)> {
        let next = |workflow: WorkflowRef| match workflow.kind {
            WorkflowKind::Checkout => self.truth.checkouts[&workflow.id].state.next(workflow.id),
            WorkflowKind::Refund => self.truth.refunds[&workflow.id].state.next(workflow.id),
        };
        let all = self.histories.keys().map(|workflow| (*workflow, next(*workflow)));
        all.filter(|(_, next)| *next != Next::Done).collect()
    }

    /// What should have moved long ago, as `workflow-worker/src/sweep.rs` sees it.
    fn forgotten(&self) -> Vec<WorkflowRef> {
        let last_record_at =
            |workflow: &WorkflowRef| self.histories[workflow].last().map_or(Timestamp::UNIX_EPOCH, |last| last.time);
        let is_forgotten = |(workflow, next): &(WorkflowRef, Next)| match next {
            Next::Wait { until: Some(until) } => {
                after(last_record_at(workflow).max(*until), FORGOTTEN_AFTER) < clock::now()
            }
            Next::Run(_) => after(last_record_at(workflow), FORGOTTEN_AFTER) < clock::now(),
            Next::Wait { until: None } | Next::Done => false,
        };
        self.open().into_iter().filter(is_forgotten).map(|(workflow, _)| workflow).collect()
    }
}
