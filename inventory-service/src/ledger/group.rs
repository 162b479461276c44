//! A group of commands, decided one after another against the state as the earlier ones leave it.

use std::collections::BTreeMap;

use common::{
    contracts::inventory::{Balance, InventoryCommand, LedgerEntry, LedgerEntryType, Movement, StockLevel, StockLine},
    ids::{Sku, WorkflowRef},
    record::ChainEnd,
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Ledger,
    booking::{ImpossibleMovement, book},
    books::{Books, Delivery, Reservation},
    rules::{Decision, decide},
};

/// A command and when the server took it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub command: InventoryCommand,
    /// The server's time of the message.
    pub at: Timestamp,
}

/// What a group of commands leads to. Nothing of it has happened before its movements are stored in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDecision {
    /// One for each command that was taken, in their order. Fewer than were offered when the entry would have become
    /// too large; at least one.
    pub decisions: Vec<Decision>,
    /// Every movement of the group, in order.
    pub movements: Vec<Movement>,
    /// The balance after the group of every article that it touched.
    pub balances: Vec<StockLevel>,
    /// The newest time of the commands taken, and never before the ledger's latest entry.
    pub at: Timestamp,
}

impl GroupDecision {
    /// The message to store after the entries that end in `end`. It is stored even when nothing moved: only that proves that
    /// the state the group was decided on is the newest one.
    #[must_use]
    pub fn entry(&self, end: &ChainEnd) -> LedgerEntry {
        LedgerEntry {
            entry_type: LedgerEntryType::Movements,
            index: end.next_index,
            previous: end.hash.clone(),
            at: self.at,
            movements: self.movements.clone(),
            balances: self.balances.clone(),
        }
    }
}

impl Ledger {
    /// Decide commands one after another, as many as fit into one entry of about `max_bytes`.
    ///
    /// # Errors
    /// [`ImpossibleMovement`] when the rules contradict themselves, which is a defect.
    pub fn decide_group(&self, requests: &[Request], max_bytes: usize) -> Result<GroupDecision, ImpossibleMovement> {
        let mut draft = Draft::over(self);
        let mut group = GroupDecision {
            decisions: Vec::with_capacity(requests.len()),
            movements: Vec::new(),
            balances: Vec::new(),
            at: self.latest(),
        };
        let mut bytes = 0;
        for request in requests {
            let decision = decide(&draft, &request.command, self.is_too_old(request.at));
            bytes += decision.movement.as_ref().map_or(0, most_stored_bytes);
            if bytes > max_bytes && !group.decisions.is_empty() {
                break;
            }
            group.at = group.at.max(request.at);
            if let Some(movement) = &decision.movement {
                book(&mut draft, movement, request.at)?;
                group.movements.push(movement.clone());
            }
            group.decisions.push(decision);
        }
        group.balances = draft.touched_balances();
        Ok(group)
    }
}

/// The most bytes that a movement and the balances it touches take in an entry.
fn most_stored_bytes(movement: &Movement) -> usize {
    // Each is what the JSON takes with every number at its longest.
    const FIXED: usize = 160;
    const LINE_AND_BALANCE: usize = 40 + 120;
    const LACKING: usize = 80;
    let skus = |lines: &[StockLine]| lines.iter().map(|line| line.sku.as_str().len()).sum::<usize>();
    let of_lines = |lines: &[StockLine]| lines.len() * LINE_AND_BALANCE + 2 * skus(lines);
    FIXED
        + match movement {
            Movement::Reserved { lines, .. } | Movement::Committed { lines, .. } | Movement::Released { lines, .. } => {
                of_lines(lines)
            }
            Movement::ReserveRefused { lines, lacking, .. } => {
                let lacking_bytes: usize = lacking.iter().map(|lacking| LACKING + lacking.sku.as_str().len()).sum();
                of_lines(lines) + lacking_bytes
            }
            Movement::Restocked { line, .. } => of_lines(std::slice::from_ref(line)),
        }
}

/// Books that lie over the ledger: they show what the group has changed so far, and leave the ledger untouched.
struct Draft<'a> {
    ledger: &'a Ledger,
    balances: BTreeMap<Sku, Balance>,
    reservations: BTreeMap<WorkflowRef, Reservation>,
    deliveries: BTreeMap<Uuid, Delivery>,
}

impl<'a> Draft<'a> {
    fn over(ledger: &'a Ledger) -> Self {
        Self { ledger, balances: BTreeMap::new(), reservations: BTreeMap::new(), deliveries: BTreeMap::new() }
    }

    fn touched_balances(self) -> Vec<StockLevel> {
        self.balances.into_iter().map(|(sku, balance)| StockLevel { sku, balance }).collect()
    }
}

impl Books for Draft<'_> {
    fn balance(&self, sku: &Sku) -> Balance {
        self.balances.get(sku).copied().unwrap_or_else(|| self.ledger.balance(sku))
    }

    fn reservation(&self, workflow: &WorkflowRef) -> Option<&Reservation> {
        self.reservations.get(workflow).or_else(|| self.ledger.reservation(workflow))
    }

    fn delivery(&self, restock_id: &Uuid) -> Option<&Delivery> {
        self.deliveries.get(restock_id).or_else(|| self.ledger.delivery(restock_id))
    }

    fn set_balance(&mut self, sku: &Sku, balance: Balance) {
        self.balances.insert(sku.clone(), balance);
    }

    fn set_reservation(&mut self, workflow: WorkflowRef, reservation: Reservation) {
        self.reservations.insert(workflow, reservation);
    }

    fn set_delivery(&mut self, restock_id: Uuid, delivery: Delivery) {
        self.deliveries.insert(restock_id, delivery);
    }
}
