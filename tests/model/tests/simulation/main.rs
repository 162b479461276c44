//! The real loop of the worker, the real guarded append and the real ledger, over a JetStream in memory with all its bad
//! manners, in an order that a seed decides (CASES K1 to K7, B4 to B9, B11, B13, C5, C8, C9, D4, D7, D19, E1 to E3, E5, E9,
//! E10, F1 to F4, G1 to G5, G9, FN1, FN2, FN6, FT3 to FT5).
//!
//! A seed that fails prints its number, what happened in it, and the command that plays it again.

#![expect(unreachable_pub, reason = "a test binary has no users")]

mod chance;
mod checks;
mod clock;
mod happenings;
mod inventory;
mod messages;
mod processes;
mod provider;
mod server;
mod world;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use common::contracts::{checkout::CheckoutEvent, refund::RefundEvent};
use rustix::time::{ClockId, clock_gettime};
use server::Without;
use world::{Outcome, play};

/// As in the services. A seed is mostly small allocations: a fifth of its time goes there otherwise.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long the suite plays new seeds, if `CHECKOUT_SIMULATION_SECONDS` does not say otherwise.
const SECONDS: u64 = 20;

/// Play a seed; if it fails, tell everything and fail.
fn must_hold(seed: u64) -> Outcome {
    let outcome = play(seed, None, false);
    if outcome.broken.is_some() {
        let told = play(seed, None, true);
        for line in &told.trace {
            println!("{line}");
        }
        panic!(
            "seed {seed}: {:?}\nplay it again: CHECKOUT_SIMULATION_SEED={seed} cargo test -p model --test simulation one_seed -- --nocapture",
            told.broken
        );
    }
    outcome
}

/// What this thread has used: a machine with other work to do makes the simulation later, not slower.
fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs().try_into().unwrap_or_default())
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds_that_once_failed_hold() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
        must_hold(seed.expect("a line begins with its seed"));
    }
}

/// `CHECKOUT_SIMULATION_SEED=n` plays that seed and tells what happens in it.
#[test]
fn one_seed() {
    let Some(seed) = from_environment("CHECKOUT_SIMULATION_SEED") else { return };
    for line in &play(seed, None, true).trace {
        println!("{line}");
    }
    must_hold(seed);
}

#[test]
fn the_same_seed_is_the_same_course_of_events() {
    let without_record_ids = |outcome: Outcome| (outcome.trace, outcome.broken);
    for seed in 0..20 {
        assert_eq!(without_record_ids(play(seed, None, true)), without_record_ids(play(seed, None, true)), "{seed}");
    }
}

#[test]
fn new_seeds_hold() {
    let first = from_environment("CHECKOUT_SIMULATION_FIRST_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_secs() << 20
    });
    let most = Duration::from_secs(from_environment("CHECKOUT_SIMULATION_SECONDS").unwrap_or(SECONDS));
    println!("seeds from {first}");
    let (started, used_before) = (Instant::now(), processor_time());
    let (mut seeds, mut records, mut nudges) = (0_u64, 0, 0);
    while started.elapsed() < most {
        let outcome = must_hold(first.wrapping_add(seeds));
        seeds += 1;
        records += outcome.records;
        nudges += outcome.nudges;
    }
    let used = processor_time().saturating_sub(used_before);
    let per_minute = u128::from(seeds) * 60_000 / used.as_millis().max(1);
    println!(
        "{seeds} seeds held ({per_minute} per minute of processor time), {records} records, {nudges} nudges after purges of TIMERS"
    );
    assert!(seeds > 0, "at least one seed is played");
}

/// The seeds are wild enough: every event of both kinds happens in some of them, but for the sale that a sound ledger does
/// not refuse. Otherwise what holds in them would prove little.
#[test]
fn every_event_happens() {
    let all = [variant_names::<CheckoutEvent>(), variant_names::<RefundEvent>()].concat();
    let mut missing: BTreeSet<String> = all.into_iter().collect();
    for seed in 0..20_000 {
        let happened = must_hold(seed).events;
        missing.retain(|name| !happened.contains(name));
        if missing.len() == 1 {
            println!("every event has happened by seed {seed}");
            break;
        }
    }
    assert_eq!(missing, BTreeSet::from(["sale_refused".to_owned()]));
}

/// The names of an enum's variants, as the reader of its JSON knows them.
fn variant_names<E: serde::de::DeserializeOwned>() -> Vec<String> {
    let error = serde_json::from_str::<E>(r#"{"type":"?"}"#).err().expect("there is no such variant").to_string();
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// Each is found within so many seeds.
fn is_missed(without: Without) {
    let most = 5_000;
    let found = (0..most).find_map(|seed| Some((seed, play(seed, Some(without), false).broken?)));
    let (seed, broken) = found.unwrap_or_else(|| panic!("without {without:?}, {most} seeds hold"));
    println!("without {without:?}: seed {seed}: {broken}");
}

#[test]
fn each_mechanism_is_missed() {
    for without in [
        Without::ExpectedSequenceOfHistory,
        Without::ExpectedSequenceOfLedger,
        Without::AckAfterTurn,
        Without::NewestStateBeforeAck,
        Without::SessionKey,
        Without::RefundKey,
        Without::CloseBeforeRelease,
        Without::Timers,
    ] {
        is_missed(without);
    }
}
