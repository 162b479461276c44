use common::contracts::{
    checkout::{CheckoutEvent as Event, PaymentOutcome},
    refund::RefundEvent,
};
use workflow_worker::workflows::{checkout::Checkout, refund::Refund};

use super::super::samples::*;
use super::*;

fn judged(records: &[common::nats::read::Stored]) -> (Books, Findings) {
    let (histories, _) = read(records);
    let mut findings = Findings::default();
    let books = examine(&histories, &mut findings);
    (books, findings)
}

fn euros(books: &Books) -> Sums {
    books.get("eur").copied().unwrap_or_default()
}

#[test]
fn in_every_way_and_every_beginning_of_it_no_money_is_lost() {
    for way in every_way() {
        for length in 0..=way.len() {
            let (books, findings) = judged(&checkout_history(way[..length].iter().cloned()));
            assert!(findings.broken_texts().is_empty(), "{}: {:?}", names(&way[..length]), findings.broken_texts());
            let Sums { received, returned, under_way, needs_attention, kept, paid_orders } = euros(&books);
            assert_eq!(received, returned + under_way + needs_attention + kept, "{}", names(&way[..length]));
            assert_eq!(kept, paid_orders);
        }
    }
}

#[test]
fn what_is_paid_is_kept_and_what_came_late_has_gone_back() {
    let total = i128::from(TOTAL);
    let (books, _) = judged(&checkout_history(the_paid_way()));
    assert_eq!(euros(&books), Sums { received: total, kept: total, paid_orders: total, ..Sums::default() });

    let late = [the_expired_way(), vec![paid_late(), refunded()]].concat();
    let (books, _) = judged(&checkout_history(late));
    assert_eq!(euros(&books), Sums { received: total, returned: total, ..Sums::default() });

    let on_its_way = [the_expired_way(), vec![paid_late()]].concat();
    let (books, _) = judged(&checkout_history(on_its_way));
    assert_eq!(euros(&books), Sums { received: total, under_way: total, ..Sums::default() });
}

#[test]
fn money_that_cannot_be_given_back_is_listed_for_people() {
    let stuck = Event::RefundNeedsAttention { reason: "card is closed".into() };
    let (books, findings) = judged(&checkout_history([the_expired_way(), vec![paid_late(), stuck]].concat()));
    assert_eq!(euros(&books).needs_attention, i128::from(TOTAL));
    assert!(findings.broken_texts().is_empty());
    assert!(findings.all().iter().any(|finding| finding.text.contains("card is closed")));
}

#[test]
fn a_second_charge_and_a_wrong_one_are_found() {
    let (_, findings) = judged(&checkout_history([the_paid_way(), vec![paid()]].concat()));
    assert!(findings.broken_texts()[0].contains("was charged 2 times"), "{:?}", findings.broken_texts());

    let dear = Event::PaymentReceived { notice: notice(PaymentOutcome::Paid, TOTAL + 1) };
    let (_, findings) = judged(&checkout_history([started(), reserved(), opened(), dear, Event::StockSold {}]));
    let broken = findings.broken_texts();
    assert!(broken[0].contains("25.01 EUR was taken for an order of 25.00 EUR"), "{broken:?}");
    assert!(broken[1].contains("has kept 2501 minor units of eur, but its paid orders cost 2500"), "{broken:?}");

    let mut foreign = notice(PaymentOutcome::Paid, TOTAL);
    foreign.session_id = "cs_2".parse().expect("a session");
    let (_, findings) =
        judged(&checkout_history([started(), reserved(), opened(), Event::PaymentReceived { notice: foreign }]));
    assert!(findings.broken_texts()[0].contains("money of session cs_2 was booked"), "{:?}", findings.broken_texts());
}

fn by_hand(refund: WorkflowId, amount: i64) -> Vec<common::nats::read::Stored> {
    let requested = RefundEvent::RefundRequested {
        checkout: id(1),
        provider: "sandbox".parse().expect("a provider"),
        session_id: "cs_1".parse().expect("a session"),
        amount: Money::eur(amount),
        reason: "broken mug".into(),
        by: None,
    };
    let refunded = RefundEvent::Refunded { refund_id: "re_9".into() };
    HistoryWriter::<Refund>::with(refund, [requested, refunded]).records
}

#[test]
fn a_refund_by_hand_is_the_one_refund_of_one_paid_checkout() {
    let paid = checkout_history(the_paid_way());
    let (books, findings) = judged(&[paid.clone(), by_hand(refund_of(id(1)), TOTAL)].concat());
    assert!(findings.all().is_empty(), "{:?}", findings.all());
    let total = i128::from(TOTAL);
    assert_eq!(euros(&books), Sums { received: total, returned: total, ..Sums::default() });

    let unpaid = HistoryWriter::<Checkout>::with(id(1), the_expired_way()).records;
    for (records, expected) in [
        ([paid.clone(), by_hand(id(77), TOTAL)].concat(), "there may be two"),
        ([paid, by_hand(refund_of(id(1)), TOTAL - 1)].concat(), "24.99 EUR is not the price"),
        ([unpaid, by_hand(refund_of(id(1)), TOTAL)].concat(), "is not paid"),
        (by_hand(refund_of(id(1)), TOTAL), "does not exist"),
    ] {
        let (_, findings) = judged(&records);
        let broken = findings.broken_texts();
        assert!(broken.len() == 1 && broken[0].contains(expected), "{expected}: {broken:?}");
    }
}
