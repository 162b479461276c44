//! The kinds of workflow.

pub mod checkout;
pub mod refund;
#[cfg(test)]
pub mod stories;
