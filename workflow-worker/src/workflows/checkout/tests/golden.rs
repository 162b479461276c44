//! CASES G2: recorded histories, replayed by today's code.

use super::ways;
use crate::workflows::{
    checkout::Checkout,
    stories::golden::{ends, holds_every_event, holds_every_way, record_new},
};

#[test]
fn recorded_histories_end_as_they_always_did() {
    insta::assert_snapshot!("recorded_checkouts", ends::<Checkout>());
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
