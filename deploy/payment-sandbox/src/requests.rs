//! What the shop may ask, read strictly: a request that cannot mean anything is told what is wrong with it.

use bytes::Bytes;
use common::{
    ids::IdempotencyKey,
    money::{Currency, Money},
    service::http::{FieldError, Problem, media_type},
    time::Timestamp,
};
use http::HeaderMap;
use serde::{Deserialize, de::DeserializeOwned};

use crate::session::{Order, SessionLine};

/// Most lines of one session.
const MAX_LINES: usize = 100;

/// Longest name of a line, in characters.
const MAX_NAME: usize = 250;

/// Longest reference, as at other providers.
const MAX_REFERENCE: usize = 200;

/// `POST /api/create_payment_session`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRequest {
    client_reference_id: String,
    amount: i64,
    currency: Currency,
    lines: Vec<SessionLine>,
    expires_at: Timestamp,
}

/// `POST /api/submit_payment`, `decline_payment`, `cancel_payment`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionRequest {
    pub(crate) session_id: String,
}

/// `POST /api/expire_session`: one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpireRequest {
    session_id: Option<String>,
    client_reference_id: Option<String>,
}

/// What is to be closed.
pub(crate) enum ToExpire {
    Session(String),
    Reference(String),
}

/// `POST /api/refund`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundRequest {
    pub(crate) session_id: String,
    pub(crate) amount: i64,
    pub(crate) currency: Option<Currency>,
}

/// Read a JSON body.
pub(crate) fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Result<Bytes, Problem>) -> Result<T, Problem> {
    let body = body?;
    if media_type(headers).as_deref() != Some("application/json") {
        return Err(Problem::unsupported_media_type("Send a JSON body with Content-Type: application/json."));
    }
    serde_json::from_slice(&body).map_err(|error| Problem::validation(format!("The body cannot be read: {error}.")))
}

/// The key that makes a repeat of a call harmless.
pub(crate) fn read_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let wrong =
        |detail: String| Problem::validation("An Idempotency-Key is needed.").with_error("Idempotency-Key", detail);
    let value = headers.get("idempotency-key").ok_or_else(|| wrong("The header is missing.".into()))?;
    let text = value.to_str().map_err(|_| wrong("The header is not visible ASCII.".into()))?;
    text.parse().map_err(|error| wrong(format!("{error}.")))
}

fn is_reference(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_REFERENCE).contains(&text.len()) && text.bytes().all(allowed)
}

fn wrong(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.into(), detail: detail.into() }
}

const WRONG_REFERENCE: &str = "Must be 1 to 200 characters of A-Z a-z 0-9 _ -.";

impl CreateRequest {
    /// The order, if it can be one.
    pub(crate) fn check(self) -> Result<Order, Problem> {
        let mut errors = Vec::new();
        if !is_reference(&self.client_reference_id) {
            errors.push(wrong("/client_reference_id", WRONG_REFERENCE));
        }
        if self.amount <= 0 {
            errors.push(wrong("/amount", "Must be at least 1, in minor units."));
        }
        if !(1..=MAX_LINES).contains(&self.lines.len()) {
            errors.push(wrong("/lines", "There must be 1 to 100 lines."));
        }
        for (index, line) in self.lines.iter().enumerate() {
            let mut in_line = |field: &str, detail| errors.push(wrong(&format!("/lines/{index}/{field}"), detail));
            if !(1..=MAX_NAME).contains(&line.name.chars().count()) {
                in_line("name", "Must be 1 to 250 characters.");
            }
            if line.quantity == 0 {
                in_line("quantity", "Must be at least 1.");
            }
            if line.unit_amount < 0 {
                in_line("unit_amount", "Must not be negative.");
            }
        }
        if errors.is_empty() && sum(&self.lines) != Some(self.amount) {
            errors.push(wrong("/amount", "Must be the sum of the lines."));
        }
        if !errors.is_empty() {
            return Err(Problem::validation("The payment session cannot be opened like this.").with_errors(errors));
        }
        Ok(Order {
            client_reference_id: self.client_reference_id,
            amount: Money { amount: self.amount, currency: self.currency },
            lines: self.lines,
            expires_at: self.expires_at,
        })
    }
}

fn sum(lines: &[SessionLine]) -> Option<i64> {
    lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.unit_amount.checked_mul(i64::from(line.quantity))?))
}

impl ExpireRequest {
    /// What is to be closed, if it says exactly one thing.
    pub(crate) fn check(self) -> Result<ToExpire, Problem> {
        match (self.session_id, self.client_reference_id) {
            (Some(session_id), None) => Ok(ToExpire::Session(session_id)),
            (None, Some(reference)) if is_reference(&reference) => Ok(ToExpire::Reference(reference)),
            (None, Some(_)) => {
                Err(Problem::validation("The reference is not one.")
                    .with_error("/client_reference_id", WRONG_REFERENCE))
            }
            _ => Err(Problem::validation("Send either a session_id or a client_reference_id.")),
        }
    }
}
