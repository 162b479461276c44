//! What every payment provider can do for us.

use async_trait::async_trait;
use http::HeaderMap;
use uuid::Uuid;

use crate::{
    contracts::{
        checkout::{Line, PaymentNotice},
        webhook::WebhookEvent,
    },
    ids::{ProviderName, SessionId, WorkflowId},
    money::Money,
    time::Timestamp,
};

/// A payment session to be opened; everything in it follows from the history, so every repeat is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSession {
    /// Which checkout it is for; the provider hands it back in webhooks.
    pub reference: WorkflowId,
    /// The provider's idempotency key: the same key is the same session.
    pub idempotency_key: Uuid,
    /// What the customer buys, for the provider's page.
    pub lines: Vec<Line>,
    /// What is to be charged.
    pub amount: Money,
    /// When nobody should be able to pay any more.
    pub expires_at: Timestamp,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// The provider's name for it.
    pub session_id: SessionId,
    /// Where the customer pays.
    pub payment_url: String,
}

/// A session, opened or perhaps opened, that nobody may pay any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseSession {
    /// Which session; `None` when the answer to creating it never arrived.
    pub session_id: Option<SessionId>,
    /// How it was, or would have been, created: without a session id the provider is asked by this.
    pub created_by: CreateSession,
}

/// What became of a session that was to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Nobody can pay it any more, or it never existed and never will.
    NobodyCanPay,
    /// Too late: it is paid.
    AlreadyPaid(PaymentNotice),
}

/// Where a session stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// The customer can still pay.
    Open,
    /// Nobody can pay any more and nobody has.
    Closed,
    /// It is paid, declined or cancelled.
    Decided(PaymentNotice),
}

/// Money to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    /// Which checkout it belongs to.
    pub reference: WorkflowId,
    /// The provider's idempotency key: the same key is the same refund.
    pub idempotency_key: Uuid,
    /// The session that was paid.
    pub session_id: SessionId,
    /// How much.
    pub amount: Money,
}

/// Where a refund stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundState {
    /// The provider has taken it on; the money is going back.
    Refunded {
        /// The provider's name for it.
        refund_id: String,
    },
}

/// Why the provider did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It said no, and a repeat will get the same no (HTTP 4xx that is about the request itself).
    #[error("the payment provider refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// It may or may not have done it: no answer, a broken answer, 408, 409 (in progress), 425, 429, 401/403, 5xx.
    /// The same call must be repeated, with the same key.
    #[error("the payment provider gave no usable answer: {reason}")]
    Unknown {
        /// What was seen instead.
        reason: String,
    },
}

/// Why a webhook was refused; nothing of it is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefused {
    /// There is no signature, or none of its kind that we check.
    #[error("the signature header is missing or cannot be read")]
    NoSignature,
    /// No signature in it was made with a secret of ours over these bytes.
    #[error("no signature in the header matches the body")]
    WrongSignature,
    /// It was signed too long ago, or in the future.
    #[error("the signature's time is more than {tolerance_seconds} s from now")]
    WrongTime {
        /// How far it may be off.
        tolerance_seconds: u64,
    },
    /// The signature is right, but the body is not an event.
    #[error("the body is not an event: {reason}")]
    NotAnEvent {
        /// What is wrong with it.
        reason: String,
    },
}

/// A payment provider.
#[async_trait]
pub trait PaymentProvider: Send + Sync + 'static {
    /// Its name, as in `webhook.<provider>.<event id>`.
    fn name(&self) -> ProviderName;

    /// Open a session, or get the one that the same key has opened before.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] only when it is certain that no session exists.
    async fn create_session(&self, request: &CreateSession) -> Result<OpenSession, ProviderError>;

    /// Ask where a session stands.
    ///
    /// # Errors
    /// [`ProviderError`] when it could not be asked or does not know the session.
    async fn look_up(&self, session: &SessionId) -> Result<SessionState, ProviderError>;

    /// Make sure that nobody can pay any more, or learn that somebody has.
    ///
    /// # Errors
    /// [`ProviderError`] when neither is certain; the call must be repeated.
    async fn close_session(&self, request: &CloseSession) -> Result<Closed, ProviderError>;

    /// Give money back, once per key.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] when the provider will never do it.
    async fn refund(&self, request: &RefundRequest) -> Result<RefundState, ProviderError>;

    /// Check a webhook's signature over its raw body and read it.
    ///
    /// # Errors
    /// [`WebhookRefused`] when it is not authentic or not an event.
    fn verify_webhook(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<WebhookEvent, WebhookRefused>;

    /// Read a stored webhook body again, whose signature was checked when it came in.
    ///
    /// # Errors
    /// [`WebhookRefused::NotAnEvent`] when it cannot be read.
    fn read_webhook(&self, body: &[u8]) -> Result<WebhookEvent, WebhookRefused>;
}
