//! The real ledger, asked once for each question.

use std::collections::HashMap;

use common::{
    contracts::inventory::{Balance, InventoryCommand, Movement},
    ids::WorkflowRef,
    time::Timestamp,
};
use inventory_service::ledger::{Answer, Ledger};
use uuid::Uuid;

use super::{
    LedgerId, beginning, catalogue,
    interner::Interner,
    words::{Message, Request},
};

/// What the ledger says to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerAnswer {
    /// The movement to be appended, by its number; none when nothing new happens.
    pub movement: Option<u16>,
    /// What the checkout is told.
    pub answer: Message,
}

/// The ledger's rules with what they have answered so far.
pub struct LedgerRules {
    ledgers: Interner<Ledger>,
    movements: Interner<Movement>,
    decisions: HashMap<(LedgerId, u8, Request), LedgerAnswer>,
    bookings: HashMap<(LedgerId, u16), Option<LedgerId>>,
}

impl LedgerRules {
    /// A ledger into which so many units have come.
    pub(super) fn new(stock: u8) -> Self {
        let mut ledger = Ledger::default();
        let delivery = InventoryCommand::Restock {
            restock_id: Uuid::from_u128(1),
            sku: catalogue::sku(),
            quantity: u32::from(stock),
            by: None,
        };
        if let Some(movement) = ledger.decide(&delivery, beginning()).movement {
            ledger.apply(&movement, beginning()).expect("a delivery is always possible");
        }
        let mut ledgers = Interner::default();
        ledgers.number(ledger);
        Self { ledgers, movements: Interner::default(), decisions: HashMap::new(), bookings: HashMap::new() }
    }

    /// The ledger in which only the delivery has happened.
    #[must_use]
    pub fn delivered(&self) -> LedgerId {
        0
    }

    /// What a command leads to.
    ///
    /// # Panics
    /// When the ledger answers a workflow's command with anything but an answer to a workflow.
    pub fn decide(&mut self, ledger: LedgerId, checkout: u8, request: Request) -> LedgerAnswer {
        let question = (ledger, checkout, request);
        if let Some(known) = self.decisions.get(&question) {
            return *known;
        }
        let decision = self.ledgers.get(ledger).decide(&catalogue::command(request, checkout), at());
        let Answer::Stock { answer, .. } = decision.answer else { panic!("a workflow gets an answer for workflows") };
        let movement = decision.movement.map(|movement| self.movements.number(movement));
        let answer = LedgerAnswer { movement, answer: catalogue::answer(&answer) };
        self.decisions.insert(question, answer);
        answer
    }

    /// The ledger after a movement; none when it is not possible.
    pub fn book(&mut self, ledger: LedgerId, movement: u16) -> Option<LedgerId> {
        if let Some(known) = self.bookings.get(&(ledger, movement)) {
            return *known;
        }
        let mut booked = self.ledgers.get(ledger).clone();
        let outcome = booked.apply(self.movements.get(movement), at());
        let booked = outcome.is_ok().then(|| self.ledgers.number(booked));
        self.bookings.insert((ledger, movement), booked);
        booked
    }

    /// Whether a movement is a release that holds off a later reserve.
    #[must_use]
    pub fn is_tombstone(&self, movement: u16) -> bool {
        matches!(self.movements.get(movement), Movement::Released { lines, .. } if lines.is_empty())
    }

    /// How many units there are.
    #[must_use]
    pub fn balance(&self, ledger: LedgerId) -> Balance {
        self.ledgers.get(ledger).level(&catalogue::sku()).balance
    }

    /// Whether a unit is held for a checkout.
    #[must_use]
    pub fn is_held(&self, ledger: LedgerId, checkout: u8) -> bool {
        let wanted: WorkflowRef = catalogue::workflow(checkout);
        self.ledgers.get(ledger).holders().any(|holder| holder == wanted)
    }

    /// Whether a unit is sold to a checkout: then, and only then, selling it again moves nothing and is confirmed.
    pub fn is_sold(&mut self, ledger: LedgerId, checkout: u8) -> bool {
        let sold = LedgerAnswer { movement: None, answer: Message::Committed };
        self.decide(ledger, checkout, Request::Commit) == sold
    }
}

/// All entries have one time, so nothing is ever too old.
fn at() -> Timestamp {
    beginning()
}
