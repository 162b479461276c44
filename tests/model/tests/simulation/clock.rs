//! The virtual clock: tokio's paused time, as the services read it.

use std::{cell::Cell, time::Duration};

use common::time::{Timestamp, after, to_milliseconds};
use tokio::time::Instant;

thread_local! {
    static FIRST: Cell<Option<Instant>> = const { Cell::new(None) };
    static BEGINNING: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The world begins now, at a whole millisecond of the runtime's life: timers go off at those, so a seed would otherwise
/// depend on the seeds before it.
pub async fn begin() {
    let first = FIRST.get().unwrap_or_else(Instant::now);
    FIRST.set(Some(first));
    let past_a_whole_one = first.elapsed().subsec_nanos() % 1_000_000;
    tokio::time::advance(Duration::from_millis(2) - Duration::from_nanos(past_a_whole_one.into())).await;
    BEGINNING.set(Some(Instant::now()));
}

/// What the server's clock shows.
pub fn now() -> Timestamp {
    let since = BEGINNING.get().map_or(Duration::ZERO, |beginning| beginning.elapsed());
    let beginning = Timestamp::from_second(1_767_268_800).unwrap_or(Timestamp::UNIX_EPOCH);
    to_milliseconds(after(beginning, since))
}
