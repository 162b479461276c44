//! `GET /api/checkout_session/{id}`: where a checkout stands, and with `wait` the next change of it.

use std::{sync::Arc, time::Duration};

use common::{contracts::checkout::CheckoutStatus, ids::WorkflowId, service::http::Problem};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::time::Instant;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{asked, read_id, unknown_checkout};
use crate::{
    app::{App, Asked},
    checkout_view::CheckoutView,
    follow::{FollowError, Follower},
    refund_view::RefundView,
    reply::{self, CheckoutBody},
};

/// The longest that a request may wait for a change, in seconds: what most load balancers let through.
const LONGEST_WAIT_SECONDS: u64 = 60;

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "checkout_session" / String)
        .and(warp::get())
        .and(asked(app))
        .then(|id: String, app: Arc<App>, asked: Asked| async move { reply::send(checkout(&app, &id, &asked).await) })
        .boxed()
}

/// A checkout, and a refund by hand that may belong to it.
pub(crate) struct Standing {
    pub(crate) view: CheckoutView,
    pub(crate) by_hand: Option<RefundView>,
}

/// Where a checkout stands.
#[utoipa::path(
    get, path = "/api/checkout_session/{id}", tag = "checkout",
    params(
        ("id" = String, Path, description = "The checkout's id"),
        ("wait" = Option<u64>, Query, description = "Seconds to wait for a change, at most 60; with If-None-Match from what that names, otherwise from now, unless the checkout has ended"),
        ("until" = Option<String>, Query, description = "What is waited for: `change`, the next one, or `end`, whatever happens before it"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of what is known already"),
    ),
    responses(
        (status = 200, description = "Where it stands; ETag is the history's revision", body = CheckoutBody),
        (status = 304, description = "Nothing has changed"),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 404, description = "not_found", body = reply::ProblemBody),
        (status = 429, description = "rate_limited", body = reply::ProblemBody),
        (status = 503, description = "unavailable", body = reply::ProblemBody),
    )
)]
pub(crate) async fn checkout(app: &App, id: &str, asked: &Asked) -> Result<Response, Problem> {
    app.admit(asked)?;
    let id = read_id(id)?;
    let patience = Patience::read(&asked.query)?;
    let known = known_etags(&asked.headers);
    let standing = if patience.wait.is_zero() {
        standing(app, id).await?
    } else {
        awaited(app, id, patience, known.as_deref()).await?
    };
    Ok(answer(&standing.ok_or_else(|| unknown_checkout(id))?, known.as_deref()))
}

/// A checkout with its refund by hand; only a paid one can have one.
pub(crate) async fn standing(app: &App, id: WorkflowId) -> Result<Option<Standing>, FollowError> {
    let Some(view) = app.checkout(id).await? else { return Ok(None) };
    let by_hand = if view.status == CheckoutStatus::Paid { app.refund(id).await? } else { None };
    Ok(Some(Standing { view, by_hand }))
}

/// The state that is waited for, or the present one when it does not come in time or the gateway stops. Without an ETag the
/// present state is what the client knows, unless it is the end: whoever asks just after it waits for nothing else.
async fn awaited(
    app: &App,
    id: WorkflowId,
    Patience { wait, until }: Patience,
    known: Option<&[String]>,
) -> Result<Option<Standing>, FollowError> {
    let deadline = Instant::now() + wait;
    let over = async {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = app.stop.cancelled() => {}
        }
    };
    tokio::pin!(over);
    let mut refund = app.watch_refund(id);
    let mut follower = app.follow(id).await?;
    let view = match follower.view() {
        Some(view) => view.clone(),
        None => match app.checkout(id).await? {
            Some(view) => view,
            None => return Ok(None),
        },
    };
    let by_hand = if view.status == CheckoutStatus::Paid { app.known_refund(id).await? } else { None };
    let standing = Standing { view, by_hand };
    let has_ended = standing.view.status.is_terminal();
    if known.is_some() && !is_known(&standing, known) && (has_ended || until == Until::Change) {
        // Another gateway may have told the client of more than was heard here, so what is stored is the answer.
        return self::standing(app, id).await;
    }
    if has_ended && (known.is_none() || until == Until::End) {
        return Ok(Some(standing));
    }
    let revision = standing.view.revision;
    let is_awaited = |follower: &Follower| match until {
        Until::Change => follower.revision() == revision,
        Until::End => follower.view().is_none_or(|view| !view.status.is_terminal()),
    };
    while is_awaited(&follower) {
        tokio::select! {
            changed = follower.changed() => changed?,
            _ = refund.next() => break,
            // Nothing that was waited for: nobody needs to be asked for more.
            () = &mut over => {
                let view = follower.view().cloned().unwrap_or(standing.view);
                return Ok(Some(Standing { view, by_hand: standing.by_hand }));
            }
        }
    }
    let view = follower.view().cloned().unwrap_or(standing.view);
    let by_hand = if view.status == CheckoutStatus::Paid { app.known_refund(id).await? } else { None };
    Ok(Some(Standing { view, by_hand }))
}

fn answer(standing: &Standing, known: Option<&[String]>) -> Response {
    let Standing { view, by_hand } = standing;
    let mut response = if is_known(standing, known) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        reply::json(StatusCode::OK, &CheckoutBody::new(view, by_hand.as_ref()))
    };
    reply::set(&mut response, header::ETAG, &reply::etag(view, by_hand.as_ref()));
    // A cache may keep it if it asks each time whether it is still true.
    reply::set(&mut response, header::CACHE_CONTROL, "no-cache");
    response
}

fn is_known(standing: &Standing, known: Option<&[String]>) -> bool {
    let etag = reply::etag(&standing.view, standing.by_hand.as_ref());
    known.is_some_and(|known| known.contains(&etag))
}

/// The ETags that a client names; a weak one, which a compressing proxy makes, is as good here.
fn known_etags(headers: &HeaderMap) -> Option<Vec<String>> {
    let value = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    Some(value.split(',').map(|etag| etag.trim().trim_start_matches("W/").to_owned()).collect())
}

/// How long a request waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience {
    wait: Duration,
    until: Until,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The next change.
    Change,
    /// The end, whatever happens before it: a shop's back end that only wants to know it asks once.
    End,
}

#[derive(Deserialize)]
struct Query {
    wait: Option<String>,
    until: Option<String>,
}

impl Patience {
    fn read(query: &str) -> Result<Self, Problem> {
        let wrong = |name, must_be: &str| {
            Problem::validation("The request is not valid; see errors.").with_error(name, must_be.to_owned())
        };
        let seconds = format!("must be whole seconds from 0 to {LONGEST_WAIT_SECONDS}");
        let Query { wait, until } = serde_html_form::from_str(query).map_err(|_| wrong("wait", &seconds))?;
        let until = match until.as_deref() {
            None | Some("change") => Until::Change,
            Some("end") => Until::End,
            Some(_) => return Err(wrong("until", "must be `change` or `end`")),
        };
        match wait.as_deref().unwrap_or("0").parse() {
            Ok(wait @ 0..=LONGEST_WAIT_SECONDS) => Ok(Self { wait: Duration::from_secs(wait), until }),
            _ => Err(wrong("wait", &seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout_view::tests::{awaiting_payment, paid};
    use common::contracts::checkout::RefundStatus;

    #[test]
    fn a_wait_is_whole_seconds_up_to_a_minute() {
        let patience = |seconds, until| Ok(Patience { wait: Duration::from_secs(seconds), until });
        assert_eq!(Patience::read(""), patience(0, Until::Change));
        assert_eq!(Patience::read("wait=60&other=x"), patience(60, Until::Change));
        assert_eq!(Patience::read("until=change&wait=1"), patience(1, Until::Change));
        assert_eq!(Patience::read("wait=30&until=end"), patience(30, Until::End));
        let bad_waits = ["wait=61", "wait=-1", "wait=1.5", "wait=", "wait=x", "wait=1&wait=2"];
        for bad in bad_waits.into_iter().chain(["wait=1&until=", "wait=1&until=paid", "until=end&until=end"]) {
            assert_eq!(Patience::read(bad).expect_err(bad).code(), "validation", "{bad}");
        }
    }

    #[test]
    fn what_the_client_knows_is_not_sent_again() {
        let standing = Standing { view: awaiting_payment().view(), by_hand: None };
        let status = |known: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, known.parse().expect("a header value"));
            answer(&standing, known_etags(&headers).as_deref()).status().as_u16()
        };
        assert_eq!(status("\"30\""), 304);
        assert_eq!(status("W/\"30\""), 304);
        assert_eq!(status("\"10\", \"30\""), 304);
        assert_eq!(status("\"20\""), 200);
        assert_eq!(answer(&standing, None).headers()[header::ETAG], "\"30\"");
    }

    #[test]
    fn a_refund_by_hand_is_shown_and_changes_the_etag() {
        let by_hand =
            RefundView { revision: 77, status: RefundStatus::Refunded, reason: "broken".into(), attention: None };
        let view = paid().view();
        let body = serde_json::to_value(CheckoutBody::new(&view, Some(&by_hand))).expect("JSON");
        assert_eq!(body["refund"], "refunded");
        assert_eq!(body["status"], "paid");
        assert_eq!(reply::etag(&view, Some(&by_hand)), "\"50.77\"");
    }
}
