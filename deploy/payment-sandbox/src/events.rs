//! Webhook events: what is told to the shop, and how telling it went.

use common::{ids::SessionId, time::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::session::Session;

/// How many attempts are remembered one by one; the number of all is always known.
const REMEMBERED_ATTEMPTS: usize = 20;

/// An event that has to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Its number in the database: events of one session are delivered in this order.
    pub(crate) number: u64,
    /// The session that it is about.
    pub(crate) session_id: SessionId,
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) at: Timestamp,
    /// Whether the shop has taken it (2xx).
    pub(crate) delivered: bool,
    /// What came back: a status, or why none came.
    pub(crate) answer: String,
}

/// A change of payment status, as it is told to the shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) event_id: String,
    pub(crate) session_id: SessionId,
    pub(crate) client_reference_id: String,
    /// The exact bytes that are sent, every time.
    pub(crate) body: String,
    pub(crate) created_at: Timestamp,
    /// How often it was tried.
    pub(crate) attempt_count: u32,
    /// The last attempts.
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) delivered_at: Option<Timestamp>,
}

impl Event {
    /// The event that tells what became of a session's money.
    pub(crate) fn of(session: &Session, now: Timestamp) -> Self {
        let event_id = format!("evt_{}", Uuid::now_v7().simple());
        let payment_status = session.payment_status.as_str();
        let body = json!({
            "id": event_id,
            "type": format!("payment_session.{payment_status}"),
            "created_at": now,
            "session_id": session.session_id,
            "client_reference_id": session.order.client_reference_id,
            "payment_status": payment_status,
            "amount": session.order.amount.amount,
            "currency": session.order.amount.currency,
        });
        Self {
            event_id,
            session_id: session.session_id.clone(),
            client_reference_id: session.order.client_reference_id.clone(),
            body: body.to_string(),
            created_at: now,
            attempt_count: 0,
            attempts: Vec::new(),
            delivered_at: None,
        }
    }

    /// Remember an attempt.
    pub(crate) fn note(&mut self, attempt: Attempt) {
        self.attempt_count = self.attempt_count.saturating_add(1);
        if attempt.delivered {
            self.delivered_at = Some(attempt.at);
        }
        if self.attempts.len() == REMEMBERED_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }
}
