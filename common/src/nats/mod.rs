//! Writing to and reading from JetStream so that nothing is lost and nothing happens twice.
//!
//! [`connect`] → [`permissions`] (may we?), [`check`] (is the server as it must be?) → [`journal`] (group commit) over [`append`] (one guarded
//! append) → [`read`] (histories) and [`read_index`] (is that the newest?) → [`dead_letters`] (what could not be handled);
//! beside it [`trim`] (what is done leaves the queues).

pub mod acked;
pub mod append;
pub mod check;
pub mod connect;
pub mod dead_letters;
pub mod journal;
pub mod permissions;
pub mod read;
pub mod read_index;
pub mod trim;

pub use append::{AppendError, Outgoing};
pub use connect::{Nats, NatsOptions};
pub use journal::{Journal, Publish};
