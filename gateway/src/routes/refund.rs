//! `POST /api/checkout_session/{id}/refund`: an operator gives the price of a paid checkout back.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    contracts::{
        checkout::{CheckoutStatus, RefundStatus},
        refund::RefundCommand,
    },
    crash_point,
    ids::{OperatorName, WorkflowId},
    service::http::{Problem, body, media_type},
    subject::Subject,
};
use http::{StatusCode, header};
use serde::Deserialize;
use tokio::time::{Duration, Instant};
use utoipa::ToSchema;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{asked, checkout::standing, read_id, unknown_checkout};
use crate::{
    app::{App, Asked},
    checkout_view::CheckoutView,
    follow::refund_ref,
    live::Watch,
    refund_view::RefundView,
    reply::{self, CheckoutBody},
    validation::object,
};

/// Long enough for a sentence, short enough for one line.
const MAX_REASON_CHARACTERS: usize = 500;

/// How often the refund is looked at again when nothing is heard of it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why the money goes back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RefundRequest)]
pub(crate) struct RefundBody {
    /// In the operator's words, 1 to 500 characters.
    pub(crate) reason: String,
}

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "checkout_session" / String / "refund")
        .and(warp::post())
        .and(asked(app))
        .and(body(app.config.max_body_bytes))
        .then(|id: String, app: Arc<App>, asked: Asked, body: Result<Bytes, Problem>| async move {
            reply::send(refund(&app, &id, &asked, body).await)
        })
        .boxed()
}

/// Give the whole price of a paid checkout back; stock is not touched. Asking twice is one refund.
#[utoipa::path(
    post, path = "/api/checkout_session/{id}/refund", tag = "operator",
    params(("id" = String, Path, description = "The checkout's id")),
    request_body = RefundBody,
    responses(
        (status = 200, description = "Decided: see `refund`", body = CheckoutBody),
        (status = 202, description = "The money is on its way back", body = CheckoutBody),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 401, description = "unauthorized", body = reply::ProblemBody),
        (status = 404, description = "not_found", body = reply::ProblemBody),
        (status = 409, description = "not_paid: there is nothing to give back", body = reply::ProblemBody),
        (status = 415, description = "unsupported_media_type", body = reply::ProblemBody),
        (status = 503, description = "unavailable", body = reply::ProblemBody),
    ),
    security(("operator" = []))
)]
pub(crate) async fn refund(
    app: &App,
    id: &str,
    asked: &Asked,
    body: Result<Bytes, Problem>,
) -> Result<Response, Problem> {
    app.admit(asked)?;
    let operator = app.must_be_operator(asked)?;
    let id = read_id(id)?;
    let reason = read_reason(asked, &body?)?;
    app.must_be_connected()?;
    // Listening begins before anything is read, so that no news falls between the two.
    let watch = app.watch_refund(id);
    let standing = standing(app, id).await?.ok_or_else(|| unknown_checkout(id))?;
    if standing.by_hand.is_none() {
        let start = start_of(&standing.view, reason, operator.clone())?;
        crash_point!("gateway.refund.before_publish");
        app.command(Subject::Command(refund_ref(id)), &start, asked).await?;
        crash_point!("gateway.refund.after_publish");
        tracing::info!(checkout = %id, by = %operator, "refund asked for");
    }
    let by_hand = wait_for_decision(app, id, watch, standing.by_hand).await?;
    Ok(answer(&standing.view, by_hand.as_ref()))
}

fn read_reason(asked: &Asked, body: &[u8]) -> Result<String, Problem> {
    if media_type(&asked.headers).as_deref() != Some("application/json") {
        return Err(Problem::unsupported_media_type("Send {\"reason\": \"…\"} as application/json."));
    }
    let invalid = |pointer: &str, detail: String| {
        Problem::validation("The request is not valid; see errors.").with_error(pointer, detail)
    };
    let RefundBody { reason } = object::from_slice(body).map_err(|error| invalid("", error.to_string()))?;
    let reason = reason.trim();
    if (1..=MAX_REASON_CHARACTERS).contains(&reason.chars().count()) {
        Ok(reason.to_owned())
    } else {
        Err(invalid("/reason", format!("must have 1 to {MAX_REASON_CHARACTERS} characters")))
    }
}

/// The refund of a paid checkout: the session that was paid, and the whole price.
fn start_of(view: &CheckoutView, reason: String, by: OperatorName) -> Result<RefundCommand, Problem> {
    match (view.status, &view.session, view.total, &view.provider) {
        (CheckoutStatus::Paid, Some(session), Some(amount), Some(provider)) => Ok(RefundCommand::Start {
            checkout: view.id,
            provider: provider.clone(),
            session_id: session.session_id.clone(),
            amount,
            reason,
            by: Some(by),
        }),
        (CheckoutStatus::Paid, ..) => Err(Problem::internal("The paid session is not in the checkout's history.")),
        (status, ..) => {
            let detail = format!("The checkout is {}: there is nothing to give back by hand.", status.as_str());
            Err(Problem::new(StatusCode::CONFLICT, "not_paid", detail).with_member("checkout_status", status.as_str()))
        }
    }
}

/// The refund once it is decided, or as it is when the time is over.
async fn wait_for_decision(
    app: &App,
    checkout: WorkflowId,
    mut watch: Watch,
    known: Option<RefundView>,
) -> Result<Option<RefundView>, Problem> {
    let deadline = Instant::now() + app.config.answer_timeout;
    let mut refund = known;
    while refund.as_ref().is_none_or(|refund| refund.status == RefundStatus::Pending) {
        tokio::select! {
            _ = tokio::time::timeout(LOOK_AGAIN, watch.next()) => refund = app.refund(checkout).await?,
            () = tokio::time::sleep_until(deadline) => break,
            () = app.stop.cancelled() => break,
        }
    }
    Ok(refund)
}

fn answer(view: &CheckoutView, by_hand: Option<&RefundView>) -> Response {
    let mut body = CheckoutBody::new(view, by_hand);
    // Asked for and stored, even if no worker has taken it yet.
    let pending = RefundStatus::Pending.as_str();
    let refund = *body.refund.get_or_insert(pending);
    if refund != pending {
        return reply::json(StatusCode::OK, &body);
    }
    let mut response = reply::json(StatusCode::ACCEPTED, &body);
    reply::set(&mut response, header::LOCATION, &reply::checkout_path(view.id));
    reply::set(&mut response, header::RETRY_AFTER, "2");
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout_view::tests::{awaiting_payment, paid};
    use common::money::Money;

    #[test]
    fn only_a_paid_checkout_can_be_refunded_by_hand() {
        let alice: OperatorName = "alice".parse().expect("a name");
        let start = start_of(&paid().view(), "broken".into(), alice.clone()).expect("paid");
        let RefundCommand::Start { amount, session_id, reason, by, .. } = start else { panic!("a start") };
        assert_eq!((amount, session_id.as_str(), reason.as_str()), (Money::eur(1000), "ps_1", "broken"));
        assert_eq!(by.as_ref(), Some(&alice));
        let problem = start_of(&awaiting_payment().view(), "x".into(), alice).expect_err("not paid");
        assert_eq!((problem.status().as_u16(), problem.code()), (409, "not_paid"));
    }

    #[test]
    fn a_reason_is_needed() {
        let mut headers = http::HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let asked = Asked { headers, client: None, query: String::new() };
        assert_eq!(read_reason(&asked, br#"{"reason":" broken "}"#), Ok("broken".into()));
        let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(501));
        for bad in ["", "{}", r#"{"reason":""}"#, r#"{"reason":7}"#, r#"{"reason":"x","amount":1}"#, &long] {
            assert_eq!(read_reason(&asked, bad.as_bytes()).expect_err(bad).code(), "validation", "{bad}");
        }
        let form = Asked { headers: http::HeaderMap::new(), ..asked };
        assert_eq!(read_reason(&form, b"reason=x").expect_err("a form").status().as_u16(), 415);
    }

    #[test]
    fn a_refund_that_is_not_decided_is_accepted() {
        let view = paid().view();
        let decided = |status| RefundView { revision: 1, status, reason: String::new(), attention: None };
        assert_eq!(answer(&view, None).status(), StatusCode::ACCEPTED);
        assert_eq!(answer(&view, Some(&decided(RefundStatus::Pending))).status(), StatusCode::ACCEPTED);
        assert_eq!(answer(&view, Some(&decided(RefundStatus::Refunded))).status(), StatusCode::OK);
    }
}
