//! Wake-up calls: a JetStream schedule on `timer.<kind>.<id>` that becomes a message on `due.<kind>.<id>`, with or
//! without a living worker. A call is a hint; the truth is the time that the history records.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, header};
use bytes::Bytes;
use common::{
    headers,
    ids::WorkflowRef,
    nats::{AppendError, Journal, Nats, Outgoing, Publish},
    streams::{DUE_TTL, StreamName},
    subject::Subject,
    time::Timestamp,
};

use crate::history::Timer;

/// As for appends to the history.
const PATIENCE: Duration = Duration::from_secs(15);

/// What remains of a cancelled call; the shortest life that the server allows.
const CANCELLED_TTL: &str = "1s";

/// Sets and cancels wake-up calls; clones share the journal.
#[derive(Debug, Clone)]
pub struct Timers {
    journal: Arc<dyn Publish>,
}

impl Timers {
    /// Open the journal of the wake-up calls.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        Self::over(Arc::new(Journal::start(nats, StreamName::Timers, PATIENCE)))
    }

    /// Wake-up calls that are stored elsewhere, such as in a simulation.
    #[must_use]
    pub fn over(journal: Arc<dyn Publish>) -> Self {
        Self { journal }
    }

    /// Make sure that a workflow is woken at a time, replacing its earlier call.
    ///
    /// # Errors
    /// [`AppendError`] when it could not be stored: the workflow must not be left without it.
    pub async fn set(&self, workflow: WorkflowRef, until: Timestamp, known: Timer) -> Result<Timer, AppendError> {
        if known != Timer::SetFor(until) {
            self.schedule(Subject::Timer(workflow), Subject::Due(workflow), until, Bytes::new()).await?;
        }
        Ok(Timer::SetFor(until))
    }

    /// Publish to one subject of `TIMERS` at a time; a schedule replaces the one before it on its subject.
    ///
    /// # Errors
    /// [`AppendError`] when it could not be stored.
    pub async fn schedule(
        &self,
        timer: Subject,
        due: Subject,
        at: Timestamp,
        payload: Bytes,
    ) -> Result<(), AppendError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_SCHEDULE, format!("@at {at}"));
        headers.insert(header::NATS_SCHEDULE_TARGET, due.to_string());
        headers.insert(header::NATS_SCHEDULE_TTL, format!("{}s", DUE_TTL.as_secs()));
        headers.insert(headers::SENDER, crate::SERVICE);
        common::crash_point!("worker.timer.before_set");
        self.journal.append(Outgoing { subject: timer, headers, payload, expected: None }).await?;
        common::crash_point!("worker.timer.after_set");
        Ok(())
    }

    /// Take back a call that nobody needs any more. A call that goes off all the same changes nothing, so this is not
    /// waited for.
    #[must_use]
    pub fn cancel(&self, workflow: WorkflowRef, known: Timer) -> Timer {
        if known != Timer::Never {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_SCHEDULER, Subject::Timer(workflow).to_string());
            headers.insert(header::NATS_SCHEDULE_NEXT, "purge");
            headers.insert(header::NATS_MESSAGE_TTL, CANCELLED_TTL);
            let subject = Subject::TimerCancelled(workflow);
            let journal = Arc::clone(&self.journal);
            self.journal.in_background(Box::pin(async move {
                let outgoing = Outgoing { subject, headers, payload: Bytes::new(), expected: None };
                common::crash_point!("worker.timer.before_cancel");
                if let Err(error) = journal.append(outgoing).await {
                    tracing::debug!(%workflow, %error, "a wake-up call was not cancelled; it will change nothing");
                }
                common::crash_point!("worker.timer.after_cancel");
            }));
        }
        Timer::Never
    }
}
