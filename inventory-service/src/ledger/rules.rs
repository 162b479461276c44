//! What a command causes and what is answered. Pure: the state and the command's own time decide.

use common::{
    contracts::{
        TypeName as _,
        inventory::{Balance, InventoryCommand, Lacking, Movement, RestockAnswer, StockAnswer, StockLevel, StockLine},
    },
    ids::{OperatorName, Sku, WorkflowRef},
};
use uuid::Uuid;

use super::{
    books::{Books, Reservation},
    lines::{LinesDigest, normalised},
    refusal::Refusal,
};

/// What is told to whoever sent a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a workflow, as a command of its own.
    Stock {
        /// Which workflow.
        workflow: WorkflowRef,
        /// What it is told.
        answer: StockAnswer,
    },
    /// To whoever told of a delivery, if they wait for it.
    Restock {
        /// Which delivery.
        restock_id: Uuid,
        /// What they are told.
        answer: RestockAnswer,
    },
}

/// What one command leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be recorded; none when nothing new happens (a repeat, or a refusal that follows from the state).
    pub movement: Option<Movement>,
    /// What is answered once it is recorded.
    pub answer: Answer,
    /// Why the command was refused, if it was.
    pub refusal: Option<Refusal>,
}

/// What a sound command causes: a movement or none, and the answer.
type Outcome<A> = Result<(Option<Movement>, A), Refusal>;

pub(super) fn decide(books: &impl Books, command: &InventoryCommand, is_too_old: bool) -> Decision {
    match command {
        InventoryCommand::Reserve { workflow, lines } => {
            stock_decision(*workflow, command, unless_too_old(is_too_old, reserve(books, *workflow, lines)))
        }
        InventoryCommand::Commit { workflow } => {
            stock_decision(*workflow, command, unless_too_old(is_too_old, commit(books, *workflow)))
        }
        InventoryCommand::Release { workflow } => {
            stock_decision(*workflow, command, unless_too_old(is_too_old, release(books, *workflow)))
        }
        InventoryCommand::Restock { restock_id, sku, quantity, by } => {
            let line = StockLine { sku: sku.clone(), quantity: *quantity };
            restock_decision(*restock_id, unless_too_old(is_too_old, restock(books, *restock_id, line, by.as_ref())))
        }
    }
}

/// What is known of a workflow is answered however old the question is; only what would be booked must be young.
fn unless_too_old<A>(is_too_old: bool, outcome: Outcome<A>) -> Outcome<A> {
    match outcome {
        Ok((Some(_), _)) if is_too_old => Err(Refusal::TooOld),
        outcome => outcome,
    }
}

fn reserve(books: &impl Books, workflow: WorkflowRef, lines: &[StockLine]) -> Outcome<StockAnswer> {
    let lines = normalised(lines)?;
    match books.reservation(&workflow) {
        Some(Reservation::Held { lines: held }) if *held == lines => Ok((None, StockAnswer::Reserved {})),
        Some(Reservation::Sold { wanted, .. }) if *wanted == LinesDigest::of(&lines) => {
            Ok((None, StockAnswer::Reserved {}))
        }
        Some(Reservation::OutOfStock { wanted, lacking, .. }) if *wanted == LinesDigest::of(&lines) => {
            Ok((None, StockAnswer::OutOfStock { lacking: lacking.clone() }))
        }
        Some(Reservation::Held { .. } | Reservation::Sold { .. } | Reservation::OutOfStock { .. }) => {
            Err(Refusal::OtherLines)
        }
        Some(Reservation::Released { .. }) => Err(Refusal::ReserveAfterRelease),
        None => Ok(reserve_all_or_none(books, workflow, lines)),
    }
}

fn reserve_all_or_none(
    books: &impl Books,
    workflow: WorkflowRef,
    lines: Vec<StockLine>,
) -> (Option<Movement>, StockAnswer) {
    let lacking: Vec<Lacking> = lines.iter().filter_map(|line| lacking(books, line)).collect();
    if lacking.is_empty() {
        (Some(Movement::Reserved { workflow, lines }), StockAnswer::Reserved {})
    } else {
        let answer = StockAnswer::OutOfStock { lacking: lacking.clone() };
        (Some(Movement::ReserveRefused { workflow, lines, lacking }), answer)
    }
}

fn lacking(books: &impl Books, line: &StockLine) -> Option<Lacking> {
    let available = books.balance(&line.sku).available;
    (available < u64::from(line.quantity)).then(|| Lacking {
        sku: line.sku.clone(),
        requested: line.quantity,
        available,
    })
}

fn commit(books: &impl Books, workflow: WorkflowRef) -> Outcome<StockAnswer> {
    match books.reservation(&workflow) {
        Some(Reservation::Held { lines }) => {
            Ok((Some(Movement::Committed { workflow, lines: lines.clone() }), StockAnswer::Committed {}))
        }
        Some(Reservation::Sold { .. }) => Ok((None, StockAnswer::Committed {})),
        Some(Reservation::Released { .. }) => Err(Refusal::CommitAfterRelease),
        Some(Reservation::OutOfStock { .. }) | None => Err(Refusal::CommitWithoutReserve),
    }
}

fn release(books: &impl Books, workflow: WorkflowRef) -> Outcome<StockAnswer> {
    match books.reservation(&workflow) {
        Some(Reservation::Held { lines }) => {
            Ok((Some(Movement::Released { workflow, lines: lines.clone() }), StockAnswer::Released {}))
        }
        Some(Reservation::Released { .. }) => Ok((None, StockAnswer::Released {})),
        Some(Reservation::Sold { .. }) => Err(Refusal::ReleaseAfterCommit),
        // The tombstone: a reserve that was overtaken by this release must not hold anything when it arrives.
        Some(Reservation::OutOfStock { .. }) | None => {
            Ok((Some(Movement::Released { workflow, lines: Vec::new() }), StockAnswer::Released {}))
        }
    }
}

fn restock(books: &impl Books, restock_id: Uuid, line: StockLine, by: Option<&OperatorName>) -> Outcome<RestockAnswer> {
    if line.quantity == 0 {
        return Err(Refusal::NothingDelivered);
    }
    let booked = |sku: &Sku, balance| RestockAnswer::Restocked { balance: StockLevel { sku: sku.clone(), balance } };
    let balance = books.balance(&line.sku);
    match books.delivery(&restock_id) {
        Some(known) if known.line == line => Ok((None, booked(&line.sku, balance))),
        Some(_) => Err(Refusal::OtherDelivery),
        None => {
            let balance = with_delivery(balance, line.quantity).ok_or(Refusal::DoesNotFit)?;
            let answer = booked(&line.sku, balance);
            Ok((Some(Movement::Restocked { restock_id, line, by: by.cloned() }), answer))
        }
    }
}

/// The balance after a delivery; none when it does not fit. The *sum* of the three must fit, so that no later
/// movement between them can overflow.
pub(super) fn with_delivery(balance: Balance, quantity: u32) -> Option<Balance> {
    let Balance { available, reserved, sold } = balance;
    let quantity = u64::from(quantity);
    available.checked_add(reserved)?.checked_add(sold)?.checked_add(quantity)?;
    Some(Balance { available: available.checked_add(quantity)?, reserved, sold })
}

fn stock_decision(workflow: WorkflowRef, command: &InventoryCommand, outcome: Outcome<StockAnswer>) -> Decision {
    let refused = |refusal: Refusal| StockAnswer::Refused {
        command: command.type_name().to_owned(),
        reason: refusal.to_string(),
    };
    let (movement, answer, refusal) = open(outcome, refused);
    Decision { movement, answer: Answer::Stock { workflow, answer }, refusal }
}

fn restock_decision(restock_id: Uuid, outcome: Outcome<RestockAnswer>) -> Decision {
    let refused = |refusal: Refusal| RestockAnswer::RestockRefused { reason: refusal.to_string() };
    let (movement, answer, refusal) = open(outcome, refused);
    Decision { movement, answer: Answer::Restock { restock_id, answer }, refusal }
}

fn open<A>(outcome: Outcome<A>, refused: impl FnOnce(Refusal) -> A) -> (Option<Movement>, A, Option<Refusal>) {
    match outcome {
        Ok((movement, answer)) => (movement, answer, None),
        Err(refusal) => (None, refused(refusal), Some(refusal)),
    }
}
