//! What may be said: one file for each thing that can be asked or can have happened.
//!
//! Everything here is stored, so it is written for ever: add variants and optional fields, never rename one.

pub mod catalogue;
pub mod checkout;
pub mod inventory;
pub mod refund;
pub mod webhook;

/// A variant's name as it stands in the stored JSON (`"type"`) and in headers, logs and metrics.
pub trait TypeName {
    /// Snake case, such as `checkout_started`.
    fn type_name(&self) -> &'static str;
}
