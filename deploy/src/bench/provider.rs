//! A payment provider inside the worker that answers at once and forgets everything: what is measured is the engine.

use async_trait::async_trait;
use common::{
    contracts::{checkout::PaymentOutcome, webhook::WebhookEvent},
    ids::{ProviderName, SessionId},
    payment::{
        CloseSession, Closed, CreateSession, OpenSession, PaymentProvider, ProviderError, RefundRequest, RefundState,
        SessionState, WebhookRefused,
    },
    time::Timestamp,
};
use http::HeaderMap;

/// The name under which its webhooks are stored.
const NAME: &str = "bench";

/// The provider.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InstantProvider;

/// Its name.
pub(super) fn name() -> ProviderName {
    NAME.parse().unwrap_or_else(|_| unreachable!("a literal that is a name"))
}

/// The session of a checkout: it follows from the key, as at every provider.
fn session(request: &CreateSession) -> Result<SessionId, ProviderError> {
    format!("cs_{}", request.idempotency_key.simple())
        .parse()
        .map_err(|error: common::ids::InvalidName| ProviderError::Refused { reason: error.to_string() })
}

#[async_trait]
impl PaymentProvider for InstantProvider {
    fn name(&self) -> ProviderName {
        name()
    }

    async fn create_session(&self, request: &CreateSession) -> Result<OpenSession, ProviderError> {
        let session_id = session(request)?;
        let payment_url = format!("http://127.0.0.1/payment/{session_id}");
        Ok(OpenSession { session_id, payment_url })
    }

    async fn look_up(&self, _session: &SessionId) -> Result<SessionState, ProviderError> {
        Ok(SessionState::Open)
    }

    async fn close_session(&self, _request: &CloseSession) -> Result<Closed, ProviderError> {
        Ok(Closed::NobodyCanPay)
    }

    async fn refund(&self, request: &RefundRequest) -> Result<RefundState, ProviderError> {
        Ok(RefundState::Refunded { refund_id: request.idempotency_key.to_string() })
    }

    /// Its webhooks come from the driver, straight into the stream.
    fn verify_webhook(&self, _: &HeaderMap, _: &[u8], _: Timestamp) -> Result<WebhookEvent, WebhookRefused> {
        Err(WebhookRefused::NoSignature)
    }

    fn read_webhook(&self, body: &[u8]) -> Result<WebhookEvent, WebhookRefused> {
        let event: WebhookEvent =
            serde_json::from_slice(body).map_err(|error| WebhookRefused::NotAnEvent { reason: error.to_string() })?;
        debug_assert_eq!(event.outcome, Some(PaymentOutcome::Paid), "the driver only says paid");
        Ok(event)
    }
}
