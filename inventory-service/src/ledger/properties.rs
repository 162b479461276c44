//! Random commands with duplicates, in any order and in groups of any size: what must hold holds at every instant.

use std::{collections::HashMap, time::Duration};

use common::{
    contracts::inventory::{InventoryCommand, LedgerEntry, Movement, RestockAnswer, StockLine},
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    record::ChainEnd,
    time::{Timestamp, after},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Answer, Decision, Ledger, Refusal, Request};

const SKUS: [&str; 3] = ["MUG", "PEN", "CAP"];
const ROOM: usize = 1 << 20;

fn sku() -> impl Strategy<Value = Sku> {
    (0..SKUS.len()).prop_map(|number| SKUS[number].parse().expect("a sku"))
}

fn workflow() -> impl Strategy<Value = WorkflowRef> {
    (0..6_u128)
        .prop_map(|number| WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::from(Uuid::from_u128(number)) })
}

fn lines() -> impl Strategy<Value = Vec<StockLine>> {
    proptest::collection::vec((sku(), 0..4_u32).prop_map(|(sku, quantity)| StockLine { sku, quantity }), 0..4)
}

/// Few workflows, few articles, small numbers: so that commands repeat, overtake and contradict each other.
fn command() -> impl Strategy<Value = InventoryCommand> {
    prop_oneof![
        4 => (workflow(), lines()).prop_map(|(workflow, lines)| InventoryCommand::Reserve { workflow, lines }),
        2 => workflow().prop_map(|workflow| InventoryCommand::Commit { workflow }),
        2 => workflow().prop_map(|workflow| InventoryCommand::Release { workflow }),
        2 => (0..4_u128, sku(), 0..6_u32).prop_map(|(id, sku, quantity)| InventoryCommand::Restock {
            restock_id: Uuid::from_u128(id),
            sku,
            quantity,
            by: None,
        }),
    ]
}

/// Groups of commands, each some time after the one before: seconds, or days, so that things are forgotten.
fn groups() -> impl Strategy<Value = Vec<(u64, Vec<InventoryCommand>)>> {
    let pause = prop_oneof![4 => 0..10_u64, 1 => 0..700_000_u64];
    proptest::collection::vec((pause, proptest::collection::vec(command(), 1..8)), 1..25)
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// What a live service does with groups: the ledger, its entries, and every decision in order.
#[derive(Default)]
struct Run {
    ledger: Ledger,
    end: ChainEnd,
    entries: Vec<LedgerEntry>,
    decisions: Vec<(InventoryCommand, Decision)>,
}

impl Run {
    fn of(groups: &[(u64, Vec<InventoryCommand>)]) -> Self {
        let (mut run, mut now) = (Self::default(), start());
        for (pause, commands) in groups {
            now = after(now, Duration::from_secs(*pause));
            run.take(commands, now);
        }
        run
    }

    fn take(&mut self, commands: &[InventoryCommand], at: Timestamp) {
        let requests: Vec<Request> = commands.iter().map(|command| Request { command: command.clone(), at }).collect();
        let group = self.ledger.decide_group(&requests, ROOM).expect("sound rules");
        assert_eq!(group.decisions.len(), commands.len());
        let entry = group.entry(&self.end);
        self.end.extend(&serde_json::to_vec(&entry).expect("writable"));
        self.ledger.apply_entry(&entry).expect("what was decided can be booked");
        self.entries.push(entry);
        self.decisions.extend(commands.iter().cloned().zip(group.decisions));
    }
}

fn replay(ledger: Ledger, entries: &[LedgerEntry]) -> Ledger {
    entries.iter().fold(ledger, |mut ledger, entry| {
        ledger.apply_entry(entry).expect("the ledger can be replayed");
        ledger
    })
}

fn hash(ledger: &Ledger) -> String {
    ledger.hash().expect("writable").to_string()
}

fn is_a_repeat(first: &Decision, second: &Decision) -> bool {
    let booked_twice = matches!(
        (&first.answer, &second.answer),
        (
            Answer::Restock { answer: RestockAnswer::Restocked { .. }, .. },
            Answer::Restock { answer: RestockAnswer::Restocked { .. }, .. }
        )
    );
    let same = second.movement.is_none() && second.answer == first.answer;
    // A restock is answered with the balance of now.
    let same = same || (second.movement.is_none() && booked_twice);
    // Nothing is held any more.
    let closed = second.refusal == Some(Refusal::ReserveAfterRelease);
    // Not recorded, so a reserve that follows is served: only an unsound workflow sells what it has not reserved.
    same || closed || first.refusal == Some(Refusal::CommitWithoutReserve)
}

proptest! {
    #[test]
    fn what_came_in_is_available_held_or_sold_and_what_is_held_is_held_for_somebody(groups in groups()) {
        let mut delivered: HashMap<Sku, u64> = HashMap::new();
        let mut held: HashMap<WorkflowRef, Vec<StockLine>> = HashMap::new();
        let mut sold: HashMap<Sku, u64> = HashMap::new();
        let mut ledger = Ledger::default();
        for entry in Run::of(&groups).entries {
            ledger.apply_entry(&entry).expect("replay");
            for movement in entry.movements {
                match movement {
                    Movement::Restocked { line, .. } => *delivered.entry(line.sku).or_default() += u64::from(line.quantity),
                    Movement::Reserved { workflow, lines } => prop_assert!(held.insert(workflow, lines).is_none()),
                    Movement::ReserveRefused { lacking, .. } => prop_assert!(!lacking.is_empty()),
                    Movement::Released { workflow, lines } => {
                        prop_assert_eq!(held.remove(&workflow).unwrap_or_default(), lines);
                    }
                    Movement::Committed { workflow, lines } => {
                        prop_assert_eq!(held.remove(&workflow), Some(lines.clone()));
                        for line in lines {
                            *sold.entry(line.sku).or_default() += u64::from(line.quantity);
                        }
                    }
                }
            }
            for level in ledger.levels() {
                let reserved: u64 = held.values().flatten().filter(|line| line.sku == level.sku)
                    .map(|line| u64::from(line.quantity)).sum();
                prop_assert_eq!(level.balance.reserved, reserved);
                prop_assert_eq!(level.balance.sold, sold.get(&level.sku).copied().unwrap_or_default());
                let sum = level.balance.available + level.balance.reserved + level.balance.sold;
                prop_assert_eq!(sum, delivered.get(&level.sku).copied().unwrap_or_default());
            }
        }
    }

    #[test]
    fn replay_from_zero_and_snapshot_with_tail_give_the_live_state(groups in groups(), cut in any::<prop::sample::Index>()) {
        let run = Run::of(&groups);
        let live = hash(&run.ledger);
        prop_assert_eq!(hash(&replay(Ledger::default(), &run.entries)), live.clone());
        let cut = cut.index(run.entries.len() + 1);
        let snapshot = replay(Ledger::default(), &run.entries[..cut]).to_bytes().expect("writable");
        let restored = Ledger::from_bytes(&snapshot).expect("readable");
        prop_assert_eq!(hash(&replay(restored, &run.entries[cut..])), live);
    }

    #[test]
    fn whoever_asks_again_is_answered_the_same_and_nothing_moves(
        groups in proptest::collection::vec(proptest::collection::vec(command(), 1..8), 1..25),
    ) {
        // A second between the groups: all within the time that is remembered.
        let run = Run::of(&groups.into_iter().map(|commands| (1, commands)).collect::<Vec<_>>());
        let mut known: Vec<(InventoryCommand, Decision)> = Vec::new();
        for (command, decision) in run.decisions {
            match known.iter_mut().find(|(asked, _)| *asked == command) {
                Some((_, first)) => {
                    prop_assert!(is_a_repeat(first, &decision), "{command:?}: first {first:?}, then {decision:?}");
                    *first = decision;
                }
                None => known.push((command, decision)),
            }
        }
    }

    /// Workers read the answer off the movement.
    #[test]
    fn what_moved_tells_its_workflow_what_the_command_was_answered(groups in groups()) {
        for (_, decision) in Run::of(&groups).decisions {
            let Some(movement) = decision.movement else { continue };
            match (movement.answer(), decision.answer) {
                (Some((told, read)), Answer::Stock { workflow, answer }) => {
                    prop_assert_eq!((told, read), (workflow, answer));
                }
                (None, Answer::Restock { .. }) => {}
                (read, answer) => prop_assert!(false, "{read:?}, but {answer:?}"),
            }
        }
    }

    #[test]
    fn a_group_is_decided_like_its_commands_one_by_one(commands in proptest::collection::vec(command(), 1..40)) {
        let together = Run::of(&[(1, commands.clone())]);
        let mut one_by_one = Run::default();
        for command in &commands {
            one_by_one.take(std::slice::from_ref(command), after(start(), Duration::from_secs(1)));
        }
        prop_assert_eq!(&together.decisions, &one_by_one.decisions);
        prop_assert_eq!(hash(&together.ledger), hash(&one_by_one.ledger));
    }

    #[test]
    fn an_entry_never_takes_more_room_than_was_reckoned(commands in proptest::collection::vec(command(), 1..60), room in 1_000_usize..10_000) {
        let requests: Vec<Request> =
            commands.into_iter().map(|command| Request { command, at: start() }).collect();
        let group = Ledger::default().decide_group(&requests, room).expect("sound rules");
        let bytes = serde_json::to_vec(&group.entry(&ChainEnd::default())).expect("writable").len();
        // The frame: type, index, hash of the predecessor, time.
        prop_assert!(bytes <= room + 300 || group.decisions.len() == 1);
    }
}
