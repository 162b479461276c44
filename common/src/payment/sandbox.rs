//! The sandbox payment provider that comes with the shop, as its customer sees it.

use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    CloseSession, Closed, CreateSession, OpenSession, PaymentProvider, ProviderError, RefundRequest, RefundState,
    SessionState, WebhookRefused, WebhookSecrets,
    http_calls::{HttpCalls, unknown},
};
use crate::{
    contracts::{
        checkout::{PaymentNotice, PaymentOutcome},
        webhook::WebhookEvent,
    },
    ids::{ProviderName, SessionId},
    money::Money,
    time::Timestamp,
};

/// The header that a webhook's signature comes in.
pub const SIGNATURE_HEADER: &str = "payment-signature";

/// The secret of a sandbox that nobody has given one. Known to everybody, so it is good for nothing but trying out.
pub const DEVELOPMENT_SECRET: &str = "whsec_known_to_everybody_for_trying_out_only";

/// A client of the sandbox's HTTP API.
#[derive(Debug, Clone)]
pub struct SandboxProvider {
    calls: HttpCalls,
    secrets: WebhookSecrets,
    name: ProviderName,
}

impl SandboxProvider {
    /// A client of the sandbox at `base_url`, whose webhooks are signed with one of `secrets`.
    ///
    /// # Errors
    /// When `base_url` is not an HTTP URL or no client can be set up.
    pub fn new(base_url: &str, secrets: WebhookSecrets, call_timeout: Duration) -> anyhow::Result<Self> {
        let calls = HttpCalls::new("sandbox", base_url, call_timeout)?;
        Ok(Self { calls, secrets, name: "sandbox".parse()? })
    }

    /// POST a JSON body and read the answer of a success.
    async fn post(&self, call: &'static str, body: &Value, key: Option<uuid::Uuid>) -> Result<Value, ProviderError> {
        let mut request = self.calls.post(&format!("/api/{call}")).json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key.to_string());
        }
        self.calls.send(call, request).await?.into_success()
    }
}

/// Where a session stands, as the sandbox tells it.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Standing {
    /// The customer can still pay.
    Open,
    /// It is paid.
    Paid(Decision),
    /// The payment was declined.
    Declined(Decision),
    /// The customer gave up.
    Cancelled(Decision),
    /// Nobody paid while that was possible.
    Expired,
    /// No session has been created under this reference, and none ever will be.
    NeverCreated,
}

/// Which session was decided, and for how much.
#[derive(Debug, Deserialize)]
struct Decision {
    session_id: SessionId,
    #[serde(flatten)]
    amount: Money,
}

impl Decision {
    fn notice(self, outcome: PaymentOutcome) -> PaymentNotice {
        PaymentNotice { event_id: None, session_id: self.session_id, outcome, amount: self.amount }
    }
}

#[async_trait]
impl PaymentProvider for SandboxProvider {
    fn name(&self) -> ProviderName {
        self.name.clone()
    }

    async fn create_session(&self, request: &CreateSession) -> Result<OpenSession, ProviderError> {
        #[derive(Deserialize)]
        struct Created {
            session_id: SessionId,
            url: String,
        }
        let answer = self.post("create_payment_session", &create_body(request), Some(request.idempotency_key)).await?;
        let created: Created = understood(answer)?;
        if created.url.is_empty() {
            return Err(unknown("the answer has an empty url"));
        }
        Ok(OpenSession { session_id: created.session_id, payment_url: created.url })
    }

    async fn look_up(&self, session: &SessionId) -> Result<SessionState, ProviderError> {
        let request = self.calls.get(&format!("/api/session/{session}"));
        let answer = self.calls.send("look_up", request).await?.into_success()?;
        Ok(match understood(answer)? {
            Standing::Open => SessionState::Open,
            Standing::Paid(decision) => SessionState::Decided(decision.notice(PaymentOutcome::Paid)),
            Standing::Declined(decision) => SessionState::Decided(decision.notice(PaymentOutcome::Declined)),
            Standing::Cancelled(decision) => SessionState::Decided(decision.notice(PaymentOutcome::Cancelled)),
            Standing::Expired | Standing::NeverCreated => SessionState::Closed,
        })
    }

    async fn close_session(&self, request: &CloseSession) -> Result<Closed, ProviderError> {
        let body = match &request.session_id {
            Some(session_id) => json!({ "session_id": session_id }),
            None => json!({ "client_reference_id": request.created_by.reference }),
        };
        match understood(self.post("expire_session", &body, None).await?)? {
            Standing::Open => Err(unknown("the session is still open after it was expired")),
            Standing::Paid(decision) => Ok(Closed::AlreadyPaid(decision.notice(PaymentOutcome::Paid))),
            Standing::Declined(_) | Standing::Cancelled(_) | Standing::Expired | Standing::NeverCreated => {
                Ok(Closed::NobodyCanPay)
            }
        }
    }

    async fn refund(&self, request: &RefundRequest) -> Result<RefundState, ProviderError> {
        #[derive(Deserialize)]
        struct Refunded {
            refund_id: String,
        }
        let body = json!({
            "session_id": request.session_id,
            "amount": request.amount.amount,
            "currency": request.amount.currency,
        });
        let refunded: Refunded = understood(self.post("refund", &body, Some(request.idempotency_key)).await?)?;
        Ok(RefundState::Refunded { refund_id: refunded.refund_id })
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

/// An answer with the fields that we need; without them nobody knows what was done.
fn understood<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, ProviderError> {
    serde_json::from_value(answer).map_err(|error| unknown(&format!("the answer cannot be understood: {error}")))
}

fn create_body(request: &CreateSession) -> Value {
    let lines = request
        .lines
        .iter()
        .map(|line| json!({ "name": line.name, "quantity": line.quantity, "unit_amount": line.unit_price.amount }));
    json!({
        "client_reference_id": request.reference,
        "amount": request.amount.amount,
        "currency": request.amount.currency,
        "lines": lines.collect::<Vec<_>>(),
        "expires_at": request.expires_at,
    })
}

/// Read an event leniently: what we cannot use is none, and only an event that cannot be told apart from others
/// (no id), or decides something without saying for whom (no reference), is none at all.
fn read_event(body: &[u8]) -> Result<WebhookEvent, String> {
    let event: Value = serde_json::from_slice(body).map_err(|error| format!("it is not JSON: {error}"))?;
    let text = |field: &str| event.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let id = text("id").ok_or("it has no id")?.parse().map_err(|error| format!("{error}"))?;
    let outcome = match text("payment_status") {
        Some("paid") => Some(PaymentOutcome::Paid),
        Some("failed") => Some(PaymentOutcome::Declined),
        Some("cancelled") => Some(PaymentOutcome::Cancelled),
        _ => None,
    };
    let reference = text("client_reference_id");
    if outcome.is_some() && reference.is_none() {
        return Err("it decides a payment but has no client_reference_id".into());
    }
    let amount = event.get("amount").and_then(Value::as_i64);
    let currency = text("currency").and_then(|code| code.parse().ok());
    Ok(WebhookEvent {
        id,
        event_type: text("type").unwrap_or("unknown").to_owned(),
        session_id: text("session_id").and_then(|id| id.parse().ok()),
        reference: reference.and_then(|id| id.parse().ok()),
        outcome,
        amount: amount.zip(currency).map(|(amount, currency)| Money { amount, currency }),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::ids::WorkflowId;

    const REFERENCE: &str = "0198c0de-0000-7000-8000-00000000000a";

    fn event() -> Value {
        json!({
            "id": "evt_1", "type": "payment_session.paid", "session_id": "cs_1", "client_reference_id": REFERENCE,
            "payment_status": "paid", "amount": 1250, "currency": "eur",
        })
    }

    fn read(event: &Value) -> Result<WebhookEvent, String> {
        read_event(event.to_string().as_bytes())
    }

    #[test]
    fn a_paid_event_is_read() {
        let expected = WebhookEvent {
            id: "evt_1".parse().expect("an id"),
            event_type: "payment_session.paid".into(),
            session_id: Some("cs_1".parse().expect("an id")),
            reference: Some(REFERENCE.parse::<WorkflowId>().expect("an id")),
            outcome: Some(PaymentOutcome::Paid),
            amount: Some(Money::eur(1250)),
        };
        assert_eq!(read(&event()), Ok(expected));
    }

    #[rstest]
    #[case(json!("paid"), Some(PaymentOutcome::Paid))]
    #[case(json!("failed"), Some(PaymentOutcome::Declined))]
    #[case(json!("cancelled"), Some(PaymentOutcome::Cancelled))]
    #[case(json!("processing"), None)]
    #[case(json!("PAID"), None)]
    #[case(json!(" paid"), None)]
    #[case(json!(""), None)]
    #[case(json!(null), None)]
    #[case(json!(1), None)]
    fn only_the_three_words_decide_something(#[case] word: Value, #[case] outcome: Option<PaymentOutcome>) {
        let mut event = event();
        event["payment_status"] = word;
        assert_eq!(read(&event).map(|event| event.outcome), Ok(outcome));
    }

    #[test]
    fn a_decision_without_a_reference_is_no_event() {
        for nothing in [json!(null), json!(""), json!(7)] {
            let mut event = event();
            event["client_reference_id"] = nothing;
            assert!(read(&event).is_err());
            event["payment_status"] = json!("processing");
            assert_eq!(read(&event).map(|event| event.reference), Ok(None), "it decides nothing");
        }
    }

    #[test]
    fn a_reference_of_somebody_else_is_kept_as_none() {
        let mut event = event();
        event["client_reference_id"] = json!("order/../1");
        assert_eq!(read(&event).map(|event| (event.reference, event.outcome)), Ok((None, Some(PaymentOutcome::Paid))));
    }

    #[rstest]
    #[case(json!(12.5), json!("eur"))]
    #[case(json!("1250"), json!("eur"))]
    #[case(json!(null), json!("eur"))]
    #[case(json!(1250), json!("euro"))]
    #[case(json!(1250), json!(null))]
    fn an_amount_that_is_not_whole_minor_units_of_a_currency_is_none(#[case] amount: Value, #[case] currency: Value) {
        let mut event = event();
        event["amount"] = amount;
        event["currency"] = currency;
        assert_eq!(read(&event).map(|event| event.amount), Ok(None));
    }

    #[test]
    fn a_body_without_a_usable_id_is_no_event() {
        for body in ["", "null", "[]", "\"paid\"", "{}", r#"{"id":""}"#, r#"{"id":"a.b"}"#, r#"{"id":7}"#, "\u{0}"] {
            assert!(read_event(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn the_signature_is_checked_before_anything_is_read() {
        let secrets: WebhookSecrets = DEVELOPMENT_SECRET.parse().expect("a secret");
        let sandbox = SandboxProvider::new("http://127.0.0.1:1", secrets.clone(), Duration::from_secs(1));
        let sandbox = sandbox.expect("a client");
        let now = Timestamp::from_second(1000).expect("a time");
        let verify = |headers: &HeaderMap, body: &[u8]| sandbox.verify_webhook(headers, body, now);

        assert_eq!(verify(&HeaderMap::new(), b"{"), Err(WebhookRefused::NoSignature));
        let signed = |body: &[u8]| {
            let value = secrets.sign(body, now).parse().expect("a header value");
            HeaderMap::from_iter([(http::HeaderName::from_static(SIGNATURE_HEADER), value)])
        };
        let body = event().to_string();
        assert!(verify(&signed(body.as_bytes()), body.as_bytes()).is_ok());
        assert!(matches!(verify(&signed(b"{"), b"{"), Err(WebhookRefused::NotAnEvent { .. })));
        assert_eq!(verify(&signed(b"{}"), body.as_bytes()), Err(WebhookRefused::WrongSignature));
    }
}
