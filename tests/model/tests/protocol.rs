//! Every reachable state of small worlds keeps the three promises (CASES K1 to K6, B2, B9, C8, E5, F1, F4, G3, G4), and
//! each mechanism that keeps them is missed when it is taken out.

use model::protocol::{
    bounds::{Bounds, Mechanism},
    checker::{Report, check},
    promises::Broken,
};

fn checked(name: &str, bounds: &Bounds) -> Report {
    let started = std::time::Instant::now();
    let mut told = 0;
    let report = check(bounds, |states| {
        if states / 1_000_000 > told {
            told = states / 1_000_000;
            println!("{name}: {told} million states after {:?}", started.elapsed());
        }
    });
    println!(
        "{name}: {} states, {} steps, {} deep, {} ends, {} real checkout states, {:?}",
        report.states,
        report.steps,
        report.depth,
        report.ends,
        report.real_states,
        started.elapsed()
    );
    report
}

fn keeps_its_promises(name: &str, bounds: &Bounds) -> Report {
    let report = checked(name, bounds);
    if let Some(found) = &report.found {
        panic!("{name}: {:?}\n{}", found.broken, found.way.join("\n"));
    }
    report
}

/// Every word that a customer can be told is reached in some world, or what holds in them would prove little.
fn reaches(report: &Report, statuses: &[&str]) {
    let missing: Vec<_> = statuses.iter().filter(|status| !report.statuses.contains(*status)).collect();
    assert!(missing.is_empty(), "no checkout is ever {missing:?}");
}

#[test]
fn a_checkout_ends_rightly_whatever_the_customer_wants() {
    let bounds = Bounds { inventories: 1, ..Bounds::one_checkout() };
    let report = keeps_its_promises("the customer pays, cancels, is declined or does nothing", &bounds);
    reaches(&report, &["reserving", "opening_payment", "awaiting_payment", "settling"]);
    reaches(&report, &["paid", "declined", "cancelled", "expired"]);
}

#[test]
fn a_checkout_survives_a_crash_at_any_point() {
    let bounds = Bounds { inventories: 1, crashes: 1, ..Bounds::one_checkout() };
    keeps_its_promises("a crash at any point", &bounds);
}

#[test]
fn a_checkout_survives_repeats_old_copies_and_a_crash() {
    let steady = Bounds { inventories: 1, customers_change_their_minds: false, ..Bounds::one_checkout() };
    let bounds = Bounds { crashes: 1, repeats: 1, old_copies: 1, ..steady };
    keeps_its_promises("a crash, a message that comes again, a decision on an old copy", &bounds);
}

#[test]
fn a_checkout_survives_a_provider_in_trouble() {
    let steady = Bounds { inventories: 1, customers_change_their_minds: false, ..Bounds::one_checkout() };
    let bounds = Bounds { unanswered: 1, provider_faults: 1, ..steady };
    let report = keeps_its_promises("a call without an answer, a refusal or money for a closed session", &bounds);
    reaches(&report, &["payment_unavailable"]);
}

#[test]
fn two_checkouts_and_two_workers_share_the_last_unit() {
    let bounds = Bounds { inventories: 1, ..Bounds::two_checkouts() };
    let report = keeps_its_promises("two checkouts, two workers, one unit", &bounds);
    reaches(&report, &["paid", "out_of_stock"]);
}

#[test]
fn two_checkouts_and_two_inventories_share_the_last_unit_through_a_crash() {
    let bounds = Bounds { workers: 1, crashes: 1, ..Bounds::two_checkouts() };
    keeps_its_promises("two checkouts, two inventories, one unit, a crash", &bounds);
}

#[test]
fn two_checkouts_do_not_disturb_each_other_when_there_is_enough() {
    let bounds = Bounds { workers: 1, inventories: 1, stock: 2, crashes: 1, ..Bounds::two_checkouts() };
    keeps_its_promises("two checkouts, two units, a crash", &bounds);
}

/// `CHECKOUT_MODEL="checkouts=2 crashes=1" cargo test --release -p model --test protocol a_world_of_your_own -- --ignored --nocapture`
#[test]
#[ignore = "takes as long and as much memory as the world that you ask for"]
fn a_world_of_your_own() {
    let words = std::env::var("CHECKOUT_MODEL").unwrap_or_else(|_| "checkouts=2 crashes=1 changes=0".to_owned());
    let bounds = Bounds::in_words(&words).expect("a world in words");
    keeps_its_promises(&words, &bounds);
}

fn misses(mechanism: Mechanism, bounds: Bounds, broken: &[Broken]) {
    let report = checked(&format!("without {mechanism:?}"), &bounds.without(mechanism));
    let found = report.found.expect("the checker finds what is broken");
    println!("{:?}\n  {}", found.broken, found.way.join("\n  "));
    assert!(broken.contains(&found.broken), "{:?}", found.broken);
}

#[test]
fn each_mechanism_is_missed() {
    for mechanism in Mechanism::ALL {
        let one = Bounds::one_checkout();
        match mechanism {
            Mechanism::ExpectedSequenceOfHistory => misses(mechanism, one, &[Broken::UndecidedWithoutGoods]),
            Mechanism::ExpectedSequenceOfLedger => {
                misses(mechanism, Bounds::two_checkouts(), &[Broken::LedgerContradictsItself]);
            }
            Mechanism::EntryBeforeAnswer => {
                misses(mechanism, Bounds::two_checkouts(), &[Broken::GoodsWithoutDecision]);
            }
            Mechanism::AckAfterAppend | Mechanism::AckAfterAnswer => {
                misses(mechanism, Bounds { crashes: 1, ..one }, &[Broken::NeverEnds]);
            }
            Mechanism::NewestStateBeforeAck => misses(mechanism, Bounds { old_copies: 1, ..one }, &[Broken::NeverEnds]),
            Mechanism::CloseBeforeRelease => misses(mechanism, one, &[Broken::CanStillBePaid]),
            Mechanism::Tombstone => misses(mechanism, one, &[Broken::GoodsWithoutDecision]),
            Mechanism::SessionKey => misses(mechanism, one, &[Broken::ChargedTwice]),
            Mechanism::RefundKey => {
                misses(
                    mechanism,
                    Bounds { provider_faults: 1, customers_change_their_minds: false, ..one },
                    &[Broken::RefundedTwice],
                );
            }
            Mechanism::Timer => misses(mechanism, one, &[Broken::NeverEnds]),
        }
    }
}
