//! Each check can fail: one paid checkout that nothing is wrong with, and every harm that can be done to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{
    contracts::{
        checkout::{CheckoutEvent as Event, Line, PaymentNotice, PaymentOutcome, RequestFingerprint},
        inventory::{Balance, LedgerEntry, LedgerEntryType, Movement, StockLevel, StockLine},
        refund::{RefundEvent, refund_of},
    },
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    record::{ChainEnd, Record, RecordHash, joined_types},
    time::Timestamp,
};
use payment_sandbox::session::Session;
use serde_json::{Value, json};
use uuid::Uuid;
use workflow_worker::{
    workflow::Workflow,
    workflows::{checkout::Checkout, refund::Refund},
};

use super::{
    super::{
        facts::{Facts, Letter},
        told::{Answer, Asked, Told},
        visits::Way,
        watch::LastMessage,
    },
    check,
};
use crate::doctor::{Finding, Promise, Severity};

const PRICE: i64 = 2_500;

fn id() -> WorkflowId {
    WorkflowId::from(Uuid::from_u128(1))
}

fn checkout() -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Checkout, id: id() }
}

fn mug() -> Sku {
    "MUG".parse().expect("a sku")
}

fn two_mugs() -> Vec<StockLine> {
    vec![StockLine { sku: mug(), quantity: 2 }]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a small number")
}

fn last_message(sequence: i64) -> LastMessage {
    LastMessage { sequence: sequence.unsigned_abs(), at: at(sequence) }
}

/// A history as a worker writes it, one record for each event.
fn history<W: Workflow>(events: Vec<W::Event>) -> Vec<Bytes> {
    let (mut chain, mut state, mut records) = (ChainEnd::default(), W::default(), Vec::new());
    for (second, event) in (0..).zip(events) {
        state = state.evolve(&event);
        let events = vec![event];
        let record = Record {
            types: joined_types(&events),
            index: chain.next_index,
            status: state.status().to_owned(),
            at: at(second),
            events,
            previous: chain.hash.clone(),
        };
        let bytes = record.to_bytes().expect("writable");
        chain.extend(&bytes);
        records.push(bytes.into());
    }
    records
}

fn opened() -> Vec<Event> {
    let mugs = Line { sku: mug(), name: "Mug".into(), quantity: 2, unit_price: Money::eur(PRICE / 2) };
    vec![
        Event::CheckoutStarted {
            lines: vec![mugs],
            total: Money::eur(PRICE),
            fingerprint: RequestFingerprint("f".into()),
            payment_timeout_ms: 60_000,
            provider: "sandbox".parse().expect("a provider"),
        },
        Event::StockReserved { payment_deadline: at(60) },
        Event::PaymentSessionOpened {
            session_id: "cs_1".parse().expect("a session id"),
            payment_url: "http://p/cs_1".into(),
        },
    ]
}

fn paid() -> Vec<Event> {
    let notice = PaymentNotice {
        event_id: Some("evt_1".parse().expect("an event id")),
        session_id: "cs_1".parse().expect("a session id"),
        outcome: PaymentOutcome::Paid,
        amount: Money::eur(PRICE),
    };
    [opened(), vec![Event::PaymentReceived { notice }, Event::StockSold {}]].concat()
}

/// A ledger as the inventory writes it, one entry for each movement.
fn ledger(movements: Vec<(Movement, [u64; 3])>) -> Vec<Bytes> {
    let (mut previous, mut entries) = (None, Vec::new());
    for (index, (movement, [available, reserved, sold])) in (0..).zip(movements) {
        let entry = LedgerEntry {
            entry_type: LedgerEntryType::Movements,
            index,
            previous,
            at: at(0),
            movements: vec![movement],
            balances: vec![StockLevel { sku: mug(), balance: Balance { available, reserved, sold } }],
        };
        let bytes = serde_json::to_vec(&entry).expect("writable");
        previous = Some(RecordHash::of(&bytes));
        entries.push(bytes.into());
    }
    entries
}

fn delivered(quantity: u32) -> Movement {
    Movement::Restocked { restock_id: Uuid::from_u128(9), line: StockLine { sku: mug(), quantity }, by: None }
}

fn reserved() -> Movement {
    Movement::Reserved { workflow: checkout(), lines: two_mugs() }
}

fn sold() -> Movement {
    Movement::Committed { workflow: checkout(), lines: two_mugs() }
}

fn session(charges: usize, refunds: usize) -> Session {
    let charge = json!({ "charge_id": "ch", "amount": PRICE, "currency": "eur", "charged_at": at(3) });
    let refund = json!({
        "refund_id": "re", "idempotency_key": "k", "amount": PRICE, "currency": "eur", "refunded_at": at(4),
    });
    serde_json::from_value(json!({
        "session_id": "cs_1", "client_reference_id": id().to_string(), "amount": PRICE, "currency": "eur",
        "lines": [], "expires_at": at(60), "status": "paid", "payment_status": "paid", "created_at": at(2),
        "charges": vec![charge; charges], "refunds": vec![refund; refunds],
    }))
    .expect("a session")
}

fn answer(asked: Asked, status: u16, body: Value) -> Answer {
    Answer::read(asked, status, &body)
}

fn link(session: &str, amount: i64) -> Value {
    json!({ "workflow_id": id().to_string(), "payment": { "session_id": session }, "amount": { "amount": amount } })
}

/// One checkout that was paid, and nothing is wrong.
fn good() -> Facts {
    let answers = vec![answer(Asked::Start, 201, link("cs_1", PRICE))];
    Facts {
        told: vec![Told { key: "k".into(), checkout: id(), way: Way::Paid, answers }],
        stocked: [(mug(), 10)].into(),
        histories: [(checkout(), history::<Checkout>(paid()))].into(),
        ledger: ledger(vec![(delivered(10), [10, 0, 0]), (reserved(), [8, 2, 0]), (sold(), [8, 0, 2])]),
        webhooks: ["webhook.sandbox.evt_1".to_owned()].into(),
        sessions: vec![session(1, 0)],
        delivered: ["webhook.sandbox.evt_1".to_owned()].into(),
        last_messages: [("HISTORY", [3, 5].map(last_message).into())].into(),
        stored_at: [("HISTORY", (1..6).map(|sequence: i64| (sequence.unsigned_abs(), at(sequence))).collect())].into(),
        ..Facts::default()
    }
}

/// The checks that fail after a harm, each once.
fn found(harm: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
    let mut facts = good();
    harm(&mut facts);
    let mut checks: Vec<&str> = check(&facts).into_iter().map(|violation| violation.check).collect();
    checks.sort_unstable();
    checks.dedup();
    checks
}

fn tell(facts: &mut Facts, asked: Asked, status: u16, body: Value) {
    facts.told[0].answers.push(answer(asked, status, body));
}

fn refund_by_hand(facts: &mut Facts, is_done: bool) {
    let mut events = vec![RefundEvent::RefundRequested {
        checkout: id(),
        provider: "sandbox".parse().expect("a provider"),
        session_id: "cs_1".parse().expect("a session id"),
        amount: Money::eur(PRICE),
        reason: "broken".into(),
        by: None,
    }];
    events.extend(is_done.then(|| RefundEvent::Refunded { refund_id: "re".into() }));
    let workflow = WorkflowRef { kind: WorkflowKind::Refund, id: refund_of(id()) };
    facts.histories.insert(workflow, history::<Refund>(events));
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(check(&good()), []);
}

#[test]
fn an_accepted_cart_without_a_history_is_found() {
    let checks = found(|facts| {
        facts.told.push(Told {
            key: "other".into(),
            checkout: WorkflowId::from(Uuid::from_u128(2)),
            ..facts.told[0].clone()
        });
    });
    assert!(checks.contains(&"accepted is started"), "{checks:?}");
}

#[test]
fn a_gap_and_a_changed_record_are_found() {
    let gap = found(|facts| drop(facts.histories.get_mut(&checkout()).expect("a history").remove(1)));
    assert!(gap.contains(&"history unbroken"), "{gap:?}");
    let changed = found(|facts| {
        let record = &mut facts.histories.get_mut(&checkout()).expect("a history")[1];
        let text = String::from_utf8(record.to_vec()).expect("text").replace("opening_payment", "opening_Payment");
        *record = text.into();
    });
    assert!(changed.contains(&"history unbroken"), "{changed:?}");
}

#[test]
fn words_that_replay_does_not_say_are_found() {
    let checks = found(|facts| {
        let record = facts.histories.get_mut(&checkout()).expect("a history").last_mut().expect("a record");
        *record =
            String::from_utf8(record.to_vec()).expect("text").replace("\"paid\",\"at\"", "\"settling\",\"at\"").into();
    });
    assert!(checks.contains(&"replay tells the same"), "{checks:?}");
}

#[test]
fn no_end_two_ends_and_something_owed_are_found() {
    let open = found(|facts| drop(facts.histories.insert(checkout(), history::<Checkout>(opened()))));
    assert!(open.contains(&"exactly one end") && open.contains(&"nothing is owed"), "{open:?}");
    // The record of the first end says another word than the last one.
    let two = found(|facts| {
        let records = facts.histories.get_mut(&checkout()).expect("a history");
        let early = String::from_utf8(records[0].to_vec()).expect("text").replace("\"reserving\"", "\"expired\"");
        let mut chain = ChainEnd::default();
        *records = [vec![Bytes::from(early)], records[1..].to_vec()].concat();
        for record in records.iter_mut() {
            let mut value: Value = serde_json::from_slice(record).expect("JSON");
            if let Some(hash) = &chain.hash {
                value["previous"] = json!(hash.to_string());
            }
            *record = value.to_string().into();
            chain.extend(record);
        }
    });
    assert!(two.contains(&"exactly one end"), "{two:?}");
}

#[test]
fn a_refund_that_never_ends_is_found() {
    assert_eq!(found(|facts| refund_by_hand(facts, false)), ["exactly one end"]);
}

#[test]
fn other_ids_sessions_prices_and_carts_under_one_key_are_found() {
    let other = json!({ "workflow_id": Uuid::from_u128(7).to_string() });
    assert_eq!(found(|facts| tell(facts, Asked::Start, 201, other)), ["one key, one checkout"]);
    assert_eq!(found(|facts| tell(facts, Asked::Start, 201, link("cs_2", PRICE))), ["one key, one checkout"]);
    assert_eq!(found(|facts| tell(facts, Asked::Start, 201, link("cs_1", 7))), ["one key, one body"]);
    assert_eq!(found(|facts| tell(facts, Asked::OtherCart, 202, Value::Null)), ["one key, one body"]);
    assert_eq!(found(|facts| tell(facts, Asked::OtherCart, 422, Value::Null)), [""; 0]);
}

#[test]
fn an_end_that_was_told_and_is_not_true_is_found() {
    let lie = "what was said stays true";
    assert_eq!(found(|facts| tell(facts, Asked::Start, 409, json!({ "code": "out_of_stock" }))), [lie]);
    assert_eq!(found(|facts| tell(facts, Asked::Start, 502, json!({ "code": "payment_unavailable" }))), [lie]);
    assert_eq!(found(|facts| tell(facts, Asked::Cancel, 200, Value::Null)), [lie]);
}

#[test]
fn a_promised_refund_that_is_not_made_is_found() {
    assert_eq!(found(|facts| tell(facts, Asked::Refund, 202, Value::Null)), ["accepted is started"]);
}

#[test]
fn a_forgery_that_was_believed_is_found() {
    assert_eq!(found(|facts| tell(facts, Asked::ForgedWebhook, 200, Value::Null)), ["forged is refused"]);
}

#[test]
fn a_checkout_of_nobody_is_found() {
    assert_eq!(found(|facts| facts.told.clear()), ["no checkout of nobody"]);
}

#[test]
fn wrong_money_is_found() {
    // Twice, not at all, given back although it was earned, and from a second session.
    assert_eq!(found(|facts| facts.sessions = vec![session(2, 0)]), ["money"]);
    assert_eq!(found(|facts| facts.sessions = vec![session(2, 1)]), ["money"]);
    assert_eq!(found(|facts| facts.sessions = vec![session(0, 0)]), ["money"]);
    assert_eq!(found(|facts| facts.sessions = vec![session(1, 1)]), ["money"]);
    assert_eq!(found(|facts| facts.sessions = vec![session(1, 0), session(0, 0)]), ["money"]);
    // By hand: promised and not made, made once, made twice.
    let by_hand = |refunds| {
        found(|facts| {
            refund_by_hand(facts, true);
            facts.sessions = vec![session(1, refunds)];
        })
    };
    assert_eq!((by_hand(0), by_hand(1), by_hand(2)), (vec!["money"], vec![], vec!["money"]));
    // A stranger's money.
    let stranger = found(|facts| {
        let mut session = session(1, 0);
        session.order.client_reference_id = "somebody".into();
        facts.sessions.push(session);
    });
    assert_eq!(stranger, ["money"]);
}

#[test]
fn wrong_stock_is_found() {
    let with = |entries| found(move |facts| facts.ledger = ledger(entries));
    let start = || (delivered(10), [10, 0, 0]);
    assert_eq!(with(vec![start(), (reserved(), [8, 2, 0]), (sold(), [9, 0, 2])]), ["stock"], "invented");
    assert_eq!(with(vec![start(), (reserved(), [8, 2, 0])]), ["stock"], "still held, not sold");
    assert_eq!(with(vec![(delivered(9), [9, 0, 0]), (reserved(), [7, 2, 0]), (sold(), [7, 0, 2])]), ["stock"], "lost");
    let twice =
        vec![start(), (reserved(), [8, 2, 0]), (sold(), [8, 0, 2]), (reserved(), [6, 2, 2]), (sold(), [6, 0, 4])];
    assert_eq!(with(twice), ["stock"], "sold twice");
    let below = found(|facts| {
        facts.stocked = [(mug(), 1)].into();
        // The balances cannot say what the movements lead to: less than nothing.
        facts.ledger = ledger(vec![(delivered(1), [1, 0, 0]), (reserved(), [0, 2, 0]), (sold(), [0, 0, 2])]);
    });
    assert_eq!(below, ["stock"]);
}

#[test]
fn a_broken_ledger_is_found() {
    assert_eq!(found(|facts| drop(facts.ledger.remove(1))), ["ledger unbroken"]);
    assert_eq!(found(|facts| facts.ledger[1] = Bytes::from_static(b"{")), ["ledger unbroken"]);
}

#[test]
fn a_webhook_that_was_answered_and_is_not_stored_is_found() {
    assert_eq!(found(|facts| facts.webhooks.clear()), ["what was answered is stored"]);
}

#[test]
fn a_message_that_was_the_last_one_and_is_gone_or_another_is_found() {
    let found = |harm: fn(&mut BTreeMap<u64, Timestamp>)| {
        found(|facts| harm(facts.stored_at.get_mut("HISTORY").expect("when its messages were stored")))
    };
    assert_eq!(found(|stored| stored.retain(|sequence, _| *sequence != 5)), ["sequences only grow"]);
    assert_eq!(found(|stored| stored.extend([(3, at(9))])), ["sequences only grow"]);
    assert_eq!(found(BTreeMap::clear), ["sequences only grow"]);
    // What was not the last one at any look is not known to have been there.
    assert!(found(|stored| stored.retain(|sequence, _| *sequence != 4)).is_empty());
}

#[test]
fn what_is_parked_without_a_lie_is_found() {
    let letter = |subject: &str| Letter {
        subject: subject.into(),
        origin: "webhook.sandbox.evt_1".into(),
        reason: "the amount is wrong".into(),
        payload: json!({ "client_reference_id": id().to_string() }).to_string().into(),
    };
    assert_eq!(found(|facts| facts.letters.push(letter("deadletter.webhook"))), ["only lies are parked"]);
    let lied = |subject| {
        found(|facts| {
            facts.told[0].way = Way::LiedAbout;
            facts.letters.push(letter(subject));
        })
    };
    assert_eq!((lied("deadletter.webhook"), lied("deadletter.command")), (vec![], vec!["only lies are parked"]));
}

#[test]
fn what_does_not_settle_and_what_does_not_come_back_is_found() {
    assert_eq!(found(|facts| facts.unsettled.push("1 workflow is open".into())), ["everything settles"]);
    assert_eq!(found(|facts| facts.accidents.push("a server is gone".into())), ["everything comes back"]);
}

#[test]
fn what_the_doctor_finds_is_found() {
    let finding =
        Finding { severity: Severity::Broken, promise: Promise::Stock, subject: "MUG".into(), text: "broken".into() };
    assert_eq!(found(|facts| facts.broken.push(finding)), ["the doctor finds nothing"]);
}
