//! A refund by hand: ask the provider until it has given the money back, or a person has to look.

use common::{
    contracts::{
        checkout::PaymentStep,
        refund::{RefundCommand, RefundEvent as Event},
    },
    ids::{SessionId, WorkflowId, WorkflowKind},
    money::Money,
    payment::RefundRequest,
    time::Timestamp,
};

use crate::workflow::{Input, Next, Rejection, Step, StepEnd, Told, Workflow};

/// Rounds of asking before a person has to look, as for late money.
const MOST_ROUNDS: u32 = 24;

/// One refund, folded from its history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Refund {
    /// Nothing has happened.
    #[default]
    NotStarted,
    /// The provider is asked to give the money back.
    Owed {
        /// What is given back.
        order: RefundOrder,
        /// Rounds that have ended without a usable answer.
        failed: u32,
        /// When the next round begins; `None` while one is owed now.
        retry_at: Option<Timestamp>,
    },
    /// The money has gone back.
    Refunded,
    /// A person has to look at it.
    NeedsAttention,
}

/// What is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundOrder {
    checkout: WorkflowId,
    session_id: SessionId,
    amount: Money,
}

impl Workflow for Refund {
    const KIND: WorkflowKind = WorkflowKind::Refund;
    type Command = RefundCommand;
    type Event = Event;

    fn decide(&self, input: &Input<RefundCommand>) -> Result<Vec<Event>, Rejection> {
        match (self, &input.told) {
            (
                Self::NotStarted,
                Told::Asked(RefundCommand::Start { checkout, provider, session_id, amount, reason, by }),
            ) => Ok(vec![Event::RefundRequested {
                checkout: *checkout,
                provider: provider.clone(),
                session_id: session_id.clone(),
                amount: *amount,
                reason: reason.clone(),
                by: by.clone(),
            }]),
            (Self::NotStarted, _) => Err(Rejection::No("there is no such refund".into())),
            (Self::Owed { failed, retry_at, .. }, Told::TimeHasCome | Told::Asked(RefundCommand::Nudge)) => {
                let due = retry_at.is_some_and(|retry_at| retry_at <= input.at);
                Ok(if due { vec![Event::RefundRetried { attempt: failed.saturating_add(1) }] } else { Vec::new() })
            }
            (Self::Owed { .. }, Told::StepEnded(StepEnd::Refunded { refund_id })) => {
                Ok(vec![Event::Refunded { refund_id: refund_id.clone() }])
            }
            (Self::Owed { .. }, Told::StepEnded(StepEnd::Refused { step: PaymentStep::Refund, reason })) => {
                Ok(vec![Event::RefundNeedsAttention { reason: reason.clone() }])
            }
            // With `retry_at` recorded, another worker ran the same round and its failure is counted already.
            (
                Self::Owed { failed, retry_at: None, .. },
                Told::StepEnded(StepEnd::NoAnswer { step: PaymentStep::Refund, reason }),
            ) => Ok(vec![no_answer(failed.saturating_add(1), reason, input)]),
            // Asked again, or an answer that came too late: nothing happens.
            _ => Ok(Vec::new()),
        }
    }

    fn evolve(self, event: &Event) -> Self {
        match (self, event) {
            (_, Event::RefundRequested { checkout, session_id, amount, .. }) => Self::Owed {
                order: RefundOrder { checkout: *checkout, session_id: session_id.clone(), amount: *amount },
                failed: 0,
                retry_at: None,
            },
            (Self::Owed { order, .. }, Event::RefundFailed { attempt, retry_at, .. }) => {
                Self::Owed { order, failed: *attempt, retry_at: Some(*retry_at) }
            }
            (Self::Owed { order, failed, .. }, Event::RefundRetried { .. }) => {
                Self::Owed { order, failed, retry_at: None }
            }
            (_, Event::Refunded { .. }) => Self::Refunded,
            (_, Event::RefundNeedsAttention { .. }) => Self::NeedsAttention,
            (other, Event::RefundFailed { .. } | Event::RefundRetried { .. }) => other,
        }
    }

    fn next(&self, id: WorkflowId) -> Next {
        match self {
            Self::NotStarted => Next::Wait { until: None },
            Self::Owed { retry_at: Some(retry_at), .. } => Next::Wait { until: Some(*retry_at) },
            Self::Owed { order, retry_at: None, .. } => Next::Run(Step::Refund(RefundRequest {
                reference: order.checkout,
                idempotency_key: id.derive("refund"),
                session_id: order.session_id.clone(),
                amount: order.amount,
            })),
            Self::Refunded | Self::NeedsAttention => Next::Done,
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Owed { .. } => "pending",
            Self::Refunded => "refunded",
            Self::NeedsAttention => "needs_attention",
        }
    }
}

fn no_answer(attempt: u32, reason: &str, input: &Input<RefundCommand>) -> Event {
    if attempt >= MOST_ROUNDS {
        return Event::RefundNeedsAttention { reason: reason.to_owned() };
    }
    Event::RefundFailed { attempt, reason: reason.to_owned(), retry_at: input.settings.retry_at(input.at, attempt) }
}

#[cfg(test)]
mod tests;
