//! Hand-made streams for tests: written as the services write them, so that a test can then do them harm.

use async_nats::HeaderMap;
use common::{
    contracts::{
        TypeName,
        checkout::{
            CancelledBy, CheckoutEvent as Event, Line, PaymentNotice, PaymentOutcome, PaymentStep, RequestFingerprint,
        },
        inventory::{LedgerEntry, LedgerEntryType, Movement, StockLevel, StockLine},
    },
    headers,
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    nats::read::Stored,
    record::{ChainEnd, Record, joined_types},
    subject::{DeadLetterArea, Subject},
    time::Timestamp,
};
use inventory_service::ledger::Ledger;
use uuid::Uuid;
use workflow_worker::{
    workflow::{Next, Workflow},
    workflows::checkout::Checkout,
};

use super::{finding::Findings, history::Histories, stock::LedgerRead};

/// The order of every sample costs this: two mugs.
pub(super) const TOTAL: i64 = 2_500;

pub(super) fn id(number: u128) -> WorkflowId {
    WorkflowId::from(Uuid::from_u128(number))
}

pub(super) fn checkout(number: u128) -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Checkout, id: id(number) }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a small number")
}

pub(super) fn mug() -> Sku {
    "MUG".parse().expect("a sku")
}

pub(super) fn two_mugs() -> Vec<StockLine> {
    vec![StockLine { sku: mug(), quantity: 2 }]
}

/// A message as it comes from a stream.
pub(super) fn stored(sequence: u64, subject: &Subject, time: Timestamp, payload: Vec<u8>) -> Stored {
    Stored { sequence, subject: subject.to_string(), time, headers: HeaderMap::new(), payload: payload.into() }
}

/// Writes a history as the worker does: whatever it is told, with right headers and a right chain.
pub(super) struct HistoryWriter<W> {
    id: WorkflowId,
    chain: ChainEnd,
    state: W,
    pub(super) records: Vec<Stored>,
}

impl<W: Workflow> HistoryWriter<W> {
    pub(super) fn new(id: WorkflowId) -> Self {
        Self { id, chain: ChainEnd::default(), state: W::default(), records: Vec::new() }
    }

    /// One record for each event, a second after the other.
    pub(super) fn with(id: WorkflowId, events: impl IntoIterator<Item = W::Event>) -> Self {
        let mut writer = Self::new(id);
        for event in events {
            let second = i64::try_from(writer.records.len()).expect("a few records");
            writer.write(at(second), event);
        }
        writer
    }

    pub(super) fn write(&mut self, at: Timestamp, event: W::Event) {
        self.state = std::mem::take(&mut self.state).evolve(&event);
        let events = vec![event];
        let record = Record {
            types: joined_types(&events),
            index: self.chain.next_index,
            status: self.state.status().to_owned(),
            at,
            events,
            previous: self.chain.hash.clone(),
        };
        let payload = record.to_bytes().expect("writable");
        self.chain.extend(&payload);
        let subject = Subject::History(WorkflowRef { kind: W::KIND, id: self.id });
        let mut message = stored(record.index + 1, &subject, at, payload);
        let next = match self.state.next(self.id) {
            Next::Done => "done",
            Next::Run(_) => "run",
            Next::Wait { .. } => "wait",
        };
        message.headers.insert(headers::TYPE, record.types.as_str());
        message.headers.insert(headers::INDEX, record.index.to_string());
        message.headers.insert(headers::STATUS, record.status.as_str());
        message.headers.insert(headers::NEXT, next);
        self.records.push(message);
    }
}

/// The history of checkout number 1.
pub(super) fn checkout_history(events: impl IntoIterator<Item = Event>) -> Vec<Stored> {
    HistoryWriter::<Checkout>::with(id(1), events).records
}

/// Read histories to their end.
pub(super) fn read<'a>(records: impl IntoIterator<Item = &'a Stored>) -> (Histories, Findings) {
    let (mut histories, mut findings) = (Histories::default(), Findings::default());
    for record in records {
        histories.read_on(record, &mut findings);
    }
    histories.finish(&mut findings);
    (histories, findings)
}

pub(super) fn started() -> Event {
    let price = Money::eur(TOTAL / 2);
    Event::CheckoutStarted {
        lines: vec![Line { sku: mug(), name: "Mug".into(), quantity: 2, unit_price: price }],
        total: Money::eur(TOTAL),
        fingerprint: RequestFingerprint("f".into()),
        payment_timeout_ms: 100_000,
        provider: "sandbox".parse().expect("a provider"),
    }
}

/// The time to pay is over 100 s after the first second.
pub(super) fn reserved() -> Event {
    Event::StockReserved { payment_deadline: at(101) }
}

pub(super) fn opened() -> Event {
    Event::PaymentSessionOpened {
        session_id: "cs_1".parse().expect("a session"),
        payment_url: "http://127.0.0.1/payment/cs_1".into(),
    }
}

pub(super) fn notice(outcome: PaymentOutcome, cents: i64) -> PaymentNotice {
    PaymentNotice {
        event_id: Some("evt_1".parse().expect("an event id")),
        session_id: "cs_1".parse().expect("a session"),
        outcome,
        amount: Money::eur(cents),
    }
}

pub(super) fn paid() -> Event {
    Event::PaymentReceived { notice: notice(PaymentOutcome::Paid, TOTAL) }
}

pub(super) fn paid_late() -> Event {
    Event::LatePaymentReceived { notice: notice(PaymentOutcome::Paid, TOTAL) }
}

pub(super) fn cancelled() -> Event {
    Event::CancelRequested { by: CancelledBy::Customer }
}

pub(super) fn refunded() -> Event {
    Event::Refunded { refund_id: "re_1".into() }
}

pub(super) fn failed(step: PaymentStep) -> Event {
    Event::PaymentStepFailed { step, attempt: 1, reason: "no answer".into(), retry_at: at(50) }
}

pub(super) fn retried(step: PaymentStep) -> Event {
    Event::PaymentStepRetried { step, attempt: 2 }
}

pub(super) fn the_paid_way() -> Vec<Event> {
    vec![started(), reserved(), opened(), paid(), Event::StockSold {}]
}

pub(super) fn the_expired_way() -> Vec<Event> {
    let end = [Event::DeadlinePassed {}, Event::PaymentSessionClosed {}, Event::StockReleased {}];
    [started(), reserved(), opened()].into_iter().chain(end).collect()
}

/// Every way that a checkout can go.
pub(super) fn every_way() -> Vec<Vec<Event>> {
    let close = || [Event::PaymentSessionClosed {}, Event::StockReleased {}];
    let declined = Event::PaymentDeclined { notice: notice(PaymentOutcome::Declined, TOTAL) };
    let left = Event::PaymentCancelled { notice: notice(PaymentOutcome::Cancelled, TOTAL) };
    let wrong = Event::WrongAmountReceived { notice: notice(PaymentOutcome::Paid, 1) };
    let reason = || "no".to_owned();
    let opening = || vec![started(), reserved()];
    let open = || vec![started(), reserved(), opened()];
    let expired_and = |more: &[Event]| [the_expired_way(), more.to_vec()].concat();
    vec![
        the_paid_way(),
        the_expired_way(),
        vec![started(), Event::StockRefused { lacking: Vec::new() }],
        vec![started(), cancelled(), Event::StockReleased {}],
        [opening(), vec![cancelled()], close().to_vec()].concat(),
        [opening(), vec![Event::PaymentRefused { reason: reason() }, Event::StockReleased {}]].concat(),
        [
            opening(),
            vec![failed(PaymentStep::OpenSession), retried(PaymentStep::OpenSession)],
            vec![Event::PaymentGivenUp { reason: reason() }],
            vec![failed(PaymentStep::CloseSession), retried(PaymentStep::CloseSession)],
            close().to_vec(),
        ]
        .concat(),
        [opening(), vec![Event::PaymentGivenUp { reason: reason() }, paid(), Event::StockSold {}]].concat(),
        [open(), vec![declined], close().to_vec()].concat(),
        [open(), vec![left], close().to_vec()].concat(),
        [open(), vec![Event::DeadlinePassed {}, paid(), Event::StockSold {}]].concat(),
        [open(), vec![Event::DeadlinePassed {}, wrong, Event::StockReleased {}, refunded()]].concat(),
        [open(), vec![paid(), Event::SaleRefused { reason: reason() }, refunded()]].concat(),
        [
            open(),
            vec![cancelled(), Event::PaymentSessionClosed {}, paid_late(), Event::StockReleased {}],
            vec![failed(PaymentStep::Refund), retried(PaymentStep::Refund), refunded()],
        ]
        .concat(),
        expired_and(&[paid_late(), refunded()]),
        expired_and(&[paid_late(), Event::RefundNeedsAttention { reason: reason() }]),
    ]
}

/// Writes a ledger as the inventory service does.
#[derive(Default)]
pub(super) struct LedgerWriter {
    chain: ChainEnd,
    ledger: Ledger,
    pub(super) entries: Vec<Stored>,
}

impl LedgerWriter {
    /// One entry for each movement, with the balances that it leads to.
    pub(super) fn with(movements: impl IntoIterator<Item = Movement>) -> Self {
        let mut writer = Self::default();
        for movement in movements {
            writer.ledger.apply(&movement, writer.now()).expect("a possible movement");
            let balances = writer.ledger.levels().collect();
            writer.write(vec![movement], balances);
        }
        writer
    }

    /// An entry that says whatever it is told, with a right chain.
    pub(super) fn write(&mut self, movements: Vec<Movement>, balances: Vec<StockLevel>) {
        let at = self.now();
        let (index, previous) = (self.chain.next_index, self.chain.hash.clone());
        let entry = LedgerEntry { entry_type: LedgerEntryType::Movements, index, previous, at, movements, balances };
        let payload = serde_json::to_vec(&entry).expect("writable");
        self.chain.extend(&payload);
        self.entries.push(stored(index + 1, &Subject::InventoryLedger, at, payload));
    }

    fn now(&self) -> Timestamp {
        at(i64::try_from(self.entries.len()).expect("a few entries"))
    }
}

/// Read a ledger to its end.
pub(super) fn read_ledger<'a>(entries: impl IntoIterator<Item = &'a Stored>) -> (LedgerRead, Findings) {
    let (mut ledger, mut findings) = (LedgerRead::default(), Findings::default());
    for entry in entries {
        ledger.read_on(entry, &mut findings);
    }
    (ledger, findings)
}

pub(super) fn restocked(quantity: u32) -> Movement {
    Movement::Restocked {
        restock_id: Uuid::from_u128(quantity.into()),
        line: StockLine { sku: mug(), quantity },
        by: None,
    }
}

pub(super) fn held(number: u128) -> Movement {
    Movement::Reserved { workflow: checkout(number), lines: two_mugs() }
}

pub(super) fn sold(number: u128) -> Movement {
    Movement::Committed { workflow: checkout(number), lines: two_mugs() }
}

pub(super) fn released(number: u128) -> Movement {
    Movement::Released { workflow: checkout(number), lines: two_mugs() }
}

/// A parked message.
pub(super) fn parked(sequence: u64, area: DeadLetterArea, origin: &str, reason: &str) -> Stored {
    let mut letter = stored(sequence, &Subject::DeadLetter(area), at(0), b"{}".to_vec());
    letter.headers.insert(headers::ORIGINAL_SUBJECT, origin);
    letter.headers.insert(headers::REASON, reason);
    letter
}

/// The event's name, for messages of failed tests.
pub(super) fn names(events: &[Event]) -> String {
    events.iter().map(TypeName::type_name).collect::<Vec<_>>().join(", ")
}
