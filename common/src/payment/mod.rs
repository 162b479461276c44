//! The payment provider's side: one trait, one file for each provider, and the signature of webhooks.
//!
//! Whoever calls a provider has recorded the intent first and sends a key that follows from the workflow id, so a
//! call may be repeated by anyone at any time.

mod http_calls;
mod options;
mod provider;
pub mod sandbox;
mod signature;
pub mod stripe;

pub use options::{PaymentOptions, ProviderChoice, SecretText, secrets_or_development};
pub use provider::{
    CloseSession, Closed, CreateSession, OpenSession, PaymentProvider, ProviderError, RefundRequest, RefundState,
    SessionState, WebhookRefused,
};
pub use signature::{InvalidSecrets, TOLERANCE_SECONDS, WebhookSecrets};
