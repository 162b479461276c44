//! What can be set, with a flag or a variable.

use std::{num::NonZeroUsize, time::Duration};

use common::{
    high_water::HighWaterOptions,
    streams::{COMMAND_MAX_AGE, LOWEST_WORKER_PRIORITY},
    time::parse_duration,
};

/// Settings of a workflow-worker.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// How long a customer has to pay, such as 120s or 30m, 1 s to 7 days; counted from the reservation of the stock.
    #[arg(long, env = "CHECKOUT_PAYMENT_TIMEOUT", default_value = "30m", value_name = "TIME", value_parser = parse_payment_timeout)]
    pub payment_timeout: Duration,
    /// How long a failed call to the payment provider waits before its second round; later rounds wait longer.
    #[arg(long, env = "CHECKOUT_RETRY_WAIT", default_value = "2s", value_name = "TIME", value_parser = parse_duration)]
    pub retry_wait: Duration,
    /// How often it is looked for forgotten workflows.
    #[arg(long, env = "CHECKOUT_SWEEP_INTERVAL", default_value = "60s", value_name = "TIME", value_parser = parse_duration)]
    pub sweep_interval: Duration,
    /// How late a deadline or an owed step may be before its workflow counts as forgotten and is nudged. The default is
    /// twelve times the ack wait (10 s): the command of a worker that died has come back by then, so that nobody who lives
    /// is overtaken.
    #[arg(long, env = "CHECKOUT_FORGOTTEN_AFTER", default_value = "120s", value_name = "TIME", value_parser = parse_duration)]
    pub forgotten_after: Duration,
    /// Histories of each kind that are kept at hand.
    #[arg(long, env = "CHECKOUT_CACHED_HISTORIES", default_value = "20000", value_name = "NUMBER")]
    pub cached_histories: NonZeroUsize,
    /// Turns that may run or wait at the same time; a worker begins with 64 and soon comes to these.
    #[arg(long, env = "CHECKOUT_MOST_TURNS", default_value = "2048", value_name = "NUMBER")]
    pub most_turns: NonZeroUsize,
    /// Which worker is given messages first, 0 to 9: the one with the lowest number, as long as it has room for more turns;
    /// what it does not take goes to the next one at once, and workers with the same number take turns. It decides nothing but
    /// how fast it is: a checkout goes fastest where its history is at hand. Without it a number is drawn at each start.
    #[arg(long, env = "CHECKOUT_WORKER_PRIORITY", value_name = "NUMBER",
        value_parser = clap::value_parser!(u8).range(0..=i64::from(LOWEST_WORKER_PRIORITY)))]
    pub priority: Option<u8>,
    /// After how many deliveries a message whose turn fails for a reason of its own, such as a panic, is parked. With the
    /// waits between them (100 ms, doubling up to 30 s) 20 take about six minutes: longer than a rolling update, and not so
    /// long that it goes unnoticed.
    #[arg(long, env = "CHECKOUT_MOST_FAILURES", default_value = "20", value_name = "NUMBER",
        value_parser = clap::value_parser!(i64).range(1..))]
    pub most_failures: i64,
    /// Run on streams that are not synced to disk on every write; for throw-away tests only.
    #[arg(long, env = "CHECKOUT_ALLOW_UNSYNCED")]
    pub allow_unsynced: bool,
    /// Where it is noted how far the histories are stored.
    #[command(flatten)]
    pub high_water: HighWaterOptions,
}

/// Less is no time to pay.
const SHORTEST_PAYMENT_TIMEOUT: Duration = Duration::from_secs(1);

/// Goods are held for as long; longer than any queue keeps what is asked about them makes no sense.
const LONGEST_PAYMENT_TIMEOUT: Duration = COMMAND_MAX_AGE;

/// Read how long a customer has to pay.
///
/// # Errors
/// A text that says what was expected.
pub fn parse_payment_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if (SHORTEST_PAYMENT_TIMEOUT..=LONGEST_PAYMENT_TIMEOUT).contains(&timeout) {
        Ok(timeout)
    } else {
        Err(format!("{text:?} is no time to pay: give 1s to 168h (7 days)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CASES E12.
    #[test]
    fn e12_a_time_to_pay_is_a_second_to_a_week() {
        assert_eq!(parse_payment_timeout("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse_payment_timeout("168h"), Ok(Duration::from_secs(7 * 24 * 60 * 60)));
        for wrong in ["0s", "999ms", "-30s", "168h 1s", "87600h", "120", "soon", ""] {
            assert!(parse_payment_timeout(wrong).is_err(), "{wrong}");
        }
    }
}
