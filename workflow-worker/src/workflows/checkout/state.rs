//! What a checkout remembers. What a phase needs stands inside the phase, so that a state without it cannot be written.

use common::{
    contracts::checkout::{CheckoutStatus, Line, PaymentNotice, RefundStatus, RequestFingerprint},
    ids::{ProviderName, SessionId},
    money::Money,
    time::Timestamp,
};

/// One checkout, folded from its history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Checkout {
    /// Nothing has happened.
    #[default]
    NotStarted,
    /// It was accepted.
    Started(Box<Started>),
}

/// A checkout that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// What is bought; never changes.
    pub order: Order,
    /// Where it stands.
    pub phase: Phase,
    /// The session that the provider opened, once it is known.
    pub session: Option<SessionId>,
    /// Until when the customer can pay; known once the stock is reserved.
    pub payment_deadline: Option<Timestamp>,
}

/// What is bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The articles with their frozen prices.
    pub lines: Vec<Line>,
    /// What they cost altogether.
    pub total: Money,
    /// What was asked under the key.
    pub fingerprint: RequestFingerprint,
    /// How long the customer has to pay.
    pub payment_timeout_ms: u64,
    /// Who takes the money.
    pub provider: ProviderName,
}

/// Where a checkout stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The inventory is asked to hold the lines.
    Reserving,
    /// The lines are held; the provider is asked for a session.
    OpeningPayment {
        /// How that goes.
        tries: Tries,
    },
    /// The customer can pay.
    AwaitingPayment,
    /// The end is known unless somebody has paid; the provider is asked to let nobody pay any more.
    ClosingPayment {
        /// How it will end.
        ending: Ending,
        /// How that goes.
        tries: Tries,
    },
    /// Somebody has paid; the inventory is asked to book the sale.
    Committing {
        /// Who told us.
        paid: PaymentNotice,
    },
    /// Nobody can pay any more; the inventory is asked to take the goods back.
    Releasing {
        /// How it will end.
        ending: Ending,
        /// Money that came all the same, to be given back.
        money: Option<PaymentNotice>,
    },
    /// It is decided and settled, but for money that must go back.
    Ended {
        /// How.
        ending: Ending,
        /// Money that came all the same, and where it is.
        refund: Option<Refund>,
    },
}

/// How a checkout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Paid and sold.
    Paid,
    /// The payment was declined.
    Declined,
    /// Cancelled here or at the provider.
    Cancelled,
    /// Nobody paid in time.
    Expired,
    /// There was too little stock.
    OutOfStock,
    /// No payment session could be had.
    PaymentUnavailable,
}

/// Money that must go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// What came.
    pub money: PaymentNotice,
    /// Where it is.
    pub progress: RefundProgress,
}

/// Where money that must go back is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundProgress {
    /// The provider is asked to give it back.
    Owed(Tries),
    /// It has gone back.
    Refunded,
    /// A person has to look at it.
    NeedsAttention,
}

/// How a call to the provider goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tries {
    /// Rounds that have ended without a usable answer.
    pub failed: u32,
    /// When the next round begins; `None` while one is owed now.
    pub retry_at: Option<Timestamp>,
    /// What was seen last.
    pub last_failure: Option<String>,
}

impl Tries {
    /// The round that begins now, counted from 1.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        self.failed.saturating_add(1)
    }
}

impl Started {
    /// Whether the provider took what the order costs.
    #[must_use]
    pub fn is_right_amount(&self, notice: &PaymentNotice) -> bool {
        notice.amount == self.order.total
    }
}

impl Checkout {
    /// The public word for this state.
    #[must_use]
    pub fn status_word(&self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Started(started) => started.phase.status().as_str(),
        }
    }

    /// Where late money stands, if any came.
    #[must_use]
    pub fn refund_status(&self) -> Option<RefundStatus> {
        match self {
            Self::Started(started) => started.phase.refund_status(),
            Self::NotStarted => None,
        }
    }
}

impl Phase {
    /// The public status.
    #[must_use]
    pub fn status(&self) -> CheckoutStatus {
        match self {
            Self::Reserving => CheckoutStatus::Reserving,
            Self::OpeningPayment { .. } => CheckoutStatus::OpeningPayment,
            Self::AwaitingPayment => CheckoutStatus::AwaitingPayment,
            Self::ClosingPayment { .. } | Self::Committing { .. } | Self::Releasing { .. } => CheckoutStatus::Settling,
            Self::Ended { ending, .. } => ending.status(),
        }
    }

    fn refund_status(&self) -> Option<RefundStatus> {
        match self {
            Self::Ended { refund: Some(refund), .. } => Some(match refund.progress {
                RefundProgress::Owed(_) => RefundStatus::Pending,
                RefundProgress::Refunded => RefundStatus::Refunded,
                RefundProgress::NeedsAttention => RefundStatus::NeedsAttention,
            }),
            Self::Releasing { money: Some(_), .. } => Some(RefundStatus::Pending),
            _ => None,
        }
    }
}

impl Ending {
    /// The public status.
    #[must_use]
    pub fn status(self) -> CheckoutStatus {
        match self {
            Self::Paid => CheckoutStatus::Paid,
            Self::Declined => CheckoutStatus::Declined,
            Self::Cancelled => CheckoutStatus::Cancelled,
            Self::Expired => CheckoutStatus::Expired,
            Self::OutOfStock => CheckoutStatus::OutOfStock,
            Self::PaymentUnavailable => CheckoutStatus::PaymentUnavailable,
        }
    }
}
