//! A payment session: what was ordered, where it stands, and what was charged and given back.

use common::{ids::SessionId, money::Money, time::Timestamp};
use serde::{Deserialize, Serialize};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// The customer can pay.
    Open,
    /// The customer has paid.
    Paid,
    /// The payment was declined, for good.
    Declined,
    /// The customer gave up.
    Cancelled,
    /// Nobody paid while that was possible.
    Expired,
}

/// What became of the money, in the words of the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Nothing yet, or nothing any more.
    Unpaid,
    /// The customer has been charged.
    Paid,
    /// The payment was declined.
    Failed,
    /// The customer gave up.
    Cancelled,
}

impl PaymentStatus {
    /// The word in JSON and in event types.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unpaid => "unpaid",
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One line of what is paid for, for the customer to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLine {
    /// What it is called.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// The price of one in minor units of the session's currency.
    pub unit_amount: i64,
}

/// What a session is opened for; the same key must come with the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The shop's name for it: 1 to 200 of `A-Z a-z 0-9 _ -`.
    pub client_reference_id: String,
    /// What is charged: the sum of the lines.
    #[serde(flatten)]
    pub amount: Money,
    /// What is paid for.
    pub lines: Vec<SessionLine>,
    /// From when on nobody can pay any more.
    pub expires_at: Timestamp,
}

/// Money taken from the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Our name for it.
    pub charge_id: String,
    /// How much.
    #[serde(flatten)]
    pub amount: Money,
    /// When.
    pub charged_at: Timestamp,
}

/// Money given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Our name for it.
    pub refund_id: String,
    /// The shop's key: the same key is the same refund.
    pub idempotency_key: String,
    /// How much.
    #[serde(flatten)]
    pub amount: Money,
    /// When.
    pub refunded_at: Timestamp,
}

/// A session as it stands in the books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Our name for it.
    pub session_id: SessionId,
    /// What was ordered.
    #[serde(flatten)]
    pub order: Order,
    /// What was decided; an open one may have expired, see [`Session::standing`].
    pub status: SessionStatus,
    /// What became of the money.
    pub payment_status: PaymentStatus,
    /// When it was opened.
    pub created_at: Timestamp,
    /// What was taken: never more than one.
    pub charges: Vec<Charge>,
    /// What was given back: never more than was taken.
    pub refunds: Vec<Refund>,
}

impl Session {
    /// Where it stands at a time: an open session expires by itself.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> SessionStatus {
        match self.status {
            SessionStatus::Open if self.order.expires_at <= now => SessionStatus::Expired,
            status => status,
        }
    }

    /// What may still be given back, in minor units.
    #[must_use]
    pub fn refundable(&self) -> i64 {
        let charged: i64 = self.charges.iter().map(|charge| charge.amount.amount).sum();
        let refunded: i64 = self.refunds.iter().map(|refund| refund.amount.amount).sum();
        charged - refunded
    }

    /// How the shop and the payment page see it; `base_url` is where customers reach this service.
    #[must_use]
    pub fn view(&self, base_url: &str, now: Timestamp) -> SessionView {
        SessionView {
            session_id: self.session_id.clone(),
            url: format!("{base_url}/payment/{}", self.session_id),
            order: self.order.clone(),
            status: self.standing(now),
            payment_status: self.payment_status,
            created_at: self.created_at,
        }
    }
}

/// A session as the shop and the payment page see it, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// Our name for it.
    pub session_id: SessionId,
    /// Where the customer pays.
    pub url: String,
    /// The shop's reference, the amount, the lines and the expiry.
    #[serde(flatten)]
    pub order: Order,
    /// Where it stands, expiry considered.
    pub status: SessionStatus,
    /// What became of the money.
    pub payment_status: PaymentStatus,
    /// When it was opened.
    pub created_at: Timestamp,
}
