//! `POST /payment_webhook`: what the payment provider tells, stored as it came before it is answered.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    contracts::webhook::WebhookEvent,
    crash_point,
    payment::WebhookRefused,
    service::http::{Problem, body, media_type},
    subject::Subject,
    time,
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::asked;
use crate::{
    app::{App, Asked},
    reply,
};

/// The largest webhook in bytes; providers' events have a few kilobytes.
const MAX_WEBHOOK_BYTES: usize = 256 * 1024;

/// What the provider is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookReceived)]
pub(crate) struct ReceivedBody {
    /// Always true: the event is stored durably.
    received: bool,
    /// Whether it was stored before.
    duplicate: bool,
}

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("payment_webhook")
        .and(warp::post())
        .and(asked(app))
        .and(body(MAX_WEBHOOK_BYTES))
        .then(|app: Arc<App>, asked: Asked, body: Result<Bytes, Problem>| async move {
            reply::send(webhook(&app, &asked, body).await)
        })
        .boxed()
}

/// A payment provider tells what became of a payment.
#[utoipa::path(
    post, path = "/payment_webhook", tag = "payment",
    request_body(content = String, description = "The provider's event, signed in its own header", content_type = "application/json"),
    responses(
        (status = 200, description = "Stored durably, now or before", body = ReceivedBody),
        (status = 400, description = "webhook_refused: not authentic, not an event, or a decision about no checkout; nothing is stored", body = reply::ProblemBody),
        (status = 413, description = "too_large", body = reply::ProblemBody),
        (status = 415, description = "unsupported_media_type", body = reply::ProblemBody),
        (status = 503, description = "unavailable: send it again", body = reply::ProblemBody),
    )
)]
pub(crate) async fn webhook(app: &App, asked: &Asked, body: Result<Bytes, Problem>) -> Result<Response, Problem> {
    let stored = check_and_store(app, asked, body).await;
    let outcome = match &stored {
        Ok((_, true)) => "stored",
        Ok((_, false)) => "duplicate",
        Err(refusal) => refusal.reason,
    };
    metrics::counter!("gateway_webhooks_total", "outcome" => outcome).increment(1);
    match stored {
        Ok((event, is_new)) => {
            let checkout = event.reference.map(|id| id.to_string()).unwrap_or_default();
            tracing::info!(event = %event.id, event_type = event.event_type, checkout, outcome, "webhook");
            Ok(reply::json(StatusCode::OK, &ReceivedBody { received: true, duplicate: !is_new }))
        }
        Err(Refusal { reason, problem }) => {
            tracing::warn!(reason, detail = problem.detail(), "webhook refused");
            Err(problem)
        }
    }
}

/// Why a webhook is not stored: a word for metrics, and the answer.
#[derive(Debug)]
struct Refusal {
    reason: &'static str,
    problem: Problem,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { reason: problem.code(), problem }
    }
}

impl From<WebhookRefused> for Refusal {
    fn from(refused: WebhookRefused) -> Self {
        let reason = match refused {
            WebhookRefused::NoSignature => "no_signature",
            WebhookRefused::WrongSignature => "wrong_signature",
            WebhookRefused::WrongTime { .. } => "wrong_time",
            WebhookRefused::NotAnEvent { .. } => "not_an_event",
        };
        Self { reason, problem: refused_for(refused.to_string()) }
    }
}

fn refused_for(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "webhook_refused", detail)
}

async fn check_and_store(
    app: &App,
    asked: &Asked,
    body: Result<Bytes, Problem>,
) -> Result<(WebhookEvent, bool), Refusal> {
    let body = body?;
    if media_type(&asked.headers).as_deref() != Some("application/json") {
        return Err(Problem::unsupported_media_type("Send the event as application/json.").into());
    }
    let event = app.provider.verify_webhook(&asked.headers, &body, time::now())?;
    // One that decides nothing (a dispute, somebody else's session) is kept: a refusal would only be told again.
    if event.reference.is_none() && event.outcome.is_some() {
        let problem =
            refused_for("the event decides a payment but names no checkout (client_reference_id) of ours".into());
        return Err(Refusal { reason: "no_reference", problem });
    }
    app.must_be_connected()?;
    let subject = Subject::Webhook(app.provider.name(), event.id.clone());
    crash_point!("gateway.webhook.before_append");
    let is_new = app.store_webhook(subject, &event.event_type, body, asked).await?;
    crash_point!("gateway.webhook.after_append");
    Ok((event, is_new))
}
