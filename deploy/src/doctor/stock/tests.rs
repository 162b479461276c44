use common::contracts::{
    checkout::CheckoutEvent as Event,
    inventory::{Lacking, StockProjectionType},
};

use super::super::samples::*;
use super::*;

fn level(available: u64, reserved: u64, sold: u64) -> StockLevel {
    StockLevel { sku: mug(), balance: Balance { available, reserved, sold } }
}

fn broken_ledger(entries: &[Stored]) -> Vec<String> {
    read_ledger(entries).1.broken_texts()
}

/// What is found between a checkout's history and a ledger.
fn between(events: &[Event], movements: &[Movement]) -> Findings {
    let (histories, _) = read(&checkout_history(events.iter().cloned()));
    let all = [restocked(10)].into_iter().chain(movements.iter().cloned());
    let (ledger, _) = read_ledger(&LedgerWriter::with(all).entries);
    let mut findings = Findings::default();
    compare(&histories, &ledger, &HashSet::new(), &mut findings);
    findings
}

#[test]
fn a_sound_ledger_adds_up() {
    let movements = [restocked(10), held(1), sold(1), held(2), released(2), restocked(5)];
    let (ledger, findings) = read_ledger(&LedgerWriter::with(movements).entries);
    assert!(findings.all().is_empty(), "{:?}", findings.all());
    assert_eq!((ledger.entries(), ledger.movements), (6, 6));
    assert_eq!(ledger.articles[&mug()].recorded, Balance { available: 13, reserved: 0, sold: 2 });
}

#[test]
fn a_lost_and_a_changed_entry_are_found() {
    let sound = LedgerWriter::with([restocked(10), held(1), sold(1)]).entries;
    let mut lost = sound.clone();
    lost.remove(1);
    let mut changed = sound.clone();
    let text = String::from_utf8(changed[1].payload.to_vec()).expect("JSON");
    changed[1].payload = text.replace("000000000001", "000000000002").into();
    for (harm, expected) in [(lost, "record 1 expected"), (changed, "record 2 does not continue")] {
        let broken = broken_ledger(&harm);
        assert!(broken.len() == 1 && broken[0].contains(expected), "{broken:?}");
    }
}

#[test]
fn stock_from_nowhere_is_found_by_both_witnesses() {
    let mut writer = LedgerWriter::with([restocked(10)]);
    writer.write(vec![held(1)], vec![level(9, 2, 0)]);
    let broken = broken_ledger(&writer.entries);
    assert!(broken.iter().any(|text| text.starts_with("2 stream INVENTORY: entry 1")), "{broken:?}");
    assert!(
        broken.iter().any(|text| text.starts_with("2 article MUG: the stock does not add up from sequence 2")
            && text.contains("10 came in")
            && text.contains("9 available, 2 reserved")),
        "{broken:?}"
    );
}

#[test]
fn impossible_movements_are_found() {
    let oversold = |writer: &mut LedgerWriter| {
        let lines = vec![StockLine { sku: mug(), quantity: 11 }];
        writer.write(vec![Movement::Reserved { workflow: checkout(1), lines }], vec![level(0, 11, 0)]);
    };
    let sold_unreserved = |writer: &mut LedgerWriter| writer.write(vec![sold(1)], vec![level(8, 0, 2)]);
    let silent = |writer: &mut LedgerWriter| writer.write(vec![held(1)], Vec::new());
    let mut texts = Vec::new();
    for harm in [oversold as fn(&mut LedgerWriter), sold_unreserved, silent] {
        let mut writer = LedgerWriter::with([restocked(10)]);
        harm(&mut writer);
        texts.push(broken_ledger(&writer.entries).join("\n"));
    }
    assert!(texts[0].contains("reserved of 11 × MUG does not fit"), "{}", texts[0]);
    assert!(texts[1].contains("committed of checkout") && texts[1].contains("is not possible"), "{}", texts[1]);
    assert!(
        texts[2].contains("article MUG: entry 1 (sequence 2) moves it without saying what is left"),
        "{}",
        texts[2]
    );
}

#[test]
fn whatever_step_is_under_way_is_no_contradiction() {
    let refused = Movement::ReserveRefused {
        workflow: checkout(1),
        lines: two_mugs(),
        lacking: vec![Lacking { sku: mug(), requested: 2, available: 0 }],
    };
    let paid = the_paid_way();
    let expired = the_expired_way();
    let overtaken = [started(), cancelled(), Event::StockReleased {}];
    let tombstone = Movement::Released { workflow: checkout(1), lines: Vec::new() };
    for (events, movements) in [
        (&paid[..1], vec![]),
        (&paid[..1], vec![held(1)]),
        (&paid[..1], vec![refused]),
        (&paid[..2], vec![held(1)]),
        (&paid[..3], vec![held(1)]),
        (&paid[..4], vec![held(1)]),
        (&paid[..4], vec![held(1), sold(1)]),
        (&paid[..5], vec![held(1), sold(1)]),
        (&expired[..4], vec![held(1)]),
        (&expired[..5], vec![held(1)]),
        (&expired[..5], vec![held(1), released(1)]),
        (&expired[..6], vec![held(1), released(1)]),
        (&overtaken[..2], vec![]),
        (&overtaken[..2], vec![held(1)]),
        (&overtaken[..3], vec![tombstone]),
    ] {
        let findings = between(events, &movements);
        assert!(findings.all().is_empty(), "{} with {movements:?}: {:?}", names(events), findings.all());
    }
}

#[test]
fn histories_and_ledger_that_contradict_each_other_are_found() {
    let (paid, expired) = (the_paid_way(), the_expired_way());
    for (events, movements, expected) in [
        (
            &paid[..5],
            vec![held(1)],
            "1 checkout 00000000-0000-0000-0000-000000000001: it is paid, but its goods are not sold",
        ),
        (&paid[..5], vec![held(1), released(1)], "it is paid, but its goods are not sold"),
        (&paid[..5], vec![], "the ledger says: nothing"),
        (&paid[..4], vec![held(1), released(1)], "its goods are not held any more"),
        (
            &paid[..3],
            vec![],
            "2 checkout 00000000-0000-0000-0000-000000000001: it is undecided, but its goods are not held",
        ),
        (&paid[..3], vec![held(1), sold(1)], "it is undecided"),
        (&paid[..1], vec![held(1), sold(1)], "the ledger is past that"),
        (&expired[..6], vec![held(1)], "it has ended, but its goods are still held"),
        (&expired[..6], vec![held(1), sold(1)], "it ended undone, but its goods are booked as sold"),
        (&expired[..5], vec![held(1), sold(1)], "it is being undone, but its goods are booked as sold"),
    ] {
        let broken = between(events, &movements).broken_texts();
        assert!(broken.len() == 1 && broken[0].contains(expected), "{} with {movements:?}: {broken:?}", names(events));
    }
    let other_lines = Movement::Reserved { workflow: checkout(1), lines: vec![StockLine { sku: mug(), quantity: 1 }] };
    let broken = between(&paid[..3], &[other_lines]).broken_texts();
    assert!(broken[0].contains("other articles or quantities"), "{broken:?}");
}

#[test]
fn stock_that_is_held_for_nobody_is_found() {
    let broken = between(&the_paid_way(), &[held(1), sold(1), held(2)]).broken_texts();
    assert!(
        broken.len() == 1 && broken[0].starts_with("2 checkout 00000000-0000-0000-0000-000000000002: stock is held"),
        "{broken:?}"
    );
}

#[test]
fn what_moves_while_it_is_read_is_not_compared() {
    let (histories, _) = read(&checkout_history(the_paid_way()));
    let (ledger, _) = read_ledger(&LedgerWriter::with([restocked(10), held(1)]).entries);
    let mut findings = Findings::default();
    compare(&histories, &ledger, &HashSet::from([checkout(1)]), &mut findings);
    assert!(findings.all().is_empty());
}

fn told(balance: Balance, ledger_index: u64) -> Projections {
    let level = StockLevel { sku: mug(), balance };
    Projections::from([(mug(), StockProjection { projection_type: StockProjectionType::Stock, level, ledger_index })])
}

#[test]
fn readers_of_stock_are_told_the_ledger_s_truth_or_what_was_true_before() {
    let (ledger, _) = read_ledger(&LedgerWriter::with([restocked(10), held(1)]).entries);
    let now = Balance { available: 8, reserved: 2, sold: 0 };
    let before = Balance { available: 10, reserved: 0, sold: 0 };
    assert_eq!(behind(&ledger, &told(now, 1)), []);
    // The same level need not be written again.
    assert_eq!(behind(&ledger, &told(now, 0)), []);
    assert_eq!(behind(&ledger, &told(before, 0)), [mug()]);
    assert_eq!(behind(&ledger, &Projections::new()), [mug()]);

    let judged = |projections: &Projections| {
        let mut findings = Findings::default();
        compare_projection(&ledger, projections, &behind(&ledger, projections), &mut findings);
        findings
    };
    assert!(judged(&told(now, 1)).all().is_empty());
    let late = judged(&told(before, 0));
    assert!(late.broken_texts().is_empty() && late.all().len() == 1, "{:?}", late.all());
    assert!(judged(&told(before, 1)).broken_texts()[0].contains("as of entry 1"));
    assert!(judged(&told(now, 2)).broken_texts()[0].contains("the ledger has lost entries"));
}

#[test]
fn readers_are_not_told_of_stock_that_never_came_in() {
    let mut findings = Findings::default();
    compare_projection(&LedgerRead::default(), &told(Balance::default(), 0), &[], &mut findings);
    assert!(findings.broken_texts()[0].starts_with("2 article MUG: readers are told of stock"), "{findings:?}");
}
