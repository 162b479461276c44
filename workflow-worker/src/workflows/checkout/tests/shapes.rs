//! How events are stored. A changed snapshot means that older histories cannot be read any more.

use common::{
    contracts::checkout::{CheckoutEvent as Event, PaymentOutcome, PaymentStep},
    money::Money,
};

use super::fixtures::*;
use crate::workflows::stories::{at, shapes::json_of_each};

/// One example of each event.
pub(super) fn examples() -> Vec<Event> {
    vec![
        started(),
        stock_reserved(),
        Event::StockRefused { lacking: lacking() },
        payment_session_opened(),
        Event::PaymentRefused { reason: "not possible".to_owned() },
        step_failed(PaymentStep::OpenSession, 1, at(4)),
        Event::PaymentStepRetried { step: PaymentStep::CloseSession, attempt: 2 },
        payment_received(),
        Event::WrongAmountReceived { notice: asked_notice(Money::eur(1)) },
        Event::PaymentDeclined { notice: notice(PaymentOutcome::Declined) },
        Event::PaymentCancelled { notice: notice(PaymentOutcome::Cancelled) },
        cancel_requested(),
        Event::DeadlinePassed {},
        Event::PaymentGivenUp { reason: "the time to pay is over".to_owned() },
        Event::PaymentSessionClosed {},
        Event::StockSold {},
        Event::SaleRefused { reason: "the ledger says no".to_owned() },
        Event::StockReleased {},
        late_payment_received(),
        Event::Refunded { refund_id: "re_1".to_owned() },
        Event::RefundNeedsAttention { reason: "not possible".to_owned() },
    ]
}

#[test]
fn events_are_stored_in_the_shape_that_older_histories_have() {
    insta::assert_json_snapshot!("checkout_events", json_of_each(&examples()));
}
