//! What may be said: one file for each thing that can be asked or can have happened.
//!
//! Everything here is stored, so it is written for ever. How an event may change: [`Versioned`].

use serde::de::DeserializeOwned;
use serde_json::Value;

pub mod catalogue;
pub mod checkout;
pub mod dead_letter;
pub mod inventory;
pub mod refund;
pub mod wake_up;
pub mod webhook;

/// A variant's name as it stands in the stored JSON (`"type"`) and in headers, logs and metrics.
pub trait TypeName {
    /// Snake case, such as `checkout_started`.
    fn type_name(&self) -> &'static str;
}

/// The stored shape of a kind's events: which version of it this build writes, and how an older one becomes the next.
///
/// What older builds can read goes without a new version: another optional field that they may leave out of account. A
/// new variant, a field that lacks in old events, another name, unit or meaning is a new version. See CONTRIBUTING.md.
pub trait Versioned: DeserializeOwned {
    /// Stands in every record that this build writes.
    const VERSION: u32 = 1;

    /// Turn the JSON of one event of version `from` into version `from + 1`. Pure, total, and never changed again once
    /// the version that it leads to is released.
    fn upcast(from: u32, event: &mut Value) {
        // A kind with one version has nothing to do.
        let _ = (from, event);
    }
}
