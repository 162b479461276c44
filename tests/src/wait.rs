//! Waiting for a condition with a deadline, never for a time.

use std::time::{Duration, Instant};

/// Long enough for a command of a killed worker to come back after the ack wait (10 s).
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
    eventually_ok_within(patience, what, async || ask().await.ok_or_else(String::new)).await
}

/// Ask again and again until there is an answer, where it can be told why there is none yet.
///
/// # Panics
/// When there is none within a minute; the message says what was waited for, and what stood in the way at last.
pub(crate) async fn eventually_ok<T>(what: &str, ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    eventually_ok_within(PATIENCE, what, ask).await
}

/// The same with a deadline of one's own.
///
/// # Panics
/// When there is no answer in time.
pub async fn eventually_ok_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(obstacle) => {
                let seconds = patience.as_secs();
                assert!(started.elapsed() < patience, "waited {seconds} s in vain: {what}\n{obstacle}");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
