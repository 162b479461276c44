//! CASES K: random worlds, in which messages are late, doubled and out of order, workers die or go on too late, and the
//! provider is down, loses answers and is paid late.

use std::collections::BTreeSet;

use common::{
    contracts::{TypeName as _, checkout::PaymentOutcome},
    money::Money,
};
use jiff::SignedDuration;
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use super::{
    fixtures::*,
    world::{Trouble, World},
};
use crate::workflows::stories::shapes::variant_names;

/// Something that happens in the world.
#[derive(Debug, Clone)]
enum Happening {
    Delivery(Index, Trouble),
    StoppedWorkerGoesOn(Index),
    InventoryAnswers(Index, bool),
    TimeGoesBy(i64),
    CustomerPays { cents: i64, late: bool },
    CustomerTurnsAway(PaymentOutcome),
    SomebodyPaysForAnotherSession,
    CustomerCancels,
    TheRequestComesAgain,
    AnotherRequestComesUnderTheKey,
    SomebodyNudges,
    ProviderIsDown(bool),
    ProviderLosesAnswers(u8),
    ProviderRefusesSessions,
    ProviderRefusesRefunds,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let stops_at = prop_oneof![3 => Just(None), 2 => (0..6_u8).prop_map(Some)];
    let clock_off_by_ms = prop_oneof![3 => Just(0), 1 => -90_000..90_000_i64];
    (stops_at, any::<bool>(), clock_off_by_ms).prop_map(|(stops_at, goes_on_later, clock_off_by_ms)| Trouble {
        stops_at,
        goes_on_later,
        clock_off_by_ms,
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    let cents = prop_oneof![3 => Just(2_400), 1 => Just(1)];
    let span = prop_oneof![3 => 0..10_000_i64, 1 => 0..150_000_i64];
    prop_oneof![
        24 => (any::<Index>(), trouble()).prop_map(|(which, trouble)| Happening::Delivery(which, trouble)),
        3 => any::<Index>().prop_map(Happening::StoppedWorkerGoesOn),
        10 => (any::<Index>(), prop::bool::weighted(0.2)).prop_map(|(which, again)| Happening::InventoryAnswers(which, again)),
        6 => span.prop_map(Happening::TimeGoesBy),
        4 => (cents, any::<bool>()).prop_map(|(cents, late)| Happening::CustomerPays { cents, late }),
        1 => prop_oneof![Just(PaymentOutcome::Declined), Just(PaymentOutcome::Cancelled)]
            .prop_map(Happening::CustomerTurnsAway),
        1 => Just(Happening::SomebodyPaysForAnotherSession),
        1 => Just(Happening::CustomerCancels),
        1 => Just(Happening::TheRequestComesAgain),
        1 => Just(Happening::AnotherRequestComesUnderTheKey),
        1 => Just(Happening::SomebodyNudges),
        2 => any::<bool>().prop_map(Happening::ProviderIsDown),
        2 => (1..3_u8).prop_map(Happening::ProviderLosesAnswers),
        1 => Just(Happening::ProviderRefusesSessions),
        1 => Just(Happening::ProviderRefusesRefunds),
    ]
}

/// So much tea is there (the order wants two), and this happens.
fn story() -> impl Strategy<Value = (u32, Vec<Happening>)> {
    (prop_oneof![1 => Just(1_u32), 9 => 2..4_u32], vec(happening(), 0..80))
}

fn happens(world: &mut World, happening: Happening) {
    match happening {
        Happening::Delivery(which, trouble) => world.deliver(which.index(1_000), &trouble),
        Happening::StoppedWorkerGoesOn(which) => world.go_on(which.index(1_000)),
        Happening::InventoryAnswers(which, again) => world.answer_a_request(which.index(1_000), again),
        Happening::TimeGoesBy(ms) => world.wait(SignedDuration::from_millis(ms)),
        Happening::CustomerPays { cents, late } => world.pay(Money::eur(cents), late),
        Happening::CustomerTurnsAway(outcome) => world.turn_away(outcome),
        Happening::SomebodyPaysForAnotherSession => world.pay_another_session(),
        Happening::CustomerCancels => world.say(cancel()),
        Happening::TheRequestComesAgain => world.say(start()),
        Happening::AnotherRequestComesUnderTheKey => world.say(start_as("another cart")),
        Happening::SomebodyNudges => world.say(nudge()),
        Happening::ProviderIsDown(is_down) => world.provider.is_down = is_down,
        Happening::ProviderLosesAnswers(answers) => world.provider.answers_to_lose = answers,
        Happening::ProviderRefusesSessions => world.provider.refuses_sessions = true,
        Happening::ProviderRefusesRefunds => world.provider.refuses_refunds = true,
    }
}

/// Everything happens, with the invariants checked after each; then the world is let run to its end.
fn play((tea, happenings): (u32, Vec<Happening>)) -> World {
    let mut world = World::new(tea);
    for happening in happenings {
        happens(&mut world, happening);
        world.check();
    }
    world.let_it_run();
    world.check_at_rest();
    world
}

proptest! {
    #[test]
    fn k1_to_k7_hold_in_every_world(story in story()) {
        play(story);
    }
}

/// The worlds are wild enough: every event of a checkout happens in some of them, but for the sale that a sound ledger
/// does not refuse. Otherwise the property above would prove little.
#[test]
fn the_worlds_reach_every_event() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    let mut missing = variant_names::<common::contracts::checkout::CheckoutEvent>();
    for _ in 0..Config::default().cases * 8 {
        let story = story().new_tree(&mut runner).expect("a story").current();
        reached.extend(play(story).events().iter().map(|event| event.type_name().to_owned()));
        missing.retain(|name| !reached.contains(name));
        if missing.len() == 1 {
            break;
        }
    }
    assert_eq!(missing, BTreeSet::from(["sale_refused".to_owned()]));
}
