//! What can be set, with a flag or a variable.

use std::{num::NonZeroUsize, time::Duration};

use common::time::parse_duration;

/// Settings of a workflow-worker.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// How long a customer has to pay, such as 120s or 30m; counted from the reservation of the stock.
    #[arg(long, env = "CHECKOUT_PAYMENT_TIMEOUT", default_value = "30m", value_name = "TIME", value_parser = parse_duration)]
    pub payment_timeout: Duration,
    /// How long a failed call to the payment provider waits before its second round; later rounds wait longer.
    #[arg(long, env = "CHECKOUT_RETRY_WAIT", default_value = "2s", value_name = "TIME", value_parser = parse_duration)]
    pub retry_wait: Duration,
    /// How often it is looked for forgotten workflows.
    #[arg(long, env = "CHECKOUT_SWEEP_INTERVAL", default_value = "60s", value_name = "TIME", value_parser = parse_duration)]
    pub sweep_interval: Duration,
    /// How late a deadline or an owed step may be before its workflow counts as forgotten and is nudged. The default is
    /// four times the ack wait (30 s): the command of a worker that died has come back by then, so that nobody who lives
    /// is overtaken.
    #[arg(long, env = "CHECKOUT_FORGOTTEN_AFTER", default_value = "120s", value_name = "TIME", value_parser = parse_duration)]
    pub forgotten_after: Duration,
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
