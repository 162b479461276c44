//! One order, and short words for what is said about it.

use common::{
    contracts::{
        checkout::{
            CancelledBy, CheckoutCommand, CheckoutEvent as Event, Line, PaymentNotice, PaymentOutcome, PaymentStep,
            RequestFingerprint,
        },
        inventory::{Lacking, StockAnswer, StockLine},
    },
    money::Money,
    payment::{CloseSession, Closed, CreateSession, OpenSession, RefundRequest},
    time::Timestamp,
};

use crate::{
    workflow::{Next, Step, StepEnd, Told},
    workflows::stories::{at, id},
};

pub(super) type Tell = Told<CheckoutCommand>;

/// The stock is reserved one second after the start, and then the customer has two minutes.
pub(super) const RESERVED_AT: u64 = 1;
/// See [`RESERVED_AT`].
pub(super) const DEADLINE: u64 = 121;

/// The provider's name for the session of the order.
pub(super) const SESSION: &str = "cs_1";

pub(super) fn lines() -> Vec<Line> {
    let line = |sku: &str, name: &str, quantity, cents| Line {
        sku: sku.parse().expect("a sku"),
        name: name.to_owned(),
        quantity,
        unit_price: Money::eur(cents),
    };
    vec![line("MUG-1", "Mug", 1, 1_900), line("TEA-1", "Tea", 2, 250)]
}

pub(super) fn stock_lines() -> Vec<StockLine> {
    lines().into_iter().map(|line| StockLine { sku: line.sku, quantity: line.quantity }).collect()
}

pub(super) fn total() -> Money {
    Money::eur(2_400)
}

pub(super) fn lacking() -> Vec<Lacking> {
    vec![Lacking { sku: "TEA-1".parse().expect("a sku"), requested: 2, available: 1 }]
}

// What is told.

pub(super) fn start() -> Tell {
    start_as("fingerprint of the cart")
}

pub(super) fn start_as(fingerprint: &str) -> Tell {
    let fingerprint = RequestFingerprint(fingerprint.to_owned());
    Told::Asked(CheckoutCommand::Start { lines: lines(), total: total(), fingerprint })
}

pub(super) fn cancel() -> Tell {
    Told::Asked(CheckoutCommand::Cancel { by: CancelledBy::Customer })
}

pub(super) fn nudge() -> Tell {
    Told::Asked(CheckoutCommand::Nudge)
}

pub(super) fn stock(answer: StockAnswer) -> Tell {
    Told::Asked(CheckoutCommand::StockAnswer { answer })
}

pub(super) fn stock_refuses(command: &str) -> Tell {
    stock(StockAnswer::Refused { command: command.to_owned(), reason: "the ledger says no".to_owned() })
}

pub(super) fn session_opened() -> Tell {
    let session_id = SESSION.parse().expect("a session id");
    Told::StepEnded(StepEnd::SessionOpened(OpenSession {
        session_id,
        payment_url: "https://pay.example/cs_1".to_owned(),
    }))
}

pub(super) fn nobody_can_pay() -> Tell {
    Told::StepEnded(StepEnd::SessionClosed(Closed::NobodyCanPay))
}

pub(super) fn already_paid(amount: Money) -> Tell {
    Told::StepEnded(StepEnd::SessionClosed(Closed::AlreadyPaid(asked_notice(amount))))
}

pub(super) fn refund_made() -> Tell {
    Told::StepEnded(StepEnd::Refunded { refund_id: "re_1".to_owned() })
}

pub(super) fn no_answer(step: PaymentStep) -> Tell {
    Told::StepEnded(StepEnd::NoAnswer { step, reason: "connection refused".to_owned() })
}

pub(super) fn refused(step: PaymentStep) -> Tell {
    Told::StepEnded(StepEnd::Refused { step, reason: "not possible".to_owned() })
}

pub(super) fn told_by_webhook(notice: PaymentNotice) -> Tell {
    Told::PaymentNotice(notice)
}

pub(super) fn paid() -> Tell {
    told_by_webhook(notice(PaymentOutcome::Paid))
}

/// What the provider tells of the order's session.
pub(super) fn notice(outcome: PaymentOutcome) -> PaymentNotice {
    PaymentNotice {
        event_id: Some("evt_1".parse().expect("an event id")),
        session_id: SESSION.parse().expect("a session id"),
        outcome,
        amount: total(),
    }
}

/// The same of a payment of another amount.
pub(super) fn paid_amount(amount: Money) -> PaymentNotice {
    PaymentNotice { amount, ..notice(PaymentOutcome::Paid) }
}

/// The same of another session that names this checkout.
pub(super) fn of_another_session(outcome: PaymentOutcome) -> PaymentNotice {
    PaymentNotice { session_id: "cs_other".parse().expect("a session id"), ..notice(outcome) }
}

/// What the provider answers when it is asked.
pub(super) fn asked_notice(amount: Money) -> PaymentNotice {
    PaymentNotice { event_id: None, ..paid_amount(amount) }
}

// What has happened.

pub(super) fn started() -> Event {
    Event::CheckoutStarted {
        lines: lines(),
        total: total(),
        fingerprint: RequestFingerprint("fingerprint of the cart".to_owned()),
        payment_timeout_ms: 120_000,
        provider: "sandbox".parse().expect("a provider's name"),
    }
}

pub(super) fn stock_reserved() -> Event {
    Event::StockReserved { payment_deadline: at(DEADLINE) }
}

pub(super) fn payment_session_opened() -> Event {
    let session_id = SESSION.parse().expect("a session id");
    Event::PaymentSessionOpened { session_id, payment_url: "https://pay.example/cs_1".to_owned() }
}

pub(super) fn cancel_requested() -> Event {
    Event::CancelRequested { by: CancelledBy::Customer }
}

pub(super) fn step_failed(step: PaymentStep, attempt: u32, retry_at: Timestamp) -> Event {
    Event::PaymentStepFailed { step, attempt, reason: "connection refused".to_owned(), retry_at }
}

pub(super) fn payment_received() -> Event {
    Event::PaymentReceived { notice: notice(PaymentOutcome::Paid) }
}

pub(super) fn late_payment_received() -> Event {
    Event::LatePaymentReceived { notice: notice(PaymentOutcome::Paid) }
}

// Where a checkout can stand.

pub(super) fn reserving() -> Vec<Event> {
    vec![started()]
}

pub(super) fn opening() -> Vec<Event> {
    [reserving(), vec![stock_reserved()]].concat()
}

pub(super) fn awaiting() -> Vec<Event> {
    [opening(), vec![payment_session_opened()]].concat()
}

/// The deadline has passed; the session is being closed.
pub(super) fn closing() -> Vec<Event> {
    [awaiting(), vec![Event::DeadlinePassed {}]].concat()
}

/// It was cancelled while the session was being opened; nobody knows whether there is one.
pub(super) fn closing_the_unknown() -> Vec<Event> {
    [opening(), vec![cancel_requested()]].concat()
}

pub(super) fn committing() -> Vec<Event> {
    [awaiting(), vec![payment_received()]].concat()
}

pub(super) fn releasing() -> Vec<Event> {
    [closing(), vec![Event::PaymentSessionClosed {}]].concat()
}

pub(super) fn ended_paid() -> Vec<Event> {
    [committing(), vec![Event::StockSold {}]].concat()
}

pub(super) fn ended_expired() -> Vec<Event> {
    [releasing(), vec![Event::StockReleased {}]].concat()
}

/// It has expired; then money came.
pub(super) fn owing_a_refund() -> Vec<Event> {
    [ended_expired(), vec![late_payment_received()]].concat()
}

// What is owed.

pub(super) fn reserve_stock() -> Next {
    Next::Run(Step::ReserveStock(stock_lines()))
}

pub(super) fn commit_stock() -> Next {
    Next::Run(Step::CommitStock)
}

pub(super) fn release_stock() -> Next {
    Next::Run(Step::ReleaseStock)
}

pub(super) fn create_session() -> CreateSession {
    CreateSession {
        reference: id(),
        idempotency_key: id().derive("payment-session"),
        lines: lines(),
        amount: total(),
        expires_at: at(DEADLINE),
    }
}

pub(super) fn open_session() -> Next {
    Next::Run(Step::OpenSession(create_session()))
}

pub(super) fn close_session() -> Next {
    let session_id = Some(SESSION.parse().expect("a session id"));
    Next::Run(Step::CloseSession(CloseSession { session_id, created_by: create_session() }))
}

pub(super) fn close_unknown_session() -> Next {
    Next::Run(Step::CloseSession(CloseSession { session_id: None, created_by: create_session() }))
}

pub(super) fn give_back(amount: Money) -> Next {
    Next::Run(Step::Refund(RefundRequest {
        reference: id(),
        idempotency_key: id().derive("late-money-refund"),
        session_id: SESSION.parse().expect("a session id"),
        amount,
    }))
}

pub(super) fn wait_until(second: u64) -> Next {
    Next::Wait { until: Some(at(second)) }
}
