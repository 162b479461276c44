//! The ledger, added up once more: nothing negative after any entry, nothing lost, nothing invented, nothing left held.

use std::collections::BTreeMap;

use common::{
    contracts::inventory::{LedgerEntry, Movement, StockLine},
    ids::Sku,
    record::RecordHash,
};

use super::{super::facts::Facts, Violations, histories::Stories};

/// The goods of one article. Signed, so that what should never be can be seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Goods {
    came_in: i128,
    available: i128,
    reserved: i128,
    sold: i128,
}

type Shelf = BTreeMap<Sku, Goods>;

pub(super) fn check(facts: &Facts, stories: &Stories, violations: &mut Violations) {
    let Some(shelf) = add_up(facts, violations) else { return };
    let sold = sold_by_paid_checkouts(stories);
    let all = facts.stocked.keys().chain(shelf.keys()).chain(sold.keys());
    for sku in all.collect::<std::collections::BTreeSet<_>>() {
        let goods = shelf.get(sku).copied().unwrap_or_default();
        let delivered = i128::from(facts.stocked.get(sku).copied().unwrap_or_default());
        let paid_for = sold.get(sku).copied().unwrap_or_default();
        if goods.came_in != delivered {
            violations.add("stock", sku, format!("{delivered} were delivered, but the ledger says {}", goods.came_in));
        }
        if goods.sold != paid_for {
            violations.add("stock", sku, format!("{paid_for} were paid for, but the ledger has sold {}", goods.sold));
        }
        if goods.reserved != 0 {
            violations.add("stock", sku, format!("{} are still held although everything has ended", goods.reserved));
        }
    }
}

/// Every entry in turn; nothing when the ledger cannot be read to its end.
fn add_up(facts: &Facts, violations: &mut Violations) -> Option<Shelf> {
    let (mut shelf, mut previous) = (Shelf::new(), None::<RecordHash>);
    for (place, bytes) in facts.ledger.iter().enumerate() {
        let subject = format!("ledger entry {place}");
        let entry: LedgerEntry = match serde_json::from_slice(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                violations.add("ledger unbroken", subject, format!("it cannot be read: {error}"));
                return None;
            }
        };
        if u64::try_from(place) != Ok(entry.index) || entry.previous != previous {
            violations.add(
                "ledger unbroken",
                subject,
                format!("it says that it is {}, or follows another", entry.index),
            );
            return None;
        }
        previous = Some(RecordHash::of(bytes));
        entry.movements.iter().for_each(|movement| move_goods(&mut shelf, movement));
        compare(&entry, &shelf, &subject, violations);
    }
    Some(shelf)
}

fn move_goods(shelf: &mut Shelf, movement: &Movement) {
    let mut each = |lines: &[StockLine], move_one: fn(&mut Goods, i128)| {
        for line in lines {
            move_one(shelf.entry(line.sku.clone()).or_default(), line.quantity.into());
        }
    };
    match movement {
        Movement::Restocked { line, .. } => each(std::slice::from_ref(line), |goods, quantity| {
            goods.came_in += quantity;
            goods.available += quantity;
        }),
        Movement::Reserved { lines, .. } => each(lines, |goods, quantity| {
            goods.available -= quantity;
            goods.reserved += quantity;
        }),
        Movement::Committed { lines, .. } => each(lines, |goods, quantity| {
            goods.reserved -= quantity;
            goods.sold += quantity;
        }),
        Movement::Released { lines, .. } => each(lines, |goods, quantity| {
            goods.reserved -= quantity;
            goods.available += quantity;
        }),
        Movement::ReserveRefused { .. } => {}
    }
}

/// Nothing is negative, and what the entry says is left is what its movements leave.
fn compare(entry: &LedgerEntry, shelf: &Shelf, subject: &str, violations: &mut Violations) {
    for (sku, goods) in shelf {
        if goods.available < 0 || goods.reserved < 0 || goods.sold < 0 {
            violations.add("stock", format!("{sku} at {subject}"), format!("below zero: {goods:?}"));
        }
    }
    for level in &entry.balances {
        let goods = shelf.get(&level.sku).copied().unwrap_or_default();
        let said = [level.balance.available, level.balance.reserved, level.balance.sold].map(i128::from);
        if said != [goods.available, goods.reserved, goods.sold] {
            let text = format!("it says {:?}, but its movements leave {goods:?}", level.balance);
            violations.add("stock", format!("{} at {subject}", level.sku), text);
        }
    }
}

fn sold_by_paid_checkouts(stories: &Stories) -> BTreeMap<Sku, i128> {
    let mut sold = BTreeMap::new();
    let paid = stories.checkouts.values().filter(|story| story.status() == "paid");
    for line in paid.filter_map(|story| story.order()).flat_map(|order| order.lines) {
        *sold.entry(line.sku.clone()).or_default() += i128::from(line.quantity);
    }
    sold
}
