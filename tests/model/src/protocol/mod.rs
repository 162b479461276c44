//! The protocol between gateway, worker, inventory and payment provider, small enough to be checked exhaustively.
//!
//! What the services *say* to each other and in which order they do it is modelled here ([`step`]): an unacked command
//! is a lease, an append names the revision it expects, what is owed is done after it is recorded, answers come back as
//! commands, and everything may crash, come twice, come late, come out of order, or come from an old copy. What a
//! message *means* is not modelled: [`rules`] asks the real `decide`, `evolve` and `next` of the checkout and the real
//! ledger of the inventory, once for each question.
//!
//! Reading order: [`bounds`] (how big a world) → [`state`] → [`rules`] → [`step`] (what can happen next) →
//! [`promises`] (what must be true) → [`checker`] (every state is visited).

pub mod bounds;
pub mod checker;
mod inventory;
pub mod promises;
mod provider;
pub mod rules;
pub mod state;
pub mod step;
mod worker;
