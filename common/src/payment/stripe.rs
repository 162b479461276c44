//! Stripe Checkout as a payment provider: five calls of its HTTP API and its webhooks.
//!
//! What is particular to Stripe:
//! - A session must expire 30 minutes to 24 hours after it was made. Our deadlines are shorter, and everything in a
//!   request must follow from the history, because a repeat with the same key and other parameters is an error there.
//!   So a session's expiry is our deadline plus [`EXPIRES_AFTER_DEADLINE`]: it is only the backstop, the workflow
//!   expires the session itself at the deadline. The time to pay can be at most 23 hours.
//! - Only cards are accepted: slower methods would leave a checkout undecided for days.
//! - Declined cards are not told: Stripe lets the customer try again until the session ends.

use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use jiff::SignedDuration;
use reqwest::RequestBuilder;
use serde_json::Value;

use super::{
    CloseSession, Closed, CreateSession, OpenSession, PaymentProvider, ProviderError, RefundRequest, RefundState,
    SecretText, SessionState, WebhookRefused, WebhookSecrets,
    http_calls::{Answer, HttpCalls, unknown},
};
use crate::{
    contracts::{
        checkout::{PaymentNotice, PaymentOutcome},
        webhook::WebhookEvent,
    },
    ids::{ProviderName, SessionId, WorkflowId},
    money::Money,
    time::Timestamp,
};

/// The version of Stripe's API that this file was written for.
const API_VERSION: &str = "2024-06-20";

/// The header that a webhook's signature comes in.
const SIGNATURE_HEADER: &str = "stripe-signature";

/// How long after our deadline Stripe's own expiry lies: its minimum of 30 minutes, and some for clocks that differ.
pub const EXPIRES_AFTER_DEADLINE: SignedDuration = SignedDuration::from_mins(32);

/// A client of Stripe's HTTP API.
#[derive(Debug, Clone)]
pub struct StripeProvider {
    calls: HttpCalls,
    secret_key: SecretText,
    secrets: WebhookSecrets,
    shop_url: String,
    name: ProviderName,
}

impl StripeProvider {
    /// A client with an API key, for webhooks that are signed with one of `secrets`; customers are sent back to
    /// `<shop_url>/checkout/<id>`.
    ///
    /// # Errors
    /// When `base_url` is not an HTTP URL or no client can be set up.
    pub fn new(
        base_url: &str,
        secret_key: SecretText,
        secrets: WebhookSecrets,
        shop_url: &str,
        call_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let calls = HttpCalls::new("stripe", base_url, call_timeout)?;
        let shop_url = shop_url.trim_end_matches('/').to_owned();
        Ok(Self { calls, secret_key, secrets, shop_url, name: "stripe".parse()? })
    }

    async fn send(&self, call: &'static str, request: RequestBuilder) -> Result<Answer, ProviderError> {
        let request = request.bearer_auth(self.secret_key.expose()).header("Stripe-Version", API_VERSION);
        self.calls.send(call, request).await
    }

    async fn retrieve(&self, session: &SessionId) -> Result<Value, ProviderError> {
        let request = self.calls.get(&format!("/v1/checkout/sessions/{session}"));
        self.send("look_up", request).await?.into_success()
    }

    /// Create the session, or get what the same key created before; the answer as it came.
    async fn ask_to_create(&self, request: &CreateSession) -> Result<Answer, ProviderError> {
        let form = self.create_form(request)?;
        let key = request.idempotency_key.to_string();
        let post = self.calls.post("/v1/checkout/sessions").header("Idempotency-Key", key).form(&form);
        self.send("create_session", post).await
    }

    fn create_form(&self, request: &CreateSession) -> Result<Vec<(String, String)>, ProviderError> {
        let refused = |reason: &str| ProviderError::Refused { reason: reason.into() };
        let order_page = format!("{}/checkout/{}", self.shop_url, request.reference);
        let expires_at = request
            .expires_at
            .checked_add(EXPIRES_AFTER_DEADLINE)
            .map_err(|_| refused("the deadline lies too far in the future"))?;
        let mut form = vec![
            ("mode".to_owned(), "payment".to_owned()),
            ("payment_method_types[0]".to_owned(), "card".to_owned()),
            ("client_reference_id".to_owned(), request.reference.to_string()),
            ("metadata[checkout_id]".to_owned(), request.reference.to_string()),
            ("payment_intent_data[metadata][checkout_id]".to_owned(), request.reference.to_string()),
            ("success_url".to_owned(), order_page.clone()),
            ("cancel_url".to_owned(), order_page),
            ("expires_at".to_owned(), expires_at.as_second().to_string()),
        ];
        let mut total = Some(Money { amount: 0, ..request.amount });
        for (index, line) in request.lines.iter().enumerate() {
            total = total.zip(line.unit_price.times(line.quantity)).and_then(|(total, line)| total.plus(line));
            let mut field = |name: &str, value: String| form.push((format!("line_items[{index}]{name}"), value));
            field("[quantity]", line.quantity.to_string());
            field("[price_data][currency]", line.unit_price.currency.to_string());
            field("[price_data][unit_amount]", line.unit_price.amount.to_string());
            field("[price_data][product_data][name]", line.name.clone());
        }
        // Stripe charges the sum of the lines, whatever we think that the order costs.
        if total == Some(request.amount) { Ok(form) } else { Err(refused("the lines do not add up to the amount")) }
    }

    async fn close_known(&self, session: &SessionId) -> Result<Closed, ProviderError> {
        let post = self.calls.post(&format!("/v1/checkout/sessions/{session}/expire"));
        let answer = self.send("expire_session", post).await?;
        let session_now = if answer.status == http::StatusCode::BAD_REQUEST {
            // Only an open session can be expired: this one is complete, or has expired before.
            self.retrieve(session).await?
        } else {
            answer.into_success()?
        };
        match read_state(&session_now)? {
            SessionState::Open => Err(unknown("the session is still open after it was expired")),
            SessionState::Decided(notice) => Ok(Closed::AlreadyPaid(notice)),
            SessionState::Closed => Ok(Closed::NobodyCanPay),
        }
    }

    /// Nobody knows whether the session was ever made: make it with the same key, which gets the one that was made.
    async fn close_unknown(&self, created_by: &CreateSession) -> Result<Closed, ProviderError> {
        let answer = self.ask_to_create(created_by).await?;
        // The key is new to Stripe, and it is too late for a session with this expiry: there is none, and never will be.
        if answer.status.is_client_error() && answer.text("/error/param") == Some("expires_at") {
            return Ok(Closed::NobodyCanPay);
        }
        let session = read_session_id(&answer_to_create(answer)?)?;
        self.close_known(&session).await
    }
}

#[async_trait]
impl PaymentProvider for StripeProvider {
    fn name(&self) -> ProviderName {
        self.name.clone()
    }

    async fn create_session(&self, request: &CreateSession) -> Result<OpenSession, ProviderError> {
        let session = answer_to_create(self.ask_to_create(request).await?)?;
        let url = session.get("url").and_then(Value::as_str).filter(|url| !url.is_empty());
        let payment_url = url.ok_or_else(|| unknown("the session has no url"))?.to_owned();
        Ok(OpenSession { session_id: read_session_id(&session)?, payment_url })
    }

    async fn look_up(&self, session: &SessionId) -> Result<SessionState, ProviderError> {
        read_state(&self.retrieve(session).await?)
    }

    async fn close_session(&self, request: &CloseSession) -> Result<Closed, ProviderError> {
        match &request.session_id {
            Some(session) => self.close_known(session).await,
            None => self.close_unknown(&request.created_by).await,
        }
    }

    async fn refund(&self, request: &RefundRequest) -> Result<RefundState, ProviderError> {
        let session = self.retrieve(&request.session_id).await?;
        let payment = session.get("payment_intent").and_then(Value::as_str).ok_or_else(|| ProviderError::Refused {
            reason: format!("session {} has no payment to refund", request.session_id),
        })?;
        let reference = request.reference.to_string();
        let amount = request.amount.amount.to_string();
        let form = [("payment_intent", payment), ("amount", &amount), ("metadata[checkout_id]", &reference)];
        let key = request.idempotency_key.to_string();
        let post = self.calls.post("/v1/refunds").header("Idempotency-Key", key).form(&form);
        let refund = self.send("refund", post).await?.into_success()?;
        let refund_id = refund.get("id").and_then(Value::as_str).ok_or_else(|| unknown("the refund has no id"))?;
        match refund.get("status").and_then(Value::as_str) {
            Some("succeeded" | "pending") => Ok(RefundState::Refunded { refund_id: refund_id.to_owned() }),
            other => Err(ProviderError::Refused {
                reason: format!("refund {refund_id} is {}", other.unwrap_or("without a status")),
            }),
        }
    }

    fn verify_webhook(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<WebhookEvent, WebhookRefused> {
        let header = headers.get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
        self.secrets.verify(header, body, now)?;
        self.read_webhook(body)
    }

    fn read_webhook(&self, body: &[u8]) -> Result<WebhookEvent, WebhookRefused> {
        read_event(body).map_err(|reason| WebhookRefused::NotAnEvent { reason })
    }
}

/// The session of a successful create. That the key was used with other parameters means that there *is* a session,
/// so it is not the "no" that its status 400 says.
fn answer_to_create(answer: Answer) -> Result<Value, ProviderError> {
    if answer.text("/error/type") == Some("idempotency_error") {
        return Err(unknown(&answer.reason()));
    }
    answer.into_success()
}

fn read_session_id(session: &Value) -> Result<SessionId, ProviderError> {
    let id = session.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    id.ok_or_else(|| unknown("the session has no usable id"))
}

fn read_amount(session: &Value) -> Option<Money> {
    let amount = session.get("amount_total")?.as_i64()?;
    let currency = session.get("currency")?.as_str()?.parse().ok()?;
    Some(Money { amount, currency })
}

fn read_state(session: &Value) -> Result<SessionState, ProviderError> {
    let word = |field: &str| session.get(field).and_then(Value::as_str).unwrap_or_default();
    match (word("status"), word("payment_status")) {
        ("complete", "paid") => Ok(SessionState::Decided(PaymentNotice {
            event_id: None,
            session_id: read_session_id(session)?,
            outcome: PaymentOutcome::Paid,
            amount: read_amount(session).ok_or_else(|| unknown("the paid session has no amount"))?,
        })),
        ("open", _) => Ok(SessionState::Open),
        ("expired", _) => Ok(SessionState::Closed),
        (status, payment) => Err(unknown(&format!("the session is {status:?} and its payment is {payment:?}"))),
    }
}

/// Read an event leniently. An account may have sessions that are not ours, so an event without a reference of ours is
/// an event all the same.
fn read_event(body: &[u8]) -> Result<WebhookEvent, String> {
    let event: Value = serde_json::from_slice(body).map_err(|error| format!("it is not JSON: {error}"))?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let id = text("/id").ok_or("it has no id")?.parse().map_err(|error| format!("{error}"))?;
    let event_type = text("/type").unwrap_or("unknown");
    let about_a_session = text("/data/object/object") == Some("checkout.session");
    let paid = text("/data/object/payment_status") == Some("paid");
    let outcome = match event_type {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" if about_a_session && paid => {
            Some(PaymentOutcome::Paid)
        }
        "checkout.session.async_payment_failed" if about_a_session => Some(PaymentOutcome::Declined),
        _ => None,
    };
    let session = event.pointer("/data/object").filter(|_| about_a_session);
    Ok(WebhookEvent {
        id,
        event_type: event_type.to_owned(),
        session_id: session.and_then(|session| read_session_id(session).ok()),
        reference: session.and_then(|_| text("/data/object/client_reference_id")?.parse::<WorkflowId>().ok()),
        outcome,
        amount: session.and_then(read_amount),
    })
}

#[cfg(test)]
mod tests;
