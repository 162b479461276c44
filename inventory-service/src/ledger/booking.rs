//! What a movement does to the books. The same code books a group that was just decided and one that is replayed.

use common::{
    contracts::inventory::{Balance, Movement, StockLine},
    ids::{Sku, WorkflowRef},
    time::Timestamp,
};

use super::{
    books::{Books, Delivery, Reservation},
    lines::LinesDigest,
    rules::with_delivery,
};

/// A recorded movement that the state before it does not allow: the ledger was written by something else than these
/// rules, or is damaged. Whatever books were being written are not to be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleMovement {
    /// More would leave a balance than there is, or more come in than fits.
    #[error("{movement} of {quantity} × {sku} does not fit its balance {balance:?}")]
    Balance {
        /// The movement's type.
        movement: &'static str,
        /// The article.
        sku: Sku,
        /// How many units.
        quantity: u32,
        /// The balance before it.
        balance: Balance,
    },
    /// The reservation is not in a state from which the movement is possible.
    #[error("{movement} of {workflow} is not possible after what the ledger says of it before")]
    Reservation {
        /// The movement's type.
        movement: &'static str,
        /// Whose reservation.
        workflow: WorkflowRef,
    },
    /// The same delivery is booked twice.
    #[error("restock {0} is booked twice")]
    DeliveredTwice(uuid::Uuid),
    /// The balances that the entry names are not the ones that its movements lead to.
    #[error("the entry says that {sku} has {recorded:?}, but its movements lead to {computed:?}")]
    OtherBalance {
        /// The article.
        sku: Sku,
        /// What the entry says.
        recorded: Balance,
        /// What the movements lead to.
        computed: Balance,
    },
}

pub(super) fn book(books: &mut impl Books, movement: &Movement, at: Timestamp) -> Result<(), ImpossibleMovement> {
    match movement {
        Movement::Reserved { workflow, lines } => {
            let is_new = books.reservation(workflow).is_none();
            expect_reservation(is_new, movement_name(movement), *workflow)?;
            move_lines(books, movement_name(movement), lines, reserve_units)?;
            books.set_reservation(*workflow, Reservation::Held { lines: lines.clone() });
        }
        Movement::ReserveRefused { workflow, lines, lacking } => {
            let is_new = books.reservation(workflow).is_none();
            expect_reservation(is_new, movement_name(movement), *workflow)?;
            let wanted = LinesDigest::of(lines);
            books.set_reservation(*workflow, Reservation::OutOfStock { wanted, lacking: lacking.clone(), at });
        }
        Movement::Committed { workflow, lines } => {
            expect_reservation(is_held(books, workflow, lines), movement_name(movement), *workflow)?;
            move_lines(books, movement_name(movement), lines, sell_units)?;
            books.set_reservation(*workflow, Reservation::Sold { wanted: LinesDigest::of(lines), at });
        }
        Movement::Released { workflow, lines } => {
            let is_possible = match books.reservation(workflow) {
                Some(Reservation::Held { lines: held }) => held == lines,
                Some(Reservation::OutOfStock { .. }) | None => lines.is_empty(),
                Some(Reservation::Sold { .. } | Reservation::Released { .. }) => false,
            };
            expect_reservation(is_possible, movement_name(movement), *workflow)?;
            move_lines(books, movement_name(movement), lines, return_units)?;
            books.set_reservation(*workflow, Reservation::Released { at });
        }
        Movement::Restocked { restock_id, line, .. } => {
            if books.delivery(restock_id).is_some() {
                return Err(ImpossibleMovement::DeliveredTwice(*restock_id));
            }
            move_lines(books, movement_name(movement), std::slice::from_ref(line), with_delivery)?;
            books.set_delivery(*restock_id, Delivery { line: line.clone(), at });
        }
    }
    Ok(())
}

fn is_held(books: &impl Books, workflow: &WorkflowRef, lines: &[StockLine]) -> bool {
    matches!(books.reservation(workflow), Some(Reservation::Held { lines: held }) if held == lines)
}

fn expect_reservation(
    is_possible: bool,
    movement: &'static str,
    workflow: WorkflowRef,
) -> Result<(), ImpossibleMovement> {
    if is_possible { Ok(()) } else { Err(ImpossibleMovement::Reservation { movement, workflow }) }
}

fn move_lines(
    books: &mut impl Books,
    movement: &'static str,
    lines: &[StockLine],
    moved: fn(Balance, u32) -> Option<Balance>,
) -> Result<(), ImpossibleMovement> {
    for line in lines {
        let balance = books.balance(&line.sku);
        let after = moved(balance, line.quantity).ok_or_else(|| ImpossibleMovement::Balance {
            movement,
            sku: line.sku.clone(),
            quantity: line.quantity,
            balance,
        })?;
        books.set_balance(&line.sku, after);
    }
    Ok(())
}

fn reserve_units(balance: Balance, quantity: u32) -> Option<Balance> {
    Some(Balance {
        available: balance.available.checked_sub(quantity.into())?,
        reserved: balance.reserved.checked_add(quantity.into())?,
        sold: balance.sold,
    })
}

fn sell_units(balance: Balance, quantity: u32) -> Option<Balance> {
    Some(Balance {
        available: balance.available,
        reserved: balance.reserved.checked_sub(quantity.into())?,
        sold: balance.sold.checked_add(quantity.into())?,
    })
}

fn return_units(balance: Balance, quantity: u32) -> Option<Balance> {
    Some(Balance {
        available: balance.available.checked_add(quantity.into())?,
        reserved: balance.reserved.checked_sub(quantity.into())?,
        sold: balance.sold,
    })
}

/// A movement's type as it stands in the stored JSON; also its label in metrics.
#[must_use]
pub fn movement_name(movement: &Movement) -> &'static str {
    match movement {
        Movement::Reserved { .. } => "reserved",
        Movement::ReserveRefused { .. } => "reserve_refused",
        Movement::Committed { .. } => "committed",
        Movement::Released { .. } => "released",
        Movement::Restocked { .. } => "restocked",
    }
}
