//! What the rules read and write: an article's balance, a workflow's reservation, a delivery.
//!
//! Two things keep such books: the [`Ledger`](super::Ledger), which is true, and the draft of a group that is being
//! decided, which lies over it and is thrown away. The rules are written once, for both.

use common::{
    contracts::inventory::{Balance, Lacking, StockLine},
    ids::{Sku, WorkflowRef},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lines::LinesDigest;

/// Where a workflow's reservation stands. All but `Held` are final, except that a release closes `OutOfStock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reservation {
    /// The lines are held. Never forgotten: the checkout is undecided.
    Held { lines: Vec<StockLine> },
    /// Something lacked; nothing is held.
    OutOfStock { wanted: LinesDigest, lacking: Vec<Lacking>, at: Timestamp },
    /// The lines are sold.
    Sold { wanted: LinesDigest, at: Timestamp },
    /// Nothing is held, and nothing will be: released, or a release came before any reserve (a tombstone).
    Released { at: Timestamp },
}

impl Reservation {
    /// Since when nothing can change any more; none while the lines are held.
    pub(super) fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Held { .. } => None,
            Self::OutOfStock { at, .. } | Self::Sold { at, .. } | Self::Released { at } => Some(*at),
        }
    }
}

/// A delivery that is booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// What came in.
    pub(super) line: StockLine,
    /// When it was booked.
    pub(super) at: Timestamp,
}

/// The books that the rules work on.
pub(super) trait Books {
    /// How many there are of an article; none of one that was never delivered.
    fn balance(&self, sku: &Sku) -> Balance;
    /// Where a workflow's reservation stands, if it is known.
    fn reservation(&self, workflow: &WorkflowRef) -> Option<&Reservation>;
    /// A delivery, if it is known.
    fn delivery(&self, restock_id: &Uuid) -> Option<&Delivery>;
    /// From now on there are so many.
    fn set_balance(&mut self, sku: &Sku, balance: Balance);
    /// From now on the reservation stands so.
    fn set_reservation(&mut self, workflow: WorkflowRef, reservation: Reservation);
    /// From now on the delivery is known.
    fn set_delivery(&mut self, restock_id: Uuid, delivery: Delivery);
}
