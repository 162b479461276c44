//! How long checkouts took, and how many came through while it was measured.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::milestones::{Reached, STAGES};

/// Longer than anything that is measured.
const LONGEST: Duration = Duration::from_secs(120);

/// Where the distribution is drawn.
const QUANTILES: [f64; 15] = [0.0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0];

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
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    to_session: Histogram<u64>,
    to_settled: Histogram<u64>,
    stages: [StageTime; STAGES.len()],
}

/// All the time that checkouts have spent in one stage.
#[derive(Debug, Clone, Copy, Default)]
struct StageTime {
    spent: Duration,
    checkouts: u32,
}

/// One latency's distribution, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Share of the checkouts, and the time within which they were served.
    pub(super) distribution: Vec<(f64, f64)>,
}

impl Flights {
    pub(super) fn new(window: Window) -> anyhow::Result<Self> {
        let longest = u64::try_from(LONGEST.as_micros())?;
        let histogram = || Histogram::new_with_bounds(1, longest, 3);
        let times =
            Times { to_session: histogram()?, to_settled: histogram()?, stages: [StageTime::default(); STAGES.len()] };
        Ok(Self { window, times: Mutex::new(times) })
    }

    /// Take note of a checkout that is settled now.
    pub(super) fn settled(&self, flight: &Flight) {
        let now = Instant::now();
        if !self.window.contains(now) {
            return;
        }
        let mut times = self.lock();
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        times.to_session.saturating_record(micros(flight.got_session - flight.started));
        times.to_settled.saturating_record(micros(now - flight.started));
        let mut before = Some(flight.started);
        for (stage, reached) in times.stages.iter_mut().zip(flight.reached) {
            if let (Some(from), Some(to)) = (before, reached) {
                stage.spent += to.saturating_duration_since(from);
                stage.checkouts += 1;
            }
            before = reached;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.lock().to_settled.len()
    }

    pub(super) fn to_session(&self) -> Latency {
        latency(&self.lock().to_session)
    }

    pub(super) fn to_settled(&self) -> Latency {
        latency(&self.lock().to_settled)
    }

    /// The mean time of each stage, in milliseconds.
    pub(super) fn stages_ms(&self) -> [f64; STAGES.len()] {
        self.lock().stages.map(|stage| in_ms(stage.spent / stage.checkouts.max(1)))
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let ms = |micros: u64| in_ms(Duration::from_micros(micros));
    let within = |quantile| ms(histogram.value_at_quantile(quantile));
    Latency {
        p50_ms: within(0.5),
        p99_ms: within(0.99),
        max_ms: ms(histogram.max()),
        distribution: QUANTILES.map(|quantile| (quantile, within(quantile))).to_vec(),
    }
}

/// A span in milliseconds, for people.
#[allow(clippy::float_arithmetic, reason = "a measured time, not money")]
pub(super) fn in_ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}
