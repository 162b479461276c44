//! Faults are carried out here, each to its end: what was killed runs again, what was cut is healed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use common::{
    streams::ConsumerName,
    time::{after, now},
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    overheard::Overheard,
    schedule::{Direction, Fault, Schedule, Target},
    stage::Stage,
};
use crate::{
    faulty_link::Flow,
    nats_server::NatsServer,
    service_process::{Process, Service},
};

/// A service that was asked to stop is killed after this.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at something that is expected soon.
const PAUSE: Duration = Duration::from_millis(50);
/// A server that does not come up in so many tries will not.
const START_ATTEMPTS: u8 = 3;
/// Faults that last at the same time: more of them and nothing runs at all.
const MOST_AT_ONCE: usize = 4;

/// Where Debian's package `libfaketime` puts the library.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The library that shifts a process' clock, if it is there.
pub(super) fn find_faketime(told: Option<&PathBuf>) -> Option<PathBuf> {
    let usual = FAKETIME.iter().map(PathBuf::from);
    told.cloned().into_iter().chain(usual).find(|path| path.is_file())
}

/// How often each fault was carried out, by its name; and what went wrong beyond the faults.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
    accidents: Mutex<Vec<String>>,
}

impl Tally {
    fn count(&self, name: String) {
        *lock(&self.counts).entry(name).or_default() += 1;
    }

    fn accident(&self, what: String) {
        tracing::error!(what, "a fault went further than it should");
        lock(&self.accidents).push(what);
    }

    /// By name.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }

    /// In words.
    pub(super) fn accidents(&self) -> Vec<String> {
        lock(&self.accidents).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who carries faults out.
pub(super) struct Tormentor {
    pub(super) stage: Arc<Stage>,
    pub(super) overheard: Arc<Overheard>,
    pub(super) faketime: Option<PathBuf>,
    pub(super) tally: Tally,
}

impl Tormentor {
    /// Carry out one fault after the other, some at the same time, until asked to stop; then wait until each has come to
    /// its end.
    pub(super) async fn run(self: &Arc<Self>, mut schedule: Schedule, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        while let Some((wait, fault)) = schedule.next() {
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                break;
            }
            while under_way.len() >= MOST_AT_ONCE {
                under_way.join_next().await;
            }
            let tormentor = Arc::clone(self);
            under_way.spawn(async move {
                let name = fault.name();
                match tormentor.inflict(fault).await {
                    Ok(true) => tormentor.tally.count(name),
                    // It met something that is in trouble already.
                    Ok(false) => {}
                    Err(error) => tracing::debug!(fault = name, error = format!("{error:#}"), "could not be done"),
                }
            });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Whether it was carried out.
    async fn inflict(&self, fault: Fault) -> anyhow::Result<bool> {
        match fault {
            Fault::Kill { target: Target::Server(place), down } => self.kill_server(place, down).await,
            Fault::Pause { target: Target::Server(place), still } => self.pause_server(place, still).await,
            Fault::Restart { target: Target::Server(place) } => self.restart_server(place).await,
            Fault::Kill { target: Target::Service(service), down } => self.kill(service, down).await,
            Fault::Pause { target: Target::Service(service), still } => self.pause(service, still).await,
            Fault::Restart { target: Target::Service(service) } => self.restart(service).await,
            Fault::SendAgain { area, count, choice } => Ok(self.overheard.send_again(area, count, choice).await > 0),
            Fault::ResetConsumer { consumer } => self.reset_consumer(consumer).await,
            Fault::PauseConsumer { consumer, still } => self.pause_consumer(consumer, still).await,
            Fault::Cut { service } => Ok(self.cut(service)),
            Fault::Link { service, direction, flow, lasts } => Ok(self.link(service, direction, flow, lasts).await),
            Fault::Provider { rule } | Fault::Webhooks { rule } => self.script(&rule).await,
            Fault::Clock { worker, offset_seconds, lasts } => self.shift_clock(worker, offset_seconds, lasts).await,
        }
    }

    async fn kill(&self, service: Service, down: Duration) -> anyhow::Result<bool> {
        let Some(slot) = self.stage.slots.get(&service) else { return Ok(false) };
        let Ok(mut process) = slot.process.try_lock() else { return Ok(false) };
        *process = None;
        sleep(down).await;
        slot.start(service, &mut process)?;
        Ok(true)
    }

    async fn pause(&self, service: Service, still: Duration) -> anyhow::Result<bool> {
        let Some(slot) = self.stage.slots.get(&service) else { return Ok(false) };
        let Ok(process) = slot.process.try_lock() else { return Ok(false) };
        let Some(running) = process.as_ref() else { return Ok(false) };
        running.signal(Signal::STOP)?;
        sleep(still).await;
        running.signal(Signal::CONT)?;
        Ok(true)
    }

    async fn restart(&self, service: Service) -> anyhow::Result<bool> {
        let Some(slot) = self.stage.slots.get(&service) else { return Ok(false) };
        let Ok(mut process) = slot.process.try_lock() else { return Ok(false) };
        if let Some(running) = process.as_mut() {
            running.signal(Signal::TERM)?;
            if !has_ended(running).await {
                self.tally.accident(format!(
                    "{service:?} did not stop within {} s of SIGTERM: see its log",
                    STOP_PATIENCE.as_secs()
                ));
            }
        }
        *process = None;
        slot.start(service, &mut process)?;
        Ok(true)
    }

    async fn shift_clock(&self, worker: u8, offset_seconds: i64, lasts: Duration) -> anyhow::Result<bool> {
        let Some(library) = &self.faketime else { return Ok(false) };
        let service = Service::Worker(worker);
        let Some(slot) = self.stage.slots.get(&service) else { return Ok(false) };
        let Ok(mut process) = slot.process.try_lock() else { return Ok(false) };
        let mut recipe = slot.recipe.clone();
        recipe.environment.extend([
            ("LD_PRELOAD".to_owned(), library.display().to_string()),
            ("FAKETIME".to_owned(), format!("{offset_seconds:+}s")),
            // Waits are of the same length whatever the clock says.
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
        ]);
        *process = None;
        *process = Some(Process::start(service, &recipe)?);
        sleep(lasts).await;
        *process = None;
        slot.start(service, &mut process)?;
        Ok(true)
    }

    async fn kill_server(&self, place: u8, down: Duration) -> anyhow::Result<bool> {
        let Some(server) = self.stage.servers.get(usize::from(place)) else { return Ok(false) };
        let Ok(mut server) = server.try_lock() else { return Ok(false) };
        server.kill()?;
        sleep(down).await;
        self.start_again(&mut server).await;
        Ok(true)
    }

    async fn restart_server(&self, place: u8) -> anyhow::Result<bool> {
        let Some(server) = self.stage.servers.get(usize::from(place)) else { return Ok(false) };
        let Ok(mut server) = server.try_lock() else { return Ok(false) };
        self.start_again(&mut server).await;
        Ok(true)
    }

    async fn start_again(&self, server: &mut NatsServer) {
        for attempt in 1..=START_ATTEMPTS {
            match server.restart().await {
                Ok(()) => return,
                Err(error) if attempt == START_ATTEMPTS => {
                    let error = anyhow::Error::from(error);
                    self.tally.accident(format!("a nats-server did not come up again: {error:#}"));
                }
                Err(error) => tracing::warn!(%error, attempt, "a nats-server did not come up; trying again"),
            }
        }
    }

    async fn pause_server(&self, place: u8, still: Duration) -> anyhow::Result<bool> {
        let Some(server) = self.stage.servers.get(usize::from(place)) else { return Ok(false) };
        let Ok(server) = server.try_lock() else { return Ok(false) };
        server.pause()?;
        sleep(still).await;
        server.resume()?;
        Ok(true)
    }

    async fn reset_consumer(&self, consumer: ConsumerName) -> anyhow::Result<bool> {
        let stream = self.stage.nats.jetstream.get_stream_no_info(consumer.stream().as_str()).await?;
        stream.reset_consumer(consumer.as_str(), None).await.context("reset a consumer")?;
        Ok(true)
    }

    async fn pause_consumer(&self, consumer: ConsumerName, still: Duration) -> anyhow::Result<bool> {
        let stream = self.stage.nats.jetstream.get_stream_no_info(consumer.stream().as_str()).await?;
        // The server lets it go on by itself, whatever becomes of us.
        let until = after(now(), still).as_nanosecond();
        let until = async_nats::datetime::DateTime::from_unix_timestamp_nanos(until)?;
        stream.pause_consumer(consumer.as_str(), until).await.context("pause a consumer")?;
        sleep(still).await;
        Ok(true)
    }

    fn cut(&self, service: Service) -> bool {
        let Some(links) = self.stage.links.get(&service) else { return false };
        links.iter().for_each(crate::faulty_link::FaultyLink::cut);
        true
    }

    async fn link(&self, service: Service, direction: Direction, flow: Flow, lasts: Duration) -> bool {
        let Some(links) = self.stage.links.get(&service) else { return false };
        for link in links {
            match direction {
                Direction::ToServer => link.to_server(flow),
                Direction::FromServer => link.to_client(flow),
                Direction::Both => link.both_ways(flow),
            }
        }
        sleep(lasts).await;
        links.iter().for_each(crate::faulty_link::FaultyLink::heal);
        true
    }

    async fn script(&self, rule: &Value) -> anyhow::Result<bool> {
        let url = format!("{}/api/faults", self.stage.sandbox_url());
        Ok(self.stage.http.post(url).json(rule).send().await?.status().is_success())
    }
}

async fn has_ended(process: &mut Process) -> bool {
    let started = tokio::time::Instant::now();
    while started.elapsed() < STOP_PATIENCE {
        if !matches!(process.ended(), Ok(None)) {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}
