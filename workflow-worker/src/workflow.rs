//! What a workflow is: three pure functions over its own history.
//!
//! # How to add a kind
//! 1. Add a variant to [`common::ids::WorkflowKind`] and build: the compiler names what else must know of it.
//! 2. Write its contract file in `common/src/contracts/` (what may be asked, what may have happened).
//! 3. Write its workflow file in `workflows/` (what it means): implement [`Workflow`], test it with
//!    `workflows/stories.rs`.
//! 4. Add its line to the registry in `workflows/mod.rs`, and, if people start it over HTTP, a route in the gateway.
//!
//! There is nothing to write for recovery, retries, timers, ordering or storage: the loop in [`crate::advance`] does
//! that for every kind alike.

use std::time::Duration;

use common::{
    contracts::{
        TypeName, Versioned,
        checkout::{PaymentNotice, PaymentStep},
        inventory::{StockAnswer, StockLine},
    },
    ids::{ProviderName, WorkflowId, WorkflowKind},
    payment::{CloseSession, Closed, CreateSession, OpenSession, RefundRequest},
    time::{Timestamp, after},
};
use serde::{Serialize, de::DeserializeOwned};

/// One kind of workflow. No clock, no randomness, no I/O: what is needed comes in with the input, so that replay gives
/// the same state and the same owed step on every machine.
pub trait Workflow: Default + Send + Sync + 'static {
    /// Which kind this is.
    const KIND: WorkflowKind;
    /// What may be asked of it on `command.<kind>.<id>`.
    type Command: DeserializeOwned + TypeName + Send + Sync;
    /// What may have happened in it.
    type Event: Serialize + Versioned + TypeName + Send + Sync;

    /// What an input leads to; nothing when it changes nothing (a repeat, an answer that came too late).
    ///
    /// # Errors
    /// A [`Rejection`] when the input does not fit; nothing has happened then.
    fn decide(&self, input: &Input<Self::Command>) -> Result<Vec<Self::Event>, Rejection>;

    /// The state after an event. Total: history is never refused.
    #[must_use]
    fn evolve(self, event: &Self::Event) -> Self;

    /// What is owed in this state.
    fn next(&self, id: WorkflowId) -> Next;

    /// The public word for this state, in records, headers and metrics.
    fn status(&self) -> &'static str;
}

/// What a workflow is told, when, and under which settings; everything that a decision may depend on.
#[derive(Debug, Clone)]
pub struct Input<C> {
    /// When: the server's time of the message, and when a step has ended what has passed since then.
    pub at: Timestamp,
    /// What.
    pub told: Told<C>,
    /// The settings of the worker that decides; what matters later is recorded in the event.
    pub settings: Settings,
}

/// What a workflow may be told.
#[derive(Debug, Clone)]
pub enum Told<C> {
    /// A command.
    Asked(C),
    /// A step that this worker ran has ended.
    StepEnded(StepEnd),
    /// A time that it waited for has come, or somebody believes so: `at` is the judge.
    TimeHasCome,
    /// The payment provider tells about a session.
    PaymentNotice(PaymentNotice),
    /// The inventory has booked what it was asked for.
    StockBooked(StockAnswer),
}

impl<C: TypeName> Told<C> {
    /// A word for logs.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Asked(command) => command.type_name(),
            Self::StepEnded(_) => "step_ended",
            Self::TimeHasCome => "time_has_come",
            Self::PaymentNotice(_) => "payment_notice",
            Self::StockBooked(_) => "stock_booked",
        }
    }
}

/// What of a worker's configuration a decision may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a customer has to pay.
    pub payment_timeout: Duration,
    /// Who takes the money.
    pub provider: ProviderName,
    /// How long a failed step waits before its second round; each further round waits twice as long, up to
    /// [`Settings::LONGEST_RETRY_WAIT`].
    pub retry_wait: Duration,
}

impl Settings {
    /// A provider that is back is noticed within this time.
    pub const LONGEST_RETRY_WAIT: Duration = Duration::from_secs(30);

    /// When a step that has failed `rounds` times is tried again.
    #[must_use]
    pub fn retry_at(&self, at: Timestamp, rounds: u32) -> Timestamp {
        let doubled = 2_u32.saturating_pow(rounds.saturating_sub(1));
        after(at, self.retry_wait.saturating_mul(doubled).min(Self::LONGEST_RETRY_WAIT))
    }
}

/// An input that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The answer is no, and whoever asked can see why in the state. Nothing is left to do.
    #[error("{0}")]
    No(String),
    /// There is no such workflow (yet): worth another try for a minute, then a person should see it.
    #[error("{0}")]
    NotStarted(String),
    /// It cannot be judged before something that is under way has ended: kept and tried again.
    #[error("{0}")]
    NotYet(String),
    /// It contradicts what is recorded: a person should see it.
    #[error("{0}")]
    Contradiction(String),
}

/// What a state owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This step, now.
    Run(Step),
    /// Nothing before somebody says something, or before this time.
    Wait {
        /// Wake it then; `None` when only a message can move it.
        until: Option<Timestamp>,
    },
    /// Nothing ever again.
    Done,
}

/// What a workflow can have done outside. Remote steps are sent to another service, whose answer comes back as a
/// command; local steps are run by the worker at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remote: hold these for the workflow.
    ReserveStock(Vec<StockLine>),
    /// Remote: what is held is sold.
    CommitStock,
    /// Remote: what is held goes back.
    ReleaseStock,
    /// Local: open the payment session.
    OpenSession(CreateSession),
    /// Local: make sure that nobody can pay any more.
    CloseSession(CloseSession),
    /// Local: give money back.
    Refund(RefundRequest),
}

impl Step {
    /// A word for logs and metrics.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::ReserveStock(_) => "reserve_stock",
            Self::CommitStock => "commit_stock",
            Self::ReleaseStock => "release_stock",
            Self::OpenSession(_) => "open_session",
            Self::CloseSession(_) => "close_session",
            Self::Refund(_) => "refund",
        }
    }
}

/// How a local step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEnd {
    /// The session is open.
    SessionOpened(OpenSession),
    /// Nobody can pay any more, or somebody has.
    SessionClosed(Closed),
    /// The money has gone back.
    Refunded {
        /// The provider's name for the refund.
        refund_id: String,
    },
    /// The provider said no, for good.
    Refused {
        /// To what.
        step: PaymentStep,
        /// Its words.
        reason: String,
    },
    /// The provider gave no usable answer, several times; nobody knows what it did.
    NoAnswer {
        /// To what.
        step: PaymentStep,
        /// What was seen last.
        reason: String,
    },
}
