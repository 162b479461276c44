//! Does storing work? After a message could not be stored in time, new checkouts are refused at once for a moment instead
//! of letting every client wait as long, and the gateway says that it is not ready. Then the next one is tried: what
//! cannot be stored says so, what can ends the trouble.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{nats::AppendError, service::http::Problem};
use tokio::time::Instant;

/// For so long after a failure nobody new is let in: a look or two of a load balancer, and not much longer than a server
/// needs to start again.
const TROUBLE_LASTS: Duration = Duration::from_secs(5);

/// A server that does not store within this is not just busy; a change of a stream's leader takes 6 s at most.
const LONG_WAIT: Duration = Duration::from_secs(6);

/// What became of the last message that was to be stored.
#[derive(Debug, Default)]
pub(crate) struct Storing {
    failed: Mutex<Option<Failed>>,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    why: String,
}

impl Storing {
    /// Take note of an outcome, and pass it on. Who was first does not matter here: a conflict is an answer of a server that
    /// stores.
    pub(crate) fn noted<T>(&self, outcome: Result<T, AppendError>) -> Result<T, AppendError> {
        *self.lock() = match &outcome {
            Err(error @ AppendError::Unavailable { .. }) => Some(Failed { at: Instant::now(), why: error.to_string() }),
            _ => None,
        };
        outcome
    }

    /// Nobody waited any longer for an outcome. A wait that was short says nothing.
    pub(crate) fn overdue(&self, waited: Duration) {
        if waited >= LONG_WAIT {
            let why = format!("a command was not stored within {} s", waited.as_secs());
            *self.lock() = Some(Failed { at: Instant::now(), why });
        }
    }

    /// Why nothing can be stored, for people; `None` when it works as far as is known.
    pub(crate) fn trouble(&self) -> Option<String> {
        let failed = self.lock();
        let lasting = failed.as_ref().filter(|failed| failed.at.elapsed() < TROUBLE_LASTS);
        lasting.map(|failed| {
            format!(
                "{}: see nats-server's log, its disk and its limits (max_file_store, the streams' max_bytes)",
                failed.why
            )
        })
    }

    /// Refuse at once what would only wait in vain.
    pub(crate) fn must_work(&self) -> Result<(), Problem> {
        match self.trouble() {
            None => Ok(()),
            Some(_) => {
                metrics::counter!("gateway_shed_total").increment(1);
                Err(Problem::unavailable("Orders cannot be stored at the moment; try again soon.")
                    .with_retry_after(TROUBLE_LASTS))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Result<u64, AppendError> {
        let reason = "maximum bytes exceeded".into();
        Err(AppendError::Unavailable { subject: "command.checkout.x".into(), seconds: 10, reason })
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_nobody_waits_in_vain_until_it_is_tried_again() {
        let storing = Storing::default();
        assert!(storing.must_work().is_ok());
        assert!(storing.noted(unavailable()).is_err());
        let trouble = storing.trouble().expect("trouble");
        assert!(trouble.contains("maximum bytes exceeded") && trouble.contains("max_file_store"), "{trouble}");
        assert_eq!(storing.must_work().expect_err("refused").status().as_u16(), 503);
        tokio::time::advance(TROUBLE_LASTS).await;
        assert!(storing.must_work().is_ok(), "the next one is tried");
    }

    #[test]
    fn a_long_wait_in_vain_is_trouble_and_a_short_one_is_not() {
        let storing = Storing::default();
        storing.overdue(Duration::from_millis(300));
        assert_eq!(storing.trouble(), None);
        storing.overdue(Duration::from_secs(10));
        assert!(storing.trouble().expect("trouble").contains("within 10 s"));
    }

    #[test]
    fn what_is_stored_or_was_there_before_ends_the_trouble() {
        let storing = Storing::default();
        for outcome in [Ok(1), Err(AppendError::Conflict { subject: String::new(), expected: 0, found: 1 })] {
            assert!(storing.noted(unavailable()).is_err());
            let _ = storing.noted(outcome);
            assert_eq!(storing.trouble(), None);
        }
    }
}
