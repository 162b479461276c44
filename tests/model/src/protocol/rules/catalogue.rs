//! The model's words as what the real rules are told.

use common::{
    contracts::{
        checkout::{
            CancelledBy, CheckoutCommand, Line, PaymentNotice, PaymentOutcome, PaymentStep, RequestFingerprint,
        },
        inventory::{InventoryCommand, Lacking, StockAnswer, StockLine},
    },
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    payment::{Closed, OpenSession},
};
use workflow_worker::workflow::{StepEnd, Told as RealTold};

use super::{End, Message, Request, Told};

/// What one unit costs, in cents; any amount does.
const PRICE: i64 = 1_200;

/// The checkout with this number.
pub(super) fn workflow(number: u8) -> WorkflowRef {
    let ids = ["0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002"];
    let id: WorkflowId = ids[usize::from(number)].parse().expect("a workflow id");
    WorkflowRef { kind: WorkflowKind::Checkout, id }
}

/// The one article.
pub(super) fn sku() -> Sku {
    "TEA-1".parse().expect("a sku")
}

/// A request as the inventory reads it.
pub(super) fn command(request: Request, checkout: u8) -> InventoryCommand {
    let workflow = workflow(checkout);
    match request {
        Request::Reserve => InventoryCommand::Reserve { workflow, lines: vec![StockLine { sku: sku(), quantity: 1 }] },
        Request::Commit => InventoryCommand::Commit { workflow },
        Request::Release => InventoryCommand::Release { workflow },
    }
}

/// An answer of the inventory as the model's word.
pub(super) fn answer(answer: &StockAnswer) -> Message {
    match answer {
        StockAnswer::Reserved {} => Message::Reserved,
        StockAnswer::OutOfStock { .. } => Message::OutOfStock,
        StockAnswer::Committed {} => Message::Committed,
        StockAnswer::Released {} => Message::Released,
        StockAnswer::Refused { command, .. } if command == "reserve" => Message::ReserveRefused,
        StockAnswer::Refused { command, .. } if command == "commit" => Message::CommitRefused,
        StockAnswer::Refused { .. } => Message::ReleaseRefused,
    }
}

pub(super) fn told(told: Told) -> RealTold<CheckoutCommand> {
    match told {
        Told::Message(message) => message_told(message),
        Told::Ended(end) => RealTold::StepEnded(ended(end)),
    }
}

fn message_told(message: Message) -> RealTold<CheckoutCommand> {
    let stock = |answer| RealTold::Asked(CheckoutCommand::StockAnswer { answer });
    let refused = |command: &str| {
        stock(StockAnswer::Refused { command: command.to_owned(), reason: "it contradicts the ledger".to_owned() })
    };
    match message {
        Message::Start => RealTold::Asked(start()),
        Message::Cancel => RealTold::Asked(CheckoutCommand::Cancel { by: CancelledBy::Customer }),
        Message::Reserved => stock(StockAnswer::Reserved {}),
        Message::OutOfStock => {
            stock(StockAnswer::OutOfStock { lacking: vec![Lacking { sku: sku(), requested: 1, available: 0 }] })
        }
        Message::Committed => stock(StockAnswer::Committed {}),
        Message::Released => stock(StockAnswer::Released {}),
        Message::ReserveRefused => refused("reserve"),
        Message::CommitRefused => refused("commit"),
        Message::ReleaseRefused => refused("release"),
        Message::Paid => RealTold::PaymentNotice(notice("cs_1", Some("evt_1"), PaymentOutcome::Paid)),
        Message::Declined => RealTold::PaymentNotice(notice("cs_1", Some("evt_2"), PaymentOutcome::Declined)),
        Message::PaidAnotherSession => RealTold::PaymentNotice(notice("cs_2", Some("evt_3"), PaymentOutcome::Paid)),
        Message::Nudge => RealTold::Asked(CheckoutCommand::Nudge),
        Message::Due(_) => RealTold::TimeHasCome,
    }
}

fn start() -> CheckoutCommand {
    let unit_price = Money::eur(PRICE);
    CheckoutCommand::Start {
        lines: vec![Line { sku: sku(), name: "Tea".to_owned(), quantity: 1, unit_price }],
        total: unit_price,
        fingerprint: RequestFingerprint("f".to_owned()),
    }
}

fn notice(session: &str, event: Option<&str>, outcome: PaymentOutcome) -> PaymentNotice {
    PaymentNotice {
        event_id: event.map(|event| event.parse().expect("an event id")),
        session_id: session.parse().expect("a session id"),
        outcome,
        amount: Money::eur(PRICE),
    }
}

fn ended(end: End) -> StepEnd {
    let no_answer = |step| StepEnd::NoAnswer { step, reason: "connection reset".to_owned() };
    match end {
        End::Opened => StepEnd::SessionOpened(OpenSession {
            session_id: "cs_1".parse().expect("a session id"),
            payment_url: "https://pay.example/cs_1".to_owned(),
        }),
        End::OpenRefused => StepEnd::Refused { step: PaymentStep::OpenSession, reason: "not possible".to_owned() },
        End::OpenUnanswered => no_answer(PaymentStep::OpenSession),
        End::NobodyCanPay => StepEnd::SessionClosed(Closed::NobodyCanPay),
        End::AlreadyPaid => StepEnd::SessionClosed(Closed::AlreadyPaid(notice("cs_1", None, PaymentOutcome::Paid))),
        End::CloseUnanswered => no_answer(PaymentStep::CloseSession),
        End::Refunded => StepEnd::Refunded { refund_id: "re_1".to_owned() },
        End::RefundUnanswered => no_answer(PaymentStep::Refund),
    }
}
