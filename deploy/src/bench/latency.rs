//! How long things of one kind took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer than anything that is measured; what took longer counts as this.
const LONGEST: Duration = Duration::from_secs(120);

/// A time is kept to so many significant digits.
const DIGITS: u8 = 3;

/// Where the distribution is drawn.
const QUANTILES: [f64; 15] = [0.0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0];

/// The times of many things of one kind.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

/// One latency's distribution, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Share of the checkouts, and the time within which they were served.
    pub(super) distribution: Vec<(f64, f64)>,
}

impl Times {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, u64::try_from(LONGEST.as_micros())?, DIGITS)?))
    }

    pub(super) fn note(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn latency(&self) -> Latency {
        let ms = |micros: u64| in_ms(Duration::from_micros(micros));
        let within = |quantile| ms(self.0.value_at_quantile(quantile));
        Latency {
            p50_ms: within(0.5),
            p99_ms: within(0.99),
            max_ms: ms(self.0.max()),
            distribution: QUANTILES.map(|quantile| (quantile, within(quantile))).to_vec(),
        }
    }
}

/// A span in milliseconds, for people.
#[allow(clippy::float_arithmetic, reason = "a measured time, not money")]
pub(super) fn in_ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}
