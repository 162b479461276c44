//! A refund by hand: an operator gives the whole price of a paid checkout back. Stock is not touched.
//!
//! A checkout has at most one such refund: its workflow id is [`refund_of`] the checkout's.

use serde::{Deserialize, Serialize};

use super::{TypeName, Versioned};
use crate::{
    ids::{OperatorName, ProviderName, SessionId, WorkflowId},
    money::Money,
    time::Timestamp,
};

/// The refund workflow of a checkout; always the same, so asking twice is one refund.
#[must_use]
pub fn refund_of(checkout: WorkflowId) -> WorkflowId {
    checkout.derive_workflow("refund-by-hand")
}

/// What may be asked of a refund, on `command.refund.<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RefundCommand {
    /// An operator wants a paid checkout's money back. The gateway has read in its history that it is paid.
    Start {
        /// Which checkout.
        checkout: WorkflowId,
        /// Who took the money.
        provider: ProviderName,
        /// The session that was paid.
        session_id: SessionId,
        /// The whole price.
        amount: Money,
        /// Why, in the operator's words.
        reason: String,
        /// Who wants it; unknown in commands of gateways that did not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<OperatorName>,
    },
    /// Somebody suspects that this refund has been forgotten: look again at what is owed.
    Nudge,
}

impl TypeName for RefundCommand {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Nudge => "nudge",
        }
    }
}

/// What has happened in one refund, oldest first, on `history.refund.<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RefundEvent {
    /// An operator asked for it. The provider is owed the call.
    RefundRequested {
        /// Which checkout.
        checkout: WorkflowId,
        /// Who took the money.
        provider: ProviderName,
        /// The session that was paid.
        session_id: SessionId,
        /// What goes back.
        amount: Money,
        /// Why, in the operator's words.
        reason: String,
        /// Who asked; unknown in records that were written before it was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<OperatorName>,
    },
    /// The provider could not be reached; it will be asked again with the same idempotency key.
    RefundFailed {
        /// How many rounds have failed, this one included.
        attempt: u32,
        /// What went wrong.
        reason: String,
        /// When it will be tried again.
        retry_at: Timestamp,
    },
    /// The time to try again has come.
    RefundRetried {
        /// Which round begins.
        attempt: u32,
    },
    /// The money has gone back.
    Refunded {
        /// The provider's name for the refund.
        refund_id: String,
    },
    /// The provider will not: a person has to look at it.
    RefundNeedsAttention {
        /// What the provider said.
        reason: String,
    },
}

impl Versioned for RefundEvent {}

impl TypeName for RefundEvent {
    fn type_name(&self) -> &'static str {
        match self {
            Self::RefundRequested { .. } => "refund_requested",
            Self::RefundFailed { .. } => "refund_failed",
            Self::RefundRetried { .. } => "refund_retried",
            Self::Refunded { .. } => "refunded",
            Self::RefundNeedsAttention { .. } => "refund_needs_attention",
        }
    }
}
