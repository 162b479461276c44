//! Following one checkout: what is stored, and what is being stored, without a gap between the two.

use std::time::Duration;

use common::{
    contracts::{checkout::CheckoutCommand, refund::refund_of},
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{
        Nats,
        read::{self, Stored},
    },
    record::BrokenHistory,
    service::http::Problem,
    streams::StreamName,
    subject::Subject,
};

use crate::{
    checkout_view::CheckoutView,
    live::{Live, News, Watch},
    refund_view::RefundView,
};

/// How soon a waiter asks by itself when it hears nothing; then ever more rarely. News are only lost with a connection, and
/// a shop at its limit takes a second or two to a session (2,000 in flight, `bench`): it must not be asked more the slower
/// it is. Twice within the time that a start waits for its session.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// The longest time between two looks: a bound on how late lost news are noticed, and cheap with many waiters.
const SLOWEST_LOOK: Duration = Duration::from_secs(16);

/// Why a checkout cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// The server cannot be asked at the moment.
    #[error(transparent)]
    Read(#[from] read::ReadError),
    /// The history cannot be trusted.
    #[error("the history of checkout {id} is damaged")]
    Broken {
        /// Which checkout.
        id: WorkflowId,
        /// What is wrong with it.
        #[source]
        source: BrokenHistory,
    },
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Read(error) => {
                tracing::warn!(%error, "could not read a history");
                Self::unavailable("The order book cannot be read at the moment; try again.")
            }
            FollowError::Broken { id, source: source @ BrokenHistory::NeedsNewerVersion { .. } } => {
                tracing::warn!(checkout = %id, error = %source, "a newer version has continued this checkout");
                Self::unavailable(
                    "This order was continued by a newer version of the shop than the one you reached; try again.",
                )
                .with_member("workflow_id", id.to_string())
            }
            FollowError::Broken { id, source } => {
                tracing::error!(checkout = %id, error = %source, "a history is damaged: the checkout is quarantined");
                Self::internal("This checkout's history needs a person's attention; it has been reported.")
                    .with_member("workflow_id", id.to_string())
            }
        }
    }
}

/// The history of a checkout, as a workflow.
pub(crate) fn checkout_ref(id: WorkflowId) -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Checkout, id }
}

/// The refund by hand of a checkout, as a workflow.
pub(crate) fn refund_ref(checkout: WorkflowId) -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Refund, id: refund_of(checkout) }
}

/// One checkout, and whatever happens in it.
pub(crate) struct Follower {
    nats: Nats,
    id: WorkflowId,
    watch: Watch,
    view: Option<CheckoutView>,
    next_look: Duration,
}

impl Follower {
    /// Follow a checkout that is known to have no history yet.
    pub(crate) fn of_new(nats: &Nats, live: &Live, id: WorkflowId) -> Self {
        Self { nats: nats.clone(), id, watch: live.watch(checkout_ref(id)), view: None, next_look: FIRST_LOOK }
    }

    /// Follow a checkout from what is known of it on: from all that was heard, or else from what is stored.
    pub(crate) async fn of_known(nats: &Nats, live: &Live, id: WorkflowId) -> Result<Self, FollowError> {
        // In this order: whatever is stored after that is heard.
        let mut follower = Self::of_new(nats, live, id);
        if !follower.take_what_was_heard(live)? {
            follower.look().await?;
        }
        Ok(follower)
    }

    /// The same for one that most likely has no history, which is cheaper to ask than to read; whether it has one.
    pub(crate) async fn if_any(nats: &Nats, live: &Live, id: WorkflowId) -> Result<(Self, bool), FollowError> {
        let mut follower = Self::of_new(nats, live, id);
        if !follower.take_what_was_heard(live)? {
            if follower.stored_revision().await? == 0 {
                return Ok((follower, false));
            }
            follower.look().await?;
        }
        Ok((follower, true))
    }

    fn take_what_was_heard(&mut self, live: &Live) -> Result<bool, FollowError> {
        let Some(heard) = live.history(checkout_ref(self.id)) else { return Ok(false) };
        let records = heard.iter().map(|(sequence, payload)| (*sequence, &payload[..]));
        self.view =
            CheckoutView::read(self.id, records).map_err(|source| FollowError::Broken { id: self.id, source })?;
        Ok(self.view.is_some())
    }

    /// The checkout as far as it is known; `None` when nothing is recorded.
    pub(crate) fn view(&self) -> Option<&CheckoutView> {
        self.view.as_ref()
    }

    /// The newest record's sequence; 0 when nothing is recorded.
    pub(crate) fn revision(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.revision)
    }

    /// Wait until more is recorded. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Result<(), FollowError> {
        let before = self.revision();
        while self.revision() == before {
            match tokio::time::timeout(self.next_look, self.watch.next()).await {
                // When it is not the next one, records before it have not been heard of.
                Ok(News::Record { sequence, payload }) if self.take_in(sequence, &payload).is_ok() => {}
                Ok(News::Record { .. }) => self.look().await?,
                Ok(News::Missed) => self.look_if_behind().await?,
                Err(_) => {
                    self.next_look = (self.next_look * 2).min(SLOWEST_LOOK);
                    self.look_if_behind().await?;
                }
            }
        }
        self.next_look = FIRST_LOOK;
        Ok(())
    }

    fn take_in(&mut self, sequence: u64, payload: &[u8]) -> Result<(), BrokenHistory> {
        if let Some(view) = &mut self.view {
            return view.take_in(sequence, payload);
        }
        let mut first = CheckoutView::accepted(self.id, None);
        first.take_in(sequence, payload)?;
        self.view = Some(first);
        Ok(())
    }

    /// The newest record's sequence as it is stored; 0 when nothing is. Asked for all of a subject, a server walks over
    /// everything that was stored since its first message; asked for the last one, it does not.
    async fn stored_revision(&self) -> Result<u64, FollowError> {
        let last = read::last(&self.nats, StreamName::History, &Subject::History(checkout_ref(self.id))).await?;
        Ok(last.map_or(0, |record| record.sequence))
    }

    /// Read the history when there is more of it.
    async fn look_if_behind(&mut self) -> Result<(), FollowError> {
        if self.stored_revision().await? > self.revision() {
            self.look().await?;
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), FollowError> {
        let stored = stored_checkout(&self.nats, self.id).await?;
        // A replica that is behind must not take back what is known already.
        if stored.as_ref().map_or(0, |view| view.revision) >= self.revision() {
            self.view = stored;
        }
        Ok(())
    }
}

/// A checkout as it is stored; `None` when nothing is recorded.
pub(crate) async fn stored_checkout(nats: &Nats, id: WorkflowId) -> Result<Option<CheckoutView>, FollowError> {
    let stored = read::history(nats, checkout_ref(id)).await?;
    CheckoutView::read(id, bodies(&stored)).map_err(|source| FollowError::Broken { id, source })
}

/// The start of a checkout that waits to be taken by a worker: an accepted checkout without a history yet.
pub(crate) async fn waiting_start(nats: &Nats, id: WorkflowId) -> Result<Option<CheckoutView>, FollowError> {
    let waiting = read::last(nats, StreamName::Commands, &Subject::Command(checkout_ref(id))).await?;
    Ok(waiting.map(|command| {
        let start = serde_json::from_slice::<CheckoutCommand>(&command.payload).ok();
        CheckoutView::accepted(id, start)
    }))
}

/// The refund by hand of a checkout; `None` when nobody has asked for one.
pub(crate) async fn stored_refund(nats: &Nats, checkout: WorkflowId) -> Result<Option<RefundView>, FollowError> {
    let stored = read::history(nats, refund_ref(checkout)).await?;
    RefundView::read(bodies(&stored)).map_err(|source| FollowError::Broken { id: checkout, source })
}

/// The same, without reading it where everything that has happened to the checkout was heard.
pub(crate) async fn known_refund(
    nats: &Nats,
    live: &Live,
    checkout: WorkflowId,
) -> Result<Option<RefundView>, FollowError> {
    // Only a checkout that was sold can be refunded by hand, so the refund began after it.
    match live.history_after(refund_ref(checkout), checkout_ref(checkout)) {
        Some(heard) => RefundView::read(heard.iter().map(|(sequence, payload)| (*sequence, &payload[..])))
            .map_err(|source| FollowError::Broken { id: checkout, source }),
        None => stored_refund(nats, checkout).await,
    }
}

fn bodies(stored: &[Stored]) -> impl Iterator<Item = (u64, &[u8])> {
    stored.iter().map(|record| (record.sequence, &record.payload[..]))
}
