//! What a payment provider tells by webhook, in our words, after its signature was found right.
//!
//! The raw body is what is stored on `webhook.<provider>.<event id>`; this is what is read out of it, leniently:
//! a word that we do not know is kept and changes nothing.

use serde::{Deserialize, Serialize};

use super::checkout::PaymentOutcome;
use crate::{
    ids::{ProviderEventId, SessionId, WorkflowId},
    money::Money,
};

/// One authentic event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEvent {
    /// The provider's id of the event; the same id is the same event.
    pub id: ProviderEventId,
    /// The provider's word for what it is about.
    pub event_type: String,
    /// Which session it is about; none for events that are not about a session.
    pub session_id: Option<SessionId>,
    /// Which checkout the provider was told that the session belongs to.
    pub reference: Option<WorkflowId>,
    /// What happened to the session; `None` for words that decide nothing (`processing`, unknown ones).
    pub outcome: Option<PaymentOutcome>,
    /// How much money it is about, where the event says so.
    pub amount: Option<Money>,
}
