//! What can be set, with a flag or a variable.

use std::{num::NonZeroUsize, time::Duration};

/// Settings of a workflow-worker.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// How long a customer has to pay, such as 120s or 30m; counted from the reservation of the stock.
    #[arg(long, env = "CHECKOUT_PAYMENT_TIMEOUT", default_value = "30m", value_name = "TIME", value_parser = duration)]
    pub payment_timeout: Duration,
    /// How long a failed call to the payment provider waits before its second round; later rounds wait longer.
    #[arg(long, env = "CHECKOUT_RETRY_WAIT", default_value = "2s", value_name = "TIME", value_parser = duration)]
    pub retry_wait: Duration,
    /// How often it is looked for forgotten workflows.
    #[arg(long, env = "CHECKOUT_SWEEP_INTERVAL", default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub sweep_interval: Duration,
    /// Histories of each kind that are kept at hand.
    #[arg(long, env = "CHECKOUT_CACHED_HISTORIES", default_value = "20000", value_name = "NUMBER")]
    pub cached_histories: NonZeroUsize,
    /// Turns that may run or wait at the same time.
    #[arg(long, env = "CHECKOUT_MOST_TURNS", default_value = "2048", value_name = "NUMBER")]
    pub most_turns: NonZeroUsize,
    /// Run on streams that are not synced to disk on every write; for throw-away tests only.
    #[arg(long, env = "CHECKOUT_ALLOW_UNSYNCED")]
    pub allow_unsynced: bool,
}

/// A time as people write it: `500ms`, `120s`, `30m`, `2h`.
///
/// # Errors
/// What was expected, when it is something else.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a time such as 500ms, 120s, 30m or 2h"))?;
    Duration::try_from(span).map_err(|_| format!("{text:?} is not a time from zero on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("120s"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "120", "-3s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
