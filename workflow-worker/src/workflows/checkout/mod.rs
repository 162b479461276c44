//! A checkout: reserve, open a payment session, wait for the money or the deadline, settle.
//!
//! ```text
//! NotStarted → Reserving → OpeningPayment → AwaitingPayment ──paid──▶ Committing → Ended(paid)
//!                 │              │                │ declined, cancelled, deadline
//!                 │              │                ▼
//!                 │              └──given up─▶ ClosingPayment ──already paid──▶ Committing
//!                 │                               │ nobody can pay any more
//!                 └──cancelled──────────────▶ Releasing → Ended(declined | cancelled | expired | payment_unavailable)
//! ```
//! Stock is given back only after the provider has confirmed that nobody can pay any more; money that comes all the
//! same goes back by refund.

mod decide;
mod evolve;
mod next;
mod state;
#[cfg(test)]
mod tests;

pub use state::Checkout;

use crate::workflow::{Input, Next, Rejection, Workflow};
use common::{
    contracts::checkout::{CheckoutCommand, CheckoutEvent},
    ids::{WorkflowId, WorkflowKind},
};

impl Workflow for Checkout {
    const KIND: WorkflowKind = WorkflowKind::Checkout;
    type Command = CheckoutCommand;
    type Event = CheckoutEvent;

    fn decide(&self, input: &Input<CheckoutCommand>) -> Result<Vec<CheckoutEvent>, Rejection> {
        decide::decide(self, input)
    }

    fn evolve(self, event: &CheckoutEvent) -> Self {
        evolve::evolve(self, event)
    }

    fn next(&self, id: WorkflowId) -> Next {
        next::next(self, id)
    }

    fn status(&self) -> &'static str {
        self.status_word()
    }
}
