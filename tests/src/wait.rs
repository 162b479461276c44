//! Waiting for a condition with a deadline, never for a time.

use std::time::{Duration, Instant};

/// Long enough for a command of a killed worker to come back after the ack wait (30 s).
const PATIENCE: Duration = Duration::from_secs(60);

/// Ask again and again until there is an answer.
///
/// # Panics
/// When there is none within a minute; the message says what was waited for.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, ask).await
}

/// The same with a deadline of one's own.
///
/// # Panics
/// When there is no answer in time.
pub async fn eventually_within<T>(patience: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < patience, "waited {} s in vain: {what}", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
