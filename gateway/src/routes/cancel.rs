//! `POST /api/checkout_session/{id}/cancel`: undo a checkout while that is possible.

use std::sync::Arc;

use common::{
    contracts::checkout::{CancelledBy, CheckoutCommand, CheckoutStatus},
    crash_point,
    ids::WorkflowId,
    service::http::{Problem, body},
    subject::Subject,
};
use http::{StatusCode, header};
use tokio::time::Instant;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{asked, read_id, unknown_checkout};
use crate::{
    app::{App, Asked},
    checkout_view::CheckoutView,
    follow::checkout_ref,
    reply::{self, CheckoutBody},
};

/// Nothing is expected in the body; a form without fields is fine.
const MAX_BODY_BYTES: usize = 1024;

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "checkout_session" / String / "cancel")
        .and(warp::post())
        .and(asked(app))
        .and(body(MAX_BODY_BYTES))
        .then(|id: String, app: Arc<App>, asked: Asked, body: Result<_, Problem>| async move {
            let from_page = is_from_page(&asked);
            let answer = match body {
                Ok(_) => cancel(&app, &id, &asked).await,
                Err(problem) => Err(problem),
            };
            if from_page { back_to_page(answer, &id) } else { reply::send(answer) }
        })
        .boxed()
}

/// Undo a checkout while it is undecided.
#[utoipa::path(
    post, path = "/api/checkout_session/{id}/cancel", tag = "checkout",
    params(("id" = String, Path, description = "The checkout's id")),
    responses(
        (status = 200, description = "It is cancelled; also when it was before", body = CheckoutBody),
        (status = 202, description = "It is being undone: the payment page is closed first", body = CheckoutBody),
        (status = 303, description = "A browser's form is led back to the order's page"),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 404, description = "not_found", body = reply::ProblemBody),
        (status = 409, description = "already_decided: it has ended otherwise", body = reply::ProblemBody),
        (status = 429, description = "rate_limited", body = reply::ProblemBody),
        (status = 503, description = "unavailable", body = reply::ProblemBody),
    )
)]
pub(crate) async fn cancel(app: &App, id: &str, asked: &Asked) -> Result<Response, Problem> {
    app.admit(asked)?;
    let id = read_id(id)?;
    app.must_be_connected()?;
    let mut follower = app.follow(id).await?;
    let accepted = match follower.view() {
        Some(view) if view.status.is_terminal() => return decided(view),
        Some(view) => view.clone(),
        None => app.checkout(id).await?.ok_or_else(|| unknown_checkout(id))?,
    };
    let deadline = Instant::now() + app.config.answer_timeout;
    let cancel = CheckoutCommand::Cancel { by: CancelledBy::Customer };
    crash_point!("gateway.cancel.before_publish");
    app.command(Subject::Command(checkout_ref(id)), &cancel, asked).await?;
    crash_point!("gateway.cancel.after_publish");
    tracing::info!(checkout = %id, "cancel asked for");
    loop {
        if let Some(view) = follower.view().filter(|view| view.status.is_terminal()) {
            return decided(view);
        }
        tokio::select! {
            changed = follower.changed() => changed?,
            () = tokio::time::sleep_until(deadline) => break,
            () = app.stop.cancelled() => break,
        }
    }
    let mut response =
        reply::json(StatusCode::ACCEPTED, &CheckoutBody::new(follower.view().unwrap_or(&accepted), None));
    reply::set(&mut response, header::LOCATION, &reply::checkout_path(id));
    reply::set(&mut response, header::RETRY_AFTER, "2");
    Ok(response)
}

/// What to say of a checkout that has ended.
fn decided(view: &CheckoutView) -> Result<Response, Problem> {
    if view.status == CheckoutStatus::Cancelled {
        let mut response = reply::json(StatusCode::OK, &CheckoutBody::new(view, None));
        reply::set(&mut response, header::ETAG, &reply::etag(view, None));
        return Ok(response);
    }
    let detail = format!("The checkout has ended as {}; it cannot be cancelled any more.", view.status.as_str());
    Err(Problem::new(StatusCode::CONFLICT, "already_decided", detail)
        .with_member("workflow_id", view.id.to_string())
        .with_member("checkout_status", view.status.as_str()))
}

/// The order page's button is a form, and a browser that sends one wants a page back.
fn is_from_page(asked: &Asked) -> bool {
    let accepts = asked.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepts.contains("text/html")
}

/// The order's page shows how it stands, also when it was too late to cancel.
fn back_to_page(answer: Result<Response, Problem>, id: &str) -> Response {
    match (answer, id.parse::<WorkflowId>()) {
        (Ok(_), Ok(id)) => reply::see_other(&reply::page_path(id)),
        (Err(problem), Ok(id)) if problem.code() == "already_decided" => reply::see_other(&reply::page_path(id)),
        (answer, _) => reply::send_page(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout_view::tests::{cancelled_early, paid, paid_too_late};

    #[test]
    fn a_cancelled_checkout_is_cancelled_again_and_any_other_end_stays() {
        assert_eq!(decided(&cancelled_early().view()).expect("cancelled").status(), StatusCode::OK);
        for story in [paid(), paid_too_late()] {
            let problem = decided(&story.view()).expect_err("decided otherwise");
            assert_eq!((problem.status().as_u16(), problem.code()), (409, "already_decided"));
        }
    }

    #[test]
    fn a_browser_is_led_back_to_the_page_of_the_order() {
        let id = crate::checkout_view::tests::id().to_string();
        let led_back = back_to_page(decided(&paid().view()), &id);
        assert_eq!(led_back.status(), StatusCode::SEE_OTHER);
        assert_eq!(led_back.headers()[header::LOCATION], format!("/checkout/{id}"));
        let broken = back_to_page(Err(Problem::unavailable("x")), &id);
        assert_eq!(broken.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(broken.headers()[header::CONTENT_TYPE].to_str().expect("text").starts_with("text/html"));
    }
}
