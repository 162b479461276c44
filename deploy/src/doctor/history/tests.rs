use common::contracts::checkout::{CheckoutEvent as Event, PaymentOutcome, PaymentStep};

use super::super::samples::*;
use super::*;

fn broken(records: &[Stored]) -> Vec<String> {
    read(records).1.broken_texts()
}

/// A change of the bytes that the reader sees, with a chain that is made right again: only the content is wrong.
fn rewritten(records: &[Stored], place: usize, from: &str, to: &str) -> Vec<Stored> {
    let mut records = records.to_vec();
    let text = String::from_utf8(records[place].payload.to_vec()).expect("JSON");
    assert!(text.contains(from), "{text} has no {from}");
    records[place].payload = text.replace(from, to).into();
    records
}

#[test]
fn every_way_and_every_beginning_of_it_is_sound() {
    for way in every_way() {
        for length in 0..=way.len() {
            let records = checkout_history(way[..length].iter().cloned());
            let broken = broken(&records);
            assert!(broken.is_empty(), "{}: {broken:?}", names(&way[..length]));
        }
    }
}

#[test]
fn a_lost_a_repeated_and_a_changed_record_are_found() {
    let sound = checkout_history(the_paid_way());
    let mut lost = sound.clone();
    lost.remove(2);
    let mut repeated = sound.clone();
    repeated.insert(2, sound[1].clone());
    let changed = rewritten(&sound, 2, "cs_1", "cs_2");
    let unknown = rewritten(&sound, 4, "stock_sold", "stock_teleported");
    let beheaded = sound[1..].to_vec();
    for (harm, expected) in [
        (lost, "record 2 expected"),
        (repeated, "record 2 expected"),
        (changed, "record 3 does not continue"),
        (unknown, "record 4 cannot be read"),
        (beheaded, "record 0 expected"),
    ] {
        let broken = broken(&harm);
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].starts_with("3 checkout 00000000-") && broken[0].contains(expected), "{}", broken[0]);
        assert!(broken[0].contains("nats stream view HISTORY"), "{}", broken[0]);
    }
}

#[test]
fn words_that_the_events_do_not_bear_out_are_found() {
    let mut records = checkout_history([started(), reserved()]);
    records[1].headers.insert(headers::STATUS, "paid");
    assert!(broken(&records)[0].contains("the status header says \"paid\""), "{:?}", broken(&records));

    // The last record is changed, so no chain tells.
    let records = rewritten(&checkout_history([started(), reserved()]), 1, "opening_payment", "awaiting_payment");
    assert!(broken(&records)[0].contains("`status` says \"awaiting_payment\""), "{:?}", broken(&records));

    let records =
        rewritten(&checkout_history([started()]), 0, r#"type":"checkout_started","version"#, r#"type":"x","version"#);
    assert!(broken(&records)[0].contains("`type` says \"x\""), "{:?}", broken(&records));

    let mut records = checkout_history(the_paid_way());
    records[4].headers.insert(headers::NEXT, "run");
    assert!(broken(&records)[0].contains("says that it is open, but replay says done"), "{:?}", broken(&records));
}

#[test]
fn time_does_not_go_back() {
    let mut writer = HistoryWriter::<Checkout>::new(id(1));
    writer.write(at(10), started());
    writer.write(at(9), reserved());
    assert!(broken(&writer.records)[0].contains("before the record before it"), "{:?}", broken(&writer.records));
}

#[test]
fn what_cannot_have_happened_is_found_whatever_the_chain_says() {
    let after = |way: Vec<Event>, event: Event| way.into_iter().chain([event]).collect::<Vec<_>>();
    let declined = Event::PaymentDeclined { notice: notice(PaymentOutcome::Declined, TOTAL) };
    for (way, expected) in [
        // It begins with something else.
        (vec![reserved()], "3 checkout 00000000-0000-0000-0000-000000000001: stock_reserved (sequence 1)"),
        // Something comes after the end that is no late money.
        (after(the_paid_way(), cancelled()), "had ended paid"),
        (after(the_expired_way(), Event::StockReleased {}), "had ended expired"),
        (after(the_expired_way(), failed(PaymentStep::OpenSession)), "had ended expired"),
        // A second charge, and one that is kept on an order that is undone.
        (
            after(the_paid_way(), paid()),
            "1 checkout 00000000-0000-0000-0000-000000000001: payment_received (sequence 6)",
        ),
        (
            after(the_expired_way(), paid()),
            "1 checkout 00000000-0000-0000-0000-000000000001: payment_received (sequence 7)",
        ),
        // A second decision.
        (vec![started(), reserved(), opened(), paid(), declined], "payment_declined"),
        (vec![started(), reserved(), opened(), paid(), Event::DeadlinePassed {}], "deadline_passed"),
        // A refund of what never came, and a second one.
        (after(the_expired_way(), refunded()), "1 checkout"),
        ([the_expired_way(), vec![paid_late(), refunded(), refunded()]].concat(), "refunded (sequence 9)"),
        // Goods given back before it was certain that nobody can pay.
        (vec![started(), reserved(), opened(), Event::StockReleased {}], "was awaiting_payment by then"),
        // Sold without a payment.
        (vec![started(), reserved(), opened(), Event::StockSold {}], "stock_sold"),
        // A second start.
        (vec![started(), started()], "checkout_started (sequence 2)"),
    ] {
        let broken = broken(&checkout_history(way.clone()));
        assert!(broken.iter().any(|text| text.contains(expected)), "{}: {broken:?}", names(&way));
    }
}

#[test]
fn a_payment_session_belongs_to_one_checkout() {
    let one = HistoryWriter::<Checkout>::with(id(1), [started(), reserved(), opened()]);
    let two = HistoryWriter::<Checkout>::with(id(2), [started(), reserved(), opened()]);
    let broken = broken(&[one.records, two.records].concat());
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].starts_with("1 checkout") && broken[0].contains("is another checkout's too"), "{broken:?}");
}

#[test]
fn a_subject_of_a_newer_version_is_not_called_broken() {
    let mut records = checkout_history([started()]);
    records[0].subject = "history.subscription.00000000-0000-0000-0000-000000000001".into();
    let (histories, findings) = read(&records);
    assert!(findings.broken_texts().is_empty());
    assert_eq!(findings.all().len(), 1);
    assert!(histories.checkouts.is_empty());
}

#[test]
fn checkouts_are_counted_by_status_and_those_without_a_trustworthy_history_apart() {
    let sound = HistoryWriter::<Checkout>::with(id(2), the_expired_way()).records;
    let beheaded = checkout_history(the_paid_way())[1..].to_vec();
    let (histories, _) = read(&[sound, beheaded].concat());
    assert_eq!(histories.checkouts_by_status(), BTreeMap::from([("expired", 1), ("untrusted", 1)]));
}
