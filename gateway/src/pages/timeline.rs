//! What has happened in a checkout, told to its customer, oldest first.

use common::{
    contracts::checkout::{CancelledBy, CheckoutEvent, PaymentStep},
    time::Timestamp,
};
use maud::{Markup, html};

use super::{format, order_words};
use crate::checkout_view::CheckoutView;

/// How a moment looks: it decided for the customer, against, or it is a step on the way.
enum Tone {
    Good,
    Bad,
    Step,
}

impl Tone {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Step => "step",
        }
    }
}

/// The story as an ordered list.
pub(super) fn list(order: &CheckoutView) -> Markup {
    html! {
        ol.timeline {
            @for entry in &order.timeline {
                @for event in &entry.events { (moment(order, entry.at, event)) }
            }
        }
    }
}

fn moment(order: &CheckoutView, at: Timestamp, event: &CheckoutEvent) -> Markup {
    let (tone, words) = in_words(order, event);
    html! {
        li data-tone=(tone.as_str()) {
            span.what { (words) }
            span.when { (format::clock_time(at)) }
        }
    }
}

fn in_words(order: &CheckoutView, event: &CheckoutEvent) -> (Tone, String) {
    match event {
        CheckoutEvent::CheckoutStarted { total, .. } => {
            (Tone::Step, format!("You ordered for {}.", format::price(*total)))
        }
        CheckoutEvent::StockReserved { .. } => (Tone::Step, "Your items were set aside for you.".into()),
        CheckoutEvent::StockRefused { lacking } => {
            let names: Vec<_> = lacking.iter().map(|lacking| order_words::name_of(order, &lacking.sku)).collect();
            (Tone::Bad, format!("There was too little in stock: {}. Nothing was set aside.", names.join(", ")))
        }
        CheckoutEvent::PaymentSessionOpened { .. } => (Tone::Step, "The payment page was opened.".into()),
        CheckoutEvent::PaymentRefused { .. } => (Tone::Bad, "The payment provider did not take the order on.".into()),
        CheckoutEvent::PaymentStepFailed { step, attempt, .. } => (Tone::Bad, failed_in_words(*step, *attempt)),
        CheckoutEvent::PaymentStepRetried { .. } => (Tone::Step, "The payment provider was asked again.".into()),
        CheckoutEvent::PaymentReceived { notice } => {
            (Tone::Step, format!("The payment provider reported {} from you.", format::price(notice.amount)))
        }
        CheckoutEvent::WrongAmountReceived { notice } => (
            Tone::Bad,
            format!("The payment provider took {}, which is not what the order costs.", format::price(notice.amount)),
        ),
        CheckoutEvent::PaymentDeclined { .. } => (Tone::Bad, "Your payment was declined.".into()),
        CheckoutEvent::PaymentCancelled { .. } => (Tone::Step, "You left the payment page without paying.".into()),
        CheckoutEvent::CancelRequested { by: CancelledBy::Customer } => (Tone::Step, "You cancelled the order.".into()),
        CheckoutEvent::CancelRequested { by: CancelledBy::Operator } => (Tone::Step, "We cancelled the order.".into()),
        CheckoutEvent::DeadlinePassed {} => (Tone::Bad, "The time to pay ran out.".into()),
        CheckoutEvent::PaymentGivenUp { .. } => (Tone::Bad, "The payment page could not be opened in time.".into()),
        CheckoutEvent::PaymentSessionClosed {} => (Tone::Step, "The payment page was closed.".into()),
        CheckoutEvent::StockSold {} => (Tone::Good, "Your order was confirmed: the items are yours.".into()),
        CheckoutEvent::SaleRefused { .. } => (Tone::Bad, "The sale could not be booked. Your money goes back.".into()),
        CheckoutEvent::StockReleased {} => (Tone::Step, "The items went back on the shelf.".into()),
        CheckoutEvent::LatePaymentReceived { notice } => {
            (Tone::Bad, format!("{} arrived after the order had ended.", format::price(notice.amount)))
        }
        CheckoutEvent::Refunded { .. } => (Tone::Good, "Your money was given back.".into()),
        CheckoutEvent::RefundNeedsAttention { .. } => {
            (Tone::Bad, "The refund did not go through by itself. We look after it by hand.".into())
        }
    }
}

fn failed_in_words(step: PaymentStep, attempt: u32) -> String {
    let what = match step {
        PaymentStep::OpenSession => "open the payment page",
        PaymentStep::CloseSession => "close the payment page",
        PaymentStep::Refund => "give the money back",
    };
    format!("The payment provider did not answer when asked to {what} (try {attempt}).")
}
