//! A checkout: what may be asked of it and what may have happened in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    TypeName, Versioned,
    inventory::{Lacking, StockAnswer},
};
use crate::{
    ids::{ProviderEventId, ProviderName, SessionId, Sku},
    money::Money,
    time::Timestamp,
};

/// Most lines one cart may have: a bigger one is a mistake or an attack, and one record must stay small.
pub const MAX_LINES: usize = 100;

/// Most units of one article in one cart.
pub const MAX_QUANTITY: u32 = 1_000_000;

/// One article in a cart, with the price that was shown when the checkout started: that price is charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which article.
    pub sku: Sku,
    /// What it was called, for pages and receipts.
    pub name: String,
    /// How many, 1 to [`MAX_QUANTITY`].
    pub quantity: u32,
    /// The frozen price of one.
    pub unit_price: Money,
}

/// Hash of what was asked for under an idempotency key (hex SHA-256), so that a repeat can be told from a
/// different request under the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestFingerprint(pub String);

/// What may be asked of a checkout, on `command.checkout.<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CheckoutCommand {
    /// A shop's customer wants to buy these lines. The gateway has checked them: at least one, each SKU once,
    /// the total is their sum.
    Start {
        /// What to buy.
        lines: Vec<Line>,
        /// What it costs altogether.
        total: Money,
        /// What was asked, to tell a repeat from a conflict.
        fingerprint: RequestFingerprint,
    },
    /// Somebody wants it undone while that is possible.
    Cancel {
        /// Who asked.
        by: CancelledBy,
    },
    /// The inventory service has answered a reserve, commit or release of this checkout.
    StockAnswer {
        /// What it said.
        answer: StockAnswer,
    },
    /// Somebody suspects that this checkout has been forgotten: look again at what is owed.
    Nudge,
}

impl TypeName for CheckoutCommand {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Cancel { .. } => "cancel",
            Self::StockAnswer { .. } => "stock_answer",
            Self::Nudge => "nudge",
        }
    }
}

/// Who cancelled a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelledBy {
    /// Through the public API or the order page.
    Customer,
    /// Through the operator pages or command line.
    Operator,
}

/// A call to the payment provider that can fail for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStep {
    /// Create the payment session.
    OpenSession,
    /// Close the session so that nobody can pay any more, before stock is given back.
    CloseSession,
    /// Give late money back.
    Refund,
}

/// What the provider said of the money of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentOutcome {
    /// The customer has been charged.
    Paid,
    /// The payment was declined and will not be tried again in this session.
    Declined,
    /// The customer gave up at the provider.
    Cancelled,
}

/// What the provider told of one session, after its signature was found right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentNotice {
    /// The provider's id of the telling; `None` when we asked instead of being told.
    pub event_id: Option<ProviderEventId>,
    /// The session that it is about.
    pub session_id: SessionId,
    /// What happened to it.
    pub outcome: PaymentOutcome,
    /// How much money it is about.
    pub amount: Money,
}

/// What has happened in one checkout, oldest first, on `history.checkout.<id>`.
///
/// Written for ever; how it may change says [`Versioned`]. When it happened stands in the record around it.
///
/// Version 2 counts the time to pay in milliseconds; version 1 counted whole seconds, and a shorter time was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CheckoutEvent {
    /// A cart was accepted; no stock is held yet. The reservation is owed.
    CheckoutStarted {
        /// What is bought, each SKU once.
        lines: Vec<Line>,
        /// What it costs: the sum of the lines.
        total: Money,
        /// What was asked.
        fingerprint: RequestFingerprint,
        /// How long the customer has to pay once the stock is reserved.
        payment_timeout_ms: u64,
        /// Who will take the money.
        provider: ProviderName,
    },
    /// All lines are held for this checkout. A payment session is owed.
    StockReserved {
        /// When the checkout is undone if nothing has been paid.
        payment_deadline: Timestamp,
    },
    /// Nothing is held, because something lacks. The checkout ends `out_of_stock`.
    StockRefused {
        /// What there is too little of.
        lacking: Vec<Lacking>,
    },
    /// The provider waits for the customer at `payment_url`.
    PaymentSessionOpened {
        /// The provider's name for it.
        session_id: SessionId,
        /// Where the customer pays.
        payment_url: String,
    },
    /// The provider will not open a session, and none exists. The stock goes back.
    PaymentRefused {
        /// What the provider said.
        reason: String,
    },
    /// The provider could not be reached, or did not answer in a usable way; nobody knows what it did.
    /// It will be asked again, with the same idempotency key.
    PaymentStepFailed {
        /// What was tried.
        step: PaymentStep,
        /// How many rounds have failed, this one included.
        attempt: u32,
        /// What went wrong.
        reason: String,
        /// When it will be tried again.
        retry_at: Timestamp,
    },
    /// The time to try again has come.
    PaymentStepRetried {
        /// What is tried.
        step: PaymentStep,
        /// Which round begins.
        attempt: u32,
    },
    /// The customer has been charged what the order costs. The goods are theirs; the sale is owed to the ledger.
    PaymentReceived {
        /// How we know.
        notice: PaymentNotice,
    },
    /// The provider took another amount than the order costs. The order is undone and the money goes back.
    WrongAmountReceived {
        /// What it took.
        notice: PaymentNotice,
    },
    /// The payment was declined. The session is closed, then the stock goes back.
    PaymentDeclined {
        /// How we know.
        notice: PaymentNotice,
    },
    /// The customer gave up at the provider. The session is closed, then the stock goes back.
    PaymentCancelled {
        /// How we know.
        notice: PaymentNotice,
    },
    /// Somebody cancelled here. The session is closed, then the stock goes back.
    CancelRequested {
        /// Who.
        by: CancelledBy,
    },
    /// Nobody paid in time. The session is closed, then the stock goes back.
    DeadlinePassed {},
    /// The provider never opened a usable session within the time there was. It is closed, then the stock goes back.
    PaymentGivenUp {
        /// The last thing that went wrong.
        reason: String,
    },
    /// Nobody can pay any more: the provider has confirmed it. The stock goes back.
    PaymentSessionClosed {},
    /// The ledger has booked the reservation as sold. The checkout ends `paid`.
    StockSold {},
    /// The ledger could not book the sale although the stock was reserved. The money goes back.
    SaleRefused {
        /// What the ledger said.
        reason: String,
    },
    /// The ledger holds nothing for this checkout, and never will again. The checkout ends undone.
    StockReleased {},
    /// Money came after the checkout had ended. It goes back.
    LatePaymentReceived {
        /// How we know.
        notice: PaymentNotice,
    },
    /// The money has gone back.
    Refunded {
        /// The provider's name for the refund.
        refund_id: String,
    },
    /// The money could not be given back by ourselves: a person has to look at it.
    RefundNeedsAttention {
        /// What the provider said.
        reason: String,
    },
}

impl Versioned for CheckoutEvent {
    const VERSION: u32 = 2;

    fn upcast(from: u32, event: &mut Value) {
        if from == 1 && event["type"] == "checkout_started" {
            let seconds = event["payment_timeout_seconds"].as_u64();
            // What has no such number cannot be read either way, and the reader says so.
            event["payment_timeout_ms"] = seconds.map(|seconds| seconds.saturating_mul(1_000)).into();
        }
    }
}

impl TypeName for CheckoutEvent {
    fn type_name(&self) -> &'static str {
        match self {
            Self::CheckoutStarted { .. } => "checkout_started",
            Self::StockReserved { .. } => "stock_reserved",
            Self::StockRefused { .. } => "stock_refused",
            Self::PaymentSessionOpened { .. } => "payment_session_opened",
            Self::PaymentRefused { .. } => "payment_refused",
            Self::PaymentStepFailed { .. } => "payment_step_failed",
            Self::PaymentStepRetried { .. } => "payment_step_retried",
            Self::PaymentReceived { .. } => "payment_received",
            Self::WrongAmountReceived { .. } => "wrong_amount_received",
            Self::PaymentDeclined { .. } => "payment_declined",
            Self::PaymentCancelled { .. } => "payment_cancelled",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::DeadlinePassed {} => "deadline_passed",
            Self::PaymentGivenUp { .. } => "payment_given_up",
            Self::PaymentSessionClosed {} => "payment_session_closed",
            Self::StockSold {} => "stock_sold",
            Self::SaleRefused { .. } => "sale_refused",
            Self::StockReleased {} => "stock_released",
            Self::LatePaymentReceived { .. } => "late_payment_received",
            Self::Refunded { .. } => "refunded",
            Self::RefundNeedsAttention { .. } => "refund_needs_attention",
        }
    }
}

/// Where a checkout stands: the public word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckoutStatus {
    /// The stock is being reserved.
    Reserving,
    /// The payment session is being opened.
    OpeningPayment,
    /// The customer can pay.
    AwaitingPayment,
    /// The end is decided and being carried out.
    Settling,
    /// Ended: paid and sold.
    Paid,
    /// Ended: the payment was declined; nothing is held.
    Declined,
    /// Ended: cancelled here or at the provider; nothing is held.
    Cancelled,
    /// Ended: nobody paid in time; nothing is held.
    Expired,
    /// Ended: there was too little stock; nothing is held.
    OutOfStock,
    /// Ended: no payment session could be had; nothing is held.
    PaymentUnavailable,
}

impl CheckoutStatus {
    /// Every status, in the order of a checkout's life.
    pub const ALL: [Self; 10] = [
        Self::Reserving,
        Self::OpeningPayment,
        Self::AwaitingPayment,
        Self::Settling,
        Self::Paid,
        Self::Declined,
        Self::Cancelled,
        Self::Expired,
        Self::OutOfStock,
        Self::PaymentUnavailable,
    ];

    /// Whether the checkout is decided and settled.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Reserving | Self::OpeningPayment | Self::AwaitingPayment | Self::Settling)
    }

    /// The word in JSON, headers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserving => "reserving",
            Self::OpeningPayment => "opening_payment",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Settling => "settling",
            Self::Paid => "paid",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::OutOfStock => "out_of_stock",
            Self::PaymentUnavailable => "payment_unavailable",
        }
    }
}

/// Where the money of a checkout that ended undone stands, when money came all the same; or of an operator's refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// It is on its way back.
    Pending,
    /// It has gone back.
    Refunded,
    /// It could not be given back: a person has to look at it.
    NeedsAttention,
}

impl RefundStatus {
    /// The word in JSON, headers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Refunded => "refunded",
            Self::NeedsAttention => "needs_attention",
        }
    }
}
