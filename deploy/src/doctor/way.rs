//! The ways that a checkout and a refund can go, written down a second time and apart from the workflows' own code, so
//! that a history is judged by two witnesses: what the workflow's fold makes of it, and whether it could have come about.

use common::contracts::{
    checkout::{CheckoutEvent as Event, CheckoutStatus as Status, PaymentStep},
    refund::RefundEvent,
};

/// Where a checkout stands, as its events alone tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    #[default]
    NotStarted,
    Reserving,
    OpeningPayment,
    AwaitingPayment,
    /// Ends this way unless somebody has paid.
    Closing(Status),
    Committing,
    Releasing(Status, ToGoBack),
    Undone(Status, ToGoBack),
    Paid,
}

/// Money that came for a checkout that is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToGoBack {
    Nothing,
    Owed,
    /// It has gone back, or a person was told.
    Settled,
}

impl Stage {
    /// Where an event leads; `None` when it cannot happen here.
    pub(super) fn after(self, event: &Event) -> Option<Self> {
        use Stage::{
            AwaitingPayment, Closing, Committing, NotStarted, OpeningPayment, Paid, Releasing, Reserving, Undone,
        };
        use ToGoBack::{Nothing, Owed, Settled};
        match (event, self) {
            (Event::CheckoutStarted { .. }, NotStarted) => Some(Reserving),
            (Event::StockReserved { .. }, Reserving) => Some(OpeningPayment),
            (Event::StockRefused { .. }, Reserving) => Some(Undone(Status::OutOfStock, Nothing)),
            (Event::PaymentSessionOpened { .. }, OpeningPayment) => Some(AwaitingPayment),
            (Event::PaymentRefused { .. }, OpeningPayment) => Some(Releasing(Status::PaymentUnavailable, Nothing)),
            (Event::PaymentGivenUp { .. }, OpeningPayment) => Some(Closing(Status::PaymentUnavailable)),
            // Nothing was ever asked of the provider, so there is nothing to close.
            (Event::CancelRequested { .. }, Reserving) => Some(Releasing(Status::Cancelled, Nothing)),
            (Event::CancelRequested { .. }, OpeningPayment | AwaitingPayment)
            | (Event::PaymentCancelled { .. }, AwaitingPayment) => Some(Closing(Status::Cancelled)),
            (Event::PaymentDeclined { .. }, AwaitingPayment) => Some(Closing(Status::Declined)),
            (Event::DeadlinePassed {}, AwaitingPayment) => Some(Closing(Status::Expired)),
            (Event::PaymentReceived { .. }, AwaitingPayment | Closing(_)) => Some(Committing),
            (Event::WrongAmountReceived { .. }, Closing(end)) => Some(Releasing(end, Owed)),
            (Event::PaymentSessionClosed {}, Closing(end)) => Some(Releasing(end, Nothing)),
            (Event::StockSold {}, Committing) => Some(Paid),
            (Event::SaleRefused { .. }, Committing) => Some(Undone(Status::Cancelled, Owed)),
            (Event::StockReleased {}, Releasing(end, money)) => Some(Undone(end, money)),
            (Event::LatePaymentReceived { .. }, Releasing(end, Nothing)) => Some(Releasing(end, Owed)),
            (Event::LatePaymentReceived { .. }, Undone(end, Nothing)) => Some(Undone(end, Owed)),
            (Event::Refunded { .. } | Event::RefundNeedsAttention { .. }, Undone(end, Owed)) => {
                Some(Undone(end, Settled))
            }
            (Event::PaymentStepFailed { step, .. } | Event::PaymentStepRetried { step, .. }, _) => {
                self.takes(*step).then_some(self)
            }
            // Every event by name, so that a new one is thought about here.
            (
                Event::CheckoutStarted { .. }
                | Event::StockReserved { .. }
                | Event::StockRefused { .. }
                | Event::PaymentSessionOpened { .. }
                | Event::PaymentRefused { .. }
                | Event::PaymentGivenUp { .. }
                | Event::CancelRequested { .. }
                | Event::PaymentCancelled { .. }
                | Event::PaymentDeclined { .. }
                | Event::DeadlinePassed {}
                | Event::PaymentReceived { .. }
                | Event::WrongAmountReceived { .. }
                | Event::PaymentSessionClosed {}
                | Event::StockSold {}
                | Event::SaleRefused { .. }
                | Event::StockReleased {}
                | Event::LatePaymentReceived { .. }
                | Event::Refunded { .. }
                | Event::RefundNeedsAttention { .. },
                _,
            ) => None,
        }
    }

    /// Whether this step of the payment can be under way here.
    fn takes(self, step: PaymentStep) -> bool {
        match step {
            PaymentStep::OpenSession => self == Self::OpeningPayment,
            PaymentStep::CloseSession => matches!(self, Self::Closing(_)),
            PaymentStep::Refund => matches!(self, Self::Undone(_, ToGoBack::Owed)),
        }
    }

    /// The public word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Reserving => Status::Reserving.as_str(),
            Self::OpeningPayment => Status::OpeningPayment.as_str(),
            Self::AwaitingPayment => Status::AwaitingPayment.as_str(),
            Self::Closing(_) | Self::Committing | Self::Releasing(..) => Status::Settling.as_str(),
            Self::Undone(end, _) => end.as_str(),
            Self::Paid => Status::Paid.as_str(),
        }
    }

    /// Whether the checkout is decided and settled, but for money that must go back.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Undone(..) | Self::Paid)
    }
}

/// Where a refund by hand stands, as its events alone tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum RefundStage {
    #[default]
    NotStarted,
    Owed,
    Refunded,
    NeedsAttention,
}

impl RefundStage {
    /// Where an event leads; `None` when it cannot happen here.
    pub(super) fn after(self, event: &RefundEvent) -> Option<Self> {
        match (event, self) {
            (RefundEvent::RefundRequested { .. }, Self::NotStarted)
            | (RefundEvent::RefundFailed { .. } | RefundEvent::RefundRetried { .. }, Self::Owed) => Some(Self::Owed),
            (RefundEvent::Refunded { .. }, Self::Owed) => Some(Self::Refunded),
            (RefundEvent::RefundNeedsAttention { .. }, Self::Owed) => Some(Self::NeedsAttention),
            (
                RefundEvent::RefundRequested { .. }
                | RefundEvent::RefundFailed { .. }
                | RefundEvent::RefundRetried { .. }
                | RefundEvent::Refunded { .. }
                | RefundEvent::RefundNeedsAttention { .. },
                _,
            ) => None,
        }
    }

    /// The public word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Owed => "pending",
            Self::Refunded => "refunded",
            Self::NeedsAttention => "needs_attention",
        }
    }
}
