//! Checkouts in every state, for the tests of the pages.

use common::{
    contracts::{
        catalogue::{Product, ProductType},
        checkout::{
            CancelledBy, CheckoutEvent, CheckoutStatus, Line, PaymentNotice, PaymentOutcome, PaymentStep, RefundStatus,
            RequestFingerprint,
        },
        inventory::{Balance, Lacking},
    },
    ids::{IdempotencyKey, SessionId, WorkflowId},
    money::Money,
    record::{ChainEnd, Record, joined_types},
    time::Timestamp,
};

use crate::{catalogue::Article, checkout_view::CheckoutView};

/// What a page must never hand to the browser as it is.
pub(crate) const HOSTILE: &str = r#""><script>alert(1)</script>"#;

/// When the sample checkouts start.
pub(crate) const START: &str = "2026-11-22T17:00:00Z";

pub(crate) fn at(seconds: i64) -> Timestamp {
    START.parse::<Timestamp>().expect("a time") + jiff::SignedDuration::from_secs(seconds)
}

pub(crate) fn id() -> WorkflowId {
    "0198c0de-0000-7000-8000-00000000000a".parse().expect("an id")
}

pub(crate) fn key() -> IdempotencyKey {
    "key-of-this-view".parse().expect("a key")
}

pub(crate) fn article(sku: &str, name: &str, available: u64) -> Article {
    Article {
        product: Product {
            product_type: ProductType::Product,
            sku: sku.parse().expect("a sku"),
            name: name.into(),
            description: "Holds a good amount of coffee.".into(),
            price: Money::eur(1850),
            picture: "mug".into(),
        },
        balance: Balance { available, reserved: 0, sold: 0 },
    }
}

pub(crate) fn started() -> CheckoutEvent {
    CheckoutEvent::CheckoutStarted {
        lines: vec![Line {
            sku: "MUG-1".parse().expect("a sku"),
            name: "Stoneware mug".into(),
            quantity: 2,
            unit_price: Money::eur(1850),
        }],
        total: Money::eur(3700),
        fingerprint: RequestFingerprint("00".into()),
        payment_timeout_ms: 120_000,
        provider: "sandbox".parse().expect("a provider"),
    }
}

pub(crate) fn reserved() -> CheckoutEvent {
    CheckoutEvent::StockReserved { payment_deadline: at(121) }
}

pub(crate) fn opened() -> CheckoutEvent {
    CheckoutEvent::PaymentSessionOpened {
        session_id: session(),
        payment_url: "http://127.0.0.1:8086/payment/ps_1".into(),
    }
}

fn session() -> SessionId {
    "ps_1".parse().expect("a session id")
}

pub(crate) fn notice(outcome: PaymentOutcome) -> PaymentNotice {
    PaymentNotice { event_id: None, session_id: session(), outcome, amount: Money::eur(3700) }
}

pub(crate) fn refused() -> CheckoutEvent {
    CheckoutEvent::StockRefused {
        lacking: vec![Lacking { sku: "MUG-1".parse().expect("a sku"), requested: 2, available: 1 }],
    }
}

/// The checkout after these events, one record and one second each, read as it would be from its stream.
pub(crate) fn order(status: CheckoutStatus, refund: Option<RefundStatus>, events: Vec<CheckoutEvent>) -> CheckoutView {
    let mut chain = ChainEnd::default();
    let mut stored = Vec::new();
    for (second, event) in (0..).zip(events) {
        let events = vec![event];
        let record = Record {
            types: joined_types(&events),
            index: chain.next_index,
            status: status.as_str().into(),
            at: at(second),
            events,
            previous: chain.hash.clone(),
        };
        let bytes = record.to_bytes().expect("events are JSON");
        chain.extend(&bytes);
        stored.push((chain.next_index, bytes));
    }
    let stored = stored.iter().map(|(sequence, bytes)| (*sequence, &bytes[..]));
    let order = CheckoutView::read(id(), stored).expect("a sound history").expect("a history");
    assert_eq!(order.refund, refund, "the events of {status:?} say otherwise");
    order
}

pub(crate) fn paid() -> Vec<CheckoutEvent> {
    let notice = notice(PaymentOutcome::Paid);
    vec![started(), reserved(), opened(), CheckoutEvent::PaymentReceived { notice }, CheckoutEvent::StockSold {}]
}

/// Undone for this reason: closed at the provider, stock released.
pub(crate) fn undone(because: CheckoutEvent) -> Vec<CheckoutEvent> {
    let closed = CheckoutEvent::PaymentSessionClosed {};
    vec![started(), reserved(), opened(), because, closed, CheckoutEvent::StockReleased {}]
}

/// One checkout for every status, as its history would lead to it.
pub(crate) fn one_of_each() -> Vec<CheckoutView> {
    CheckoutStatus::ALL
        .into_iter()
        .map(|status| {
            let declined = CheckoutEvent::PaymentDeclined { notice: notice(PaymentOutcome::Declined) };
            let events = match status {
                CheckoutStatus::Reserving => vec![started()],
                CheckoutStatus::OpeningPayment => vec![started(), reserved()],
                CheckoutStatus::AwaitingPayment => vec![started(), reserved(), opened()],
                CheckoutStatus::Settling => paid()[..4].to_vec(),
                CheckoutStatus::Paid => paid(),
                CheckoutStatus::Declined => undone(declined),
                CheckoutStatus::Cancelled => undone(CheckoutEvent::CancelRequested { by: CancelledBy::Customer }),
                CheckoutStatus::Expired => undone(CheckoutEvent::DeadlinePassed {}),
                CheckoutStatus::OutOfStock => vec![started(), refused()],
                CheckoutStatus::PaymentUnavailable => vec![
                    started(),
                    reserved(),
                    CheckoutEvent::PaymentRefused { reason: "no such merchant".into() },
                    CheckoutEvent::StockReleased {},
                ],
            };
            order(status, None, events)
        })
        .collect()
}

/// An expired checkout for which money came all the same.
pub(crate) fn late_money(refund: RefundStatus) -> CheckoutView {
    let mut events = undone(CheckoutEvent::DeadlinePassed {});
    events.push(CheckoutEvent::LatePaymentReceived { notice: notice(PaymentOutcome::Paid) });
    match refund {
        RefundStatus::Pending => {}
        RefundStatus::Refunded => events.push(CheckoutEvent::Refunded { refund_id: "re_1".into() }),
        RefundStatus::NeedsAttention => {
            events.push(CheckoutEvent::RefundNeedsAttention { reason: "the card is closed".into() });
        }
    }
    order(CheckoutStatus::Expired, Some(refund), events)
}

/// Reserved, and the provider has not answered yet.
pub(crate) fn provider_is_down() -> CheckoutView {
    let failed = CheckoutEvent::PaymentStepFailed {
        step: PaymentStep::OpenSession,
        attempt: 3,
        reason: "connection refused".into(),
        retry_at: at(30),
    };
    order(CheckoutStatus::OpeningPayment, None, vec![started(), reserved(), failed])
}
