//! Histories as a worker writes them, and what they look like from outside.

use common::contracts::checkout::PaymentOutcome;

use super::*;

/// A checkout's id in tests.
pub(crate) fn id() -> WorkflowId {
    "0198c0de-0000-7000-8000-00000000000a".parse().expect("an id")
}

/// A history on its way into a stream: sequences 10, 20, 30, … and a proper chain.
#[derive(Default)]
pub(crate) struct Story {
    chain: ChainEnd,
    pub(crate) stored: Vec<(u64, Vec<u8>)>,
}

impl Story {
    pub(crate) fn then(mut self, status: CheckoutStatus, events: Vec<CheckoutEvent>) -> Self {
        let index = self.chain.next_index;
        let record = Record {
            types: common::record::joined_types(&events),
            index,
            status: status.as_str().to_owned(),
            at: Timestamp::from_second(1_800_000_000).expect("a time"),
            events,
            previous: self.chain.hash.clone(),
        };
        let bytes = record.to_bytes().expect("events are JSON");
        self.chain.extend(&bytes);
        self.stored.push(((index + 1) * 10, bytes));
        self
    }

    pub(crate) fn view(&self) -> CheckoutView {
        let stored = self.stored.iter().map(|(sequence, bytes)| (*sequence, &bytes[..]));
        CheckoutView::read(id(), stored).expect("a sound history").expect("a history")
    }
}

pub(crate) fn started() -> CheckoutEvent {
    CheckoutEvent::CheckoutStarted {
        lines: vec![Line {
            sku: "MUG".parse().expect("a sku"),
            name: "Mug".into(),
            quantity: 2,
            unit_price: Money::eur(500),
        }],
        total: Money::eur(1000),
        fingerprint: RequestFingerprint("f".into()),
        payment_timeout_ms: 120_000,
        provider: "sandbox".parse().expect("a provider"),
    }
}

pub(crate) fn opened() -> CheckoutEvent {
    CheckoutEvent::PaymentSessionOpened {
        session_id: "ps_1".parse().expect("a session"),
        payment_url: "http://pay.example/ps_1".into(),
    }
}

pub(crate) fn reserved() -> CheckoutEvent {
    CheckoutEvent::StockReserved { payment_deadline: Timestamp::from_second(1_800_000_120).expect("a time") }
}

pub(crate) fn notice(cents: i64) -> PaymentNotice {
    PaymentNotice {
        event_id: Some("evt_1".parse().expect("an event id")),
        session_id: "ps_1".parse().expect("a session"),
        outcome: PaymentOutcome::Paid,
        amount: Money::eur(cents),
    }
}

/// Waiting for the customer's money.
pub(crate) fn awaiting_payment() -> Story {
    Story::default()
        .then(CheckoutStatus::Reserving, vec![started()])
        .then(CheckoutStatus::OpeningPayment, vec![reserved()])
        .then(CheckoutStatus::AwaitingPayment, vec![opened()])
}

/// Nothing was held because something lacked.
pub(crate) fn out_of_stock() -> Story {
    let lacking = vec![Lacking { sku: "MUG".parse().expect("a sku"), requested: 2, available: 1 }];
    Story::default()
        .then(CheckoutStatus::Reserving, vec![started()])
        .then(CheckoutStatus::OutOfStock, vec![CheckoutEvent::StockRefused { lacking }])
}

/// Paid and sold.
pub(crate) fn paid() -> Story {
    awaiting_payment()
        .then(CheckoutStatus::Settling, vec![CheckoutEvent::PaymentReceived { notice: notice(1000) }])
        .then(CheckoutStatus::Paid, vec![CheckoutEvent::StockSold {}])
}

/// Cancelled before there was a payment page.
pub(crate) fn cancelled_early() -> Story {
    Story::default()
        .then(CheckoutStatus::Reserving, vec![started()])
        .then(CheckoutStatus::Settling, vec![CheckoutEvent::CancelRequested { by: CancelledBy::Customer }])
        .then(CheckoutStatus::Cancelled, vec![CheckoutEvent::StockReleased {}])
}

/// Ended unpaid, and then money came all the same.
pub(crate) fn paid_too_late() -> Story {
    awaiting_payment()
        .then(CheckoutStatus::Settling, vec![CheckoutEvent::DeadlinePassed {}])
        .then(CheckoutStatus::Settling, vec![CheckoutEvent::PaymentSessionClosed {}])
        .then(CheckoutStatus::Expired, vec![CheckoutEvent::StockReleased {}])
        .then(CheckoutStatus::Expired, vec![CheckoutEvent::LatePaymentReceived { notice: notice(1000) }])
}

#[test]
fn a_history_folds_into_what_an_answer_needs() {
    let view = awaiting_payment().view();
    assert_eq!(view.revision, 30);
    assert_eq!(view.status, CheckoutStatus::AwaitingPayment);
    assert_eq!(view.total, Some(Money::eur(1000)));
    assert_eq!(view.session.as_ref().map(|session| session.session_id.as_str()), Some("ps_1"));
    assert_eq!(view.payment_deadline.map(Timestamp::as_second), Some(1_800_000_120));
    assert_eq!(view.timeline.iter().map(|entry| entry.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(!view.is_settled());
}

#[test]
fn a_record_that_comes_twice_changes_nothing_and_a_gap_is_noticed() {
    let story = awaiting_payment();
    let mut view = CheckoutView::accepted(id(), None);
    for (sequence, bytes) in story.stored.iter().chain(&story.stored) {
        view.take_in(*sequence, bytes).expect("in order");
    }
    assert_eq!(view, story.view());

    let mut late = CheckoutView::accepted(id(), None);
    let (sequence, bytes) = &story.stored[1];
    assert_eq!(late.take_in(*sequence, bytes), Err(BrokenHistory::Gap { expected: 0, found: 1 }));
    assert_eq!(late, CheckoutView::accepted(id(), None), "a record that is not the next one leaves no trace");
}

#[test]
fn money_that_comes_too_late_is_shown_until_it_is_back() {
    let pending = paid_too_late();
    assert_eq!(pending.view().refund, Some(RefundStatus::Pending));
    assert!(!pending.view().is_settled());
    assert_eq!(pending.view().attention, ["10.00 EUR arrived after the checkout had ended"]);
    let refunded = pending.then(CheckoutStatus::Expired, vec![CheckoutEvent::Refunded { refund_id: "re_1".into() }]);
    assert_eq!(refunded.view().refund, Some(RefundStatus::Refunded));
    assert!(refunded.view().is_settled());
}

#[test]
fn a_provider_that_does_not_answer_is_shown_until_it_does() {
    let failed = CheckoutEvent::PaymentStepFailed {
        step: PaymentStep::OpenSession,
        attempt: 1,
        reason: "timeout".into(),
        retry_at: Timestamp::from_second(1_800_000_005).expect("a time"),
    };
    let waiting = Story::default()
        .then(CheckoutStatus::Reserving, vec![started()])
        .then(CheckoutStatus::OpeningPayment, vec![reserved()])
        .then(CheckoutStatus::OpeningPayment, vec![failed]);
    assert_eq!(waiting.view().trouble.map(|trouble| trouble.step), Some(PaymentStep::OpenSession));
    let opened = waiting.then(CheckoutStatus::AwaitingPayment, vec![opened()]);
    assert_eq!(opened.view().trouble, None);
}

#[test]
fn nothing_stored_is_no_checkout() {
    assert_eq!(CheckoutView::read(id(), []), Ok(None));
}

#[test]
fn an_accepted_checkout_shows_what_was_asked() {
    let start =
        CheckoutCommand::Start { lines: Vec::new(), total: Money::eur(1), fingerprint: RequestFingerprint("f".into()) };
    let view = CheckoutView::accepted(id(), Some(start));
    assert_eq!((view.revision, view.status), (0, CheckoutStatus::Reserving));
    assert_eq!((view.total, view.fingerprint), (Some(Money::eur(1)), Some(RequestFingerprint("f".into()))));
}

#[test]
fn a_status_from_the_future_is_not_guessed() {
    let stored = String::from_utf8(awaiting_payment().stored[0].1.clone()).expect("JSON");
    let future = stored.replace("\"status\":\"reserving\"", "\"status\":\"teleporting\"");
    let refused = CheckoutView::read(id(), [(1, future.as_bytes())]).expect_err("not known");
    assert!(refused.to_string().contains("teleporting"), "{refused}");
}
