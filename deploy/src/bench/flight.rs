//! How long checkouts took, and how many came through while it was measured.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    latency::{Latency, Times, in_ms},
    milestones::{Reached, STAGES},
};

/// What is measured: from the end of the warm-up, for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    from: Instant,
    to: Instant,
}

impl Window {
    pub(super) fn after(warm_up: Duration, measure: Duration) -> Self {
        let from = Instant::now() + warm_up;
        Self { from, to: from + measure }
    }

    pub(super) fn from(&self) -> Instant {
        self.from
    }

    pub(super) fn to(&self) -> Instant {
        self.to
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.to
    }

    fn contains(&self, at: Instant) -> bool {
        (self.from..self.to).contains(&at)
    }

    pub(super) fn length(&self) -> Duration {
        self.to - self.from
    }
}

/// One checkout from its start to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pub(super) started: Instant,
    pub(super) got_session: Instant,
    pub(super) reached: Reached,
}

/// The times of all checkouts that were settled within the window.
#[derive(Debug)]
pub(super) struct Flights {
    window: Window,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    to_session: Times,
    to_settled: Times,
    stages: [StageTime; STAGES.len()],
}

/// All the time that checkouts have spent in one stage.
#[derive(Debug, Clone, Copy, Default)]
struct StageTime {
    spent: Duration,
    checkouts: u32,
}

impl Flights {
    pub(super) fn new(window: Window) -> anyhow::Result<Self> {
        let stages = [StageTime::default(); STAGES.len()];
        let noted = Noted { to_session: Times::new()?, to_settled: Times::new()?, stages };
        Ok(Self { window, noted: Mutex::new(noted) })
    }

    /// Take note of a checkout that is settled now.
    pub(super) fn settled(&self, flight: &Flight) {
        let now = Instant::now();
        if !self.window.contains(now) {
            return;
        }
        let mut noted = self.lock();
        noted.to_session.note(flight.got_session - flight.started);
        noted.to_settled.note(now - flight.started);
        let mut before = Some(flight.started);
        for (stage, reached) in noted.stages.iter_mut().zip(flight.reached) {
            if let (Some(from), Some(to)) = (before, reached) {
                stage.spent += to.saturating_duration_since(from);
                stage.checkouts += 1;
            }
            before = reached;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.lock().to_settled.count()
    }

    pub(super) fn to_session(&self) -> Latency {
        self.lock().to_session.latency()
    }

    pub(super) fn to_settled(&self) -> Latency {
        self.lock().to_settled.latency()
    }

    /// The mean time of each stage, in milliseconds.
    pub(super) fn stages_ms(&self) -> [f64; STAGES.len()] {
        self.lock().stages.map(|stage| in_ms(stage.spent / stage.checkouts.max(1)))
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
