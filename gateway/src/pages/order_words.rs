//! What the order page says in each state: one headline, one explanation.
//!
//! It thanks nobody before the order is paid, and says that nothing was taken only when no money was seen.

use common::{
    contracts::checkout::{CheckoutEvent, CheckoutStatus, PaymentStep, RefundStatus},
    ids::Sku,
    money::Money,
};

use super::format;
use crate::checkout_view::CheckoutView;

/// The picture and colour that go with a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Something is being done; nobody needs to do anything.
    Working,
    /// It is the customer's turn.
    YourTurn,
    /// Paid.
    Good,
    /// Ended without a purchase, as somebody wanted or for want of time.
    Ended,
    /// Something went wrong.
    Bad,
}

/// The big words of the order page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) mood: Mood,
    pub(super) headline: &'static str,
    pub(super) explanation: &'static str,
}

/// What to say of this order.
pub(super) fn of(order: &CheckoutView) -> Words {
    let words = |mood, headline, explanation| Words { mood, headline, explanation };
    match order.status {
        CheckoutStatus::Reserving => words(
            Mood::Working,
            "Setting your items aside",
            "One moment, please. This usually takes less than a second.",
        ),
        CheckoutStatus::OpeningPayment if order.trouble.is_some() => words(
            Mood::Working,
            "The payment provider is not answering",
            "Your items stay set aside for you. We ask again by ourselves; you need not do anything.",
        ),
        CheckoutStatus::OpeningPayment => words(
            Mood::Working,
            "Preparing your payment",
            "Your items are set aside. The payment page is being opened.",
        ),
        CheckoutStatus::AwaitingPayment => words(
            Mood::YourTurn,
            "Your items are waiting for you",
            "They are set aside until the time below. Pay on the payment provider’s page and come back here.",
        ),
        CheckoutStatus::Settling => settling(order),
        CheckoutStatus::Paid => paid(order),
        CheckoutStatus::Declined => {
            words(Mood::Bad, "Your payment was declined", "The items went back on the shelf. You can try again.")
        }
        CheckoutStatus::Cancelled => {
            words(Mood::Ended, "This order was cancelled", "The items went back on the shelf.")
        }
        CheckoutStatus::Expired => words(
            Mood::Ended,
            "The time to pay ran out",
            "The items went back on the shelf. You are welcome to order them again.",
        ),
        CheckoutStatus::OutOfStock => words(
            Mood::Bad,
            "Sorry, there is not enough in stock",
            "Nothing was set aside, because an order is complete or not at all. What was missing:",
        ),
        CheckoutStatus::PaymentUnavailable => words(
            Mood::Bad,
            "Payment is not possible at the moment",
            "The payment provider could not open a payment page, so the items went back on the shelf. Please try again later.",
        ),
    }
}

fn settling(order: &CheckoutView) -> Words {
    let (headline, explanation) = match why_it_settles(order) {
        Some(CheckoutEvent::PaymentReceived { .. }) => (
            "We are checking your payment",
            "The payment provider has sent word, and we are booking your order. This page shows the result by itself.",
        ),
        Some(CheckoutEvent::WrongAmountReceived { .. } | CheckoutEvent::SaleRefused { .. }) => {
            ("We are undoing your order", "Something did not add up with the payment. Your money goes back to you.")
        }
        _ => (
            "We are closing your order",
            "We make sure with the payment provider that nobody is charged, then the items go back on the shelf.",
        ),
    };
    Words { mood: Mood::Working, headline, explanation }
}

/// The last event that decided how the order ends.
fn why_it_settles(order: &CheckoutView) -> Option<&CheckoutEvent> {
    events_newest_first(order).find(|event| {
        matches!(
            event,
            CheckoutEvent::PaymentReceived { .. }
                | CheckoutEvent::WrongAmountReceived { .. }
                | CheckoutEvent::SaleRefused { .. }
                | CheckoutEvent::PaymentRefused { .. }
                | CheckoutEvent::PaymentDeclined { .. }
                | CheckoutEvent::PaymentCancelled { .. }
                | CheckoutEvent::CancelRequested { .. }
                | CheckoutEvent::DeadlinePassed {}
                | CheckoutEvent::PaymentGivenUp { .. }
        )
    })
}

fn paid(order: &CheckoutView) -> Words {
    let (headline, explanation) = match order.refund {
        None => {
            ("Thank you! Your order is paid", "The items are yours. Keep the address of this page: it is your receipt.")
        }
        Some(RefundStatus::Pending | RefundStatus::NeedsAttention) => {
            ("We are refunding your order", "It was paid, and the money goes back to you.")
        }
        Some(RefundStatus::Refunded) => ("This order was refunded", "It was paid, and the money went back to you."),
    };
    Words { mood: Mood::Good, headline, explanation }
}

/// What to say of the money, where that is not said already.
pub(super) fn about_money(order: &CheckoutView) -> Option<String> {
    let amount = late_amount(order).map_or_else(|| "Your money".to_owned(), format::price);
    match (order.refund, order.status) {
        (Some(RefundStatus::Pending), _) => Some(format!("{amount} is on its way back to you.")),
        (Some(RefundStatus::Refunded), _) => Some(format!("{amount} went back to you.")),
        (Some(RefundStatus::NeedsAttention), _) => Some(format!(
            "{amount} could not be given back automatically. We look after it by hand; you need not do anything. \
             If you want to ask, name the order number below."
        )),
        (None, status) if status.is_terminal() && status != CheckoutStatus::Paid && !has_seen_money(order) => {
            Some("You have not been charged.".into())
        }
        (None, _) => closing_waits_for_provider(order),
    }
}

fn closing_waits_for_provider(order: &CheckoutView) -> Option<String> {
    let trouble = order.trouble.as_ref()?;
    (order.status == CheckoutStatus::Settling && trouble.step == PaymentStep::CloseSession)
        .then(|| "The payment provider is not answering at the moment. We ask again until it does.".into())
}

/// The money that came and goes back; the order's total for a refund of a paid order.
fn late_amount(order: &CheckoutView) -> Option<Money> {
    let received = events_newest_first(order).find_map(|event| match event {
        CheckoutEvent::LatePaymentReceived { notice }
        | CheckoutEvent::WrongAmountReceived { notice }
        | CheckoutEvent::PaymentReceived { notice } => Some(notice.amount),
        _ => None,
    });
    received.or(order.total)
}

/// Whether the provider has told that money was taken for it.
pub(super) fn has_seen_money(order: &CheckoutView) -> bool {
    events_newest_first(order).any(|event| {
        matches!(
            event,
            CheckoutEvent::PaymentReceived { .. }
                | CheckoutEvent::WrongAmountReceived { .. }
                | CheckoutEvent::LatePaymentReceived { .. }
        )
    })
}

/// What an article was called when it was ordered; its SKU if it was not.
pub(super) fn name_of<'a>(order: &'a CheckoutView, sku: &'a Sku) -> &'a str {
    order.lines.iter().find(|line| &line.sku == sku).map_or(sku.as_str(), |line| &line.name)
}

fn events_newest_first(order: &CheckoutView) -> impl Iterator<Item = &CheckoutEvent> {
    order.timeline.iter().rev().flat_map(|entry| entry.events.iter().rev())
}
