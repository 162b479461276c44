//! Whatever stands in a history and whatever is told, the three functions answer: nothing panics on input.

use common::{
    contracts::{
        checkout::{CheckoutEvent as Event, PaymentOutcome, PaymentStep},
        inventory::StockAnswer,
    },
    money::Money,
    time::Timestamp,
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{fixtures::*, shapes::examples};
use crate::{
    workflow::{Told, Workflow as _},
    workflows::{
        checkout::Checkout,
        stories::{at, id, input},
    },
};

const STEPS: [PaymentStep; 3] = [PaymentStep::OpenSession, PaymentStep::CloseSession, PaymentStep::Refund];

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![(0..10_000_u64).prop_map(at), select(vec![Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX])]
}

/// Any event, in any order, with any time and number in it.
fn event() -> impl Strategy<Value = Event> {
    let attempt = prop_oneof![0..30_u32, Just(u32::MAX)];
    prop_oneof![
        4 => select(examples()),
        1 => time().prop_map(|payment_deadline| Event::StockReserved { payment_deadline }),
        2 => (select(STEPS.to_vec()), attempt.clone(), time())
            .prop_map(|(step, attempt, retry_at)| step_failed(step, attempt, retry_at)),
        1 => (select(STEPS.to_vec()), attempt).prop_map(|(step, attempt)| Event::PaymentStepRetried { step, attempt }),
    ]
}

fn tell() -> impl Strategy<Value = Tell> {
    let answers = [
        StockAnswer::Reserved {},
        StockAnswer::OutOfStock { lacking: lacking() },
        StockAnswer::Committed {},
        StockAnswer::Released {},
    ];
    let notices = [PaymentOutcome::Paid, PaymentOutcome::Declined, PaymentOutcome::Cancelled]
        .into_iter()
        .flat_map(|outcome| [notice(outcome), of_another_session(outcome)])
        .chain([paid_amount(Money::eur(i64::MIN)), paid_amount(Money::eur(1))]);
    let mut all = vec![start(), start_as("another"), cancel(), nudge(), Told::TimeHasCome];
    all.extend(answers.map(stock));
    all.extend(["reserve", "commit", "release", "?"].map(stock_refuses));
    all.extend([session_opened(), nobody_can_pay(), already_paid(total()), already_paid(Money::eur(1)), refund_made()]);
    all.extend(STEPS.map(no_answer));
    all.extend(STEPS.map(refused));
    all.extend(notices.map(told_by_webhook));
    select(all)
}

proptest! {
    #[test]
    fn any_history_and_any_input_get_an_answer(events in vec(event(), 0..20), tells in vec((tell(), time()), 1..8)) {
        let mut checkout = events.iter().fold(Checkout::default(), Checkout::evolve);
        for (told, at) in tells {
            if let Ok(happened) = checkout.decide(&input(at, told)) {
                checkout = happened.iter().fold(checkout, Checkout::evolve);
            }
            prop_assert!(!checkout.status().is_empty());
            prop_assert_eq!(checkout.next(id()), checkout.clone().next(id()));
        }
    }

    /// The prefix of a history is a history: folding in two parts is folding at once.
    #[test]
    fn a_history_can_be_folded_in_parts(events in vec(event(), 0..20), cut in any::<prop::sample::Index>()) {
        let (first, rest) = events.split_at(cut.index(events.len() + 1));
        let in_parts = rest.iter().fold(first.iter().fold(Checkout::default(), Checkout::evolve), Checkout::evolve);
        prop_assert_eq!(in_parts, events.iter().fold(Checkout::default(), Checkout::evolve));
    }
}
