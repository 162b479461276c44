//! CASES G2, FP17: recorded histories, replayed by today's code.

use std::collections::BTreeMap;

use common::{
    contracts::{Versioned as _, checkout::CheckoutEvent},
    nats::read::Stored,
};

use super::ways;
use crate::{
    workflow::Workflow as _,
    workflows::{
        checkout::Checkout,
        stories::{
            golden::{ends, holds_every_event, holds_every_way, record_new, recorded},
            id,
            ways::replayed,
        },
    },
};

#[test]
fn recorded_histories_end_as_they_always_did() {
    insta::assert_snapshot!("recorded_checkouts", ends::<Checkout>());
}

/// The time to pay was counted in seconds once. A checkout that began then is the same checkout today.
#[test]
fn a_history_of_an_older_version_leads_to_the_same_state() {
    let older = recorded::<Checkout>(1);
    let today: BTreeMap<String, Vec<Stored>> = recorded::<Checkout>(CheckoutEvent::VERSION).into_iter().collect();
    assert!(older.len() >= 20, "the ways of version 1 are recorded");
    for (name, stored) in older {
        let text = |stored: &Stored| String::from_utf8_lossy(&stored.payload).into_owned();
        assert!(text(&stored[0]).contains("payment_timeout_seconds"), "{name} has the older shape");
        assert!(text(&today[&name][0]).contains("payment_timeout_ms"), "{name} has today's shape");
        for records in 1..=stored.len() {
            let older = replayed::<Checkout>(&stored[..records]);
            let today = replayed::<Checkout>(&today[&name][..records]);
            assert_eq!(older.state, today.state, "{name} after {records} records");
            assert_eq!(older.state.next(id()), today.state.next(id()), "{name} after {records} records");
        }
    }
}

#[test]
fn every_event_stands_in_a_recorded_history() {
    holds_every_event::<Checkout>();
}

#[test]
fn every_way_is_recorded() {
    holds_every_way(&ways::all());
}

#[test]
#[ignore = "writes the histories of new ways into tests/golden/checkout"]
fn record_new_histories() {
    record_new(&ways::all());
}
