//! The ledger's state and rules. Pure: no clock, no randomness, no I/O; times come with the commands.
//!
//! Reading order: `books` (what the rules work on) → `rules` (what a command causes and what is answered) →
//! `booking` (what a movement does) → `group` (many commands, one entry) → `memory` (what may be forgotten, and how the
//! state is written down).
//!
//! What holds at every instant, per article: initial + restocked = available + reserved + sold, each at least 0. What a
//! workflow was answered it is answered again, for as long as it is remembered; the one exception is a reserve that is
//! repeated after a release, which is refused because nothing is held any more.

mod booking;
mod books;
mod group;
mod lines;
mod memory;
mod refusal;
mod rules;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use common::{
    contracts::inventory::{Balance, InventoryCommand, LedgerEntry, Movement, StockLevel},
    ids::{Sku, WorkflowRef},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use booking::{ImpossibleMovement, movement_name};
pub use group::{GroupDecision, Request};
pub use memory::UnreadableState;
pub use refusal::Refusal;
pub use rules::{Answer, Decision};

use books::{Books, Delivery, Reservation};

/// As many lines as a cart may have; so one movement stays small enough for any entry.
pub const MAX_LINES: usize = common::contracts::checkout::MAX_LINES;

/// A command that the server took in longer ago than this is not booked any more: nobody can be waiting for it, and what
/// it repeats may be forgotten.
pub const COMMAND_MAX_AGE: Duration = common::streams::COMMAND_MAX_AGE;

/// How long a finished reservation is remembered. A command is booked only when it is younger than [`COMMAND_MAX_AGE`]; the
/// day on top is for a repeat that the server took in only after the reservation was finished: a publish whose outcome
/// was unknown can arrive minutes late, never a day.
pub const FINISHED_MEMORY: Duration = COMMAND_MAX_AGE.saturating_add(Duration::from_secs(24 * 60 * 60));

/// How long a delivery is remembered. Deliveries are few and are told by people, who may tell one again when the books of
/// the year are closed, under a fresh message that is not old.
pub const DELIVERY_MEMORY: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How many there are of each article, and what every workflow holds or was told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// The time of the newest entry; the epoch when there is none.
    latest: Timestamp,
    balances: BTreeMap<Sku, Balance>,
    #[serde(with = "memory::as_pairs")]
    reservations: BTreeMap<WorkflowRef, Reservation>,
    deliveries: BTreeMap<Uuid, Delivery>,
    /// What is to be forgotten next, oldest first; follows from the rest.
    #[serde(skip)]
    finished: VecDeque<(Timestamp, WorkflowRef)>,
    #[serde(skip)]
    delivered: VecDeque<(Timestamp, Uuid)>,
}

impl Ledger {
    /// What one command leads to, given that the server took it in at `command_at`. Nothing changes by deciding.
    #[must_use]
    pub fn decide(&self, command: &InventoryCommand, command_at: Timestamp) -> Decision {
        rules::decide(self, command, self.is_too_old(command_at))
    }

    /// One movement has happened at `at`.
    ///
    /// # Errors
    /// [`ImpossibleMovement`] when the state does not allow it; the ledger must not be used any more then.
    pub fn apply(&mut self, movement: &Movement, at: Timestamp) -> Result<(), ImpossibleMovement> {
        self.latest = self.latest.max(at);
        booking::book(self, movement, at)
    }

    /// All movements of an entry have happened; then what is old enough is forgotten.
    ///
    /// # Errors
    /// [`ImpossibleMovement`] when the state does not allow them or they lead to other balances than the entry names;
    /// the ledger must not be used any more then.
    pub fn apply_entry(&mut self, entry: &LedgerEntry) -> Result<(), ImpossibleMovement> {
        // An entry without movements has its time, too, and the next one must not lie before it.
        self.latest = self.latest.max(entry.at);
        for movement in &entry.movements {
            booking::book(self, movement, entry.at)?;
        }
        for StockLevel { sku, balance: recorded } in &entry.balances {
            let computed = self.balance(sku);
            if computed != *recorded {
                return Err(ImpossibleMovement::OtherBalance { sku: sku.clone(), recorded: *recorded, computed });
            }
        }
        self.forget_the_old();
        Ok(())
    }

    /// The time of the newest entry; the epoch when there is none.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Every article that was ever delivered, and how many there are of it.
    pub fn levels(&self) -> impl Iterator<Item = StockLevel> + '_ {
        self.balances.iter().map(|(sku, balance)| StockLevel { sku: sku.clone(), balance: *balance })
    }

    /// How many there are of one article; none of one that was never delivered.
    #[must_use]
    pub fn level(&self, sku: &Sku) -> StockLevel {
        StockLevel { sku: sku.clone(), balance: self.balance(sku) }
    }

    /// The workflows for which stock is held.
    pub fn holders(&self) -> impl Iterator<Item = WorkflowRef> + '_ {
        self.reservations
            .iter()
            .filter(|(_, reservation)| matches!(reservation, Reservation::Held { .. }))
            .map(|(workflow, _)| *workflow)
    }
}

impl Books for Ledger {
    fn balance(&self, sku: &Sku) -> Balance {
        self.balances.get(sku).copied().unwrap_or_default()
    }

    fn reservation(&self, workflow: &WorkflowRef) -> Option<&Reservation> {
        self.reservations.get(workflow)
    }

    fn delivery(&self, restock_id: &Uuid) -> Option<&Delivery> {
        self.deliveries.get(restock_id)
    }

    fn set_balance(&mut self, sku: &Sku, balance: Balance) {
        // Most bookings are of known articles: no copy of the SKU for them.
        match self.balances.get_mut(sku) {
            Some(known) => *known = balance,
            None => {
                self.balances.insert(sku.clone(), balance);
            }
        }
    }

    fn set_reservation(&mut self, workflow: WorkflowRef, reservation: Reservation) {
        if let Some(at) = reservation.finished_at() {
            self.finished.push_back((at, workflow));
        }
        self.reservations.insert(workflow, reservation);
    }

    fn set_delivery(&mut self, restock_id: Uuid, delivery: Delivery) {
        self.delivered.push_back((delivery.at, restock_id));
        self.deliveries.insert(restock_id, delivery);
    }
}
