//! `POST /api/checkout_session`: start a checkout, or find the one that the same key has started.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    contracts::checkout::{CheckoutCommand, CheckoutStatus, RequestFingerprint},
    crash_point,
    ids::{IdempotencyKey, WorkflowId},
    service::http::{Problem, body},
    subject::Subject,
};
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::asked;
use crate::{
    app::{App, Asked, bearer},
    checkout_view::CheckoutView,
    follow::{Follower, checkout_ref, waiting_start},
    reply::{self, StartedBody},
    validation::{Cart, StartRequest, idempotency_key, is_form},
};

/// When it is worth asking again for a checkout whose payment page is not open yet.
const ASK_AGAIN: Duration = Duration::from_secs(2);

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "checkout_session")
        .and(warp::post())
        .and(asked(app))
        .and(body(app.config.max_body_bytes))
        .then(|app: Arc<App>, asked: Asked, body: Result<Bytes, Problem>| async move {
            let from_form = body.as_ref().is_ok_and(|body| is_form(&asked.headers, body));
            let answer = start(&app, &asked, body).await;
            if from_form { reply::send_page(answer) } else { reply::send(answer) }
        })
        .boxed()
}

/// A checkout to be started, and how it is recognised when it is asked for again.
struct Wanted {
    id: WorkflowId,
    has_key: bool,
    cart: Cart,
    fingerprint: RequestFingerprint,
    is_form: bool,
}

/// Start a checkout and wait for its payment page.
#[utoipa::path(
    post, path = "/api/checkout_session", tag = "checkout",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters, quoted or bare: the same key is the same checkout, for ever")),
    request_body(content = inline(crate::openapi::StartCheckout), description = "Without a body or items: one of the default product"),
    responses(
        (status = 201, description = "The customer can pay; also for a repeat under the same key", body = StartedBody),
        (status = 202, description = "Accepted; the payment page takes longer. Ask at Location, or repeat with the same key", body = StartedBody),
        (status = 303, description = "A browser's form is led on to the payment page"),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 409, description = "out_of_stock, with `lacking`; or checkout_ended", body = reply::ProblemBody),
        (status = 413, description = "too_large", body = reply::ProblemBody),
        (status = 415, description = "unsupported_media_type", body = reply::ProblemBody),
        (status = 422, description = "idempotency_conflict: the key was used for another cart", body = reply::ProblemBody),
        (status = 429, description = "rate_limited", body = reply::ProblemBody),
        (status = 502, description = "payment_unavailable", body = reply::ProblemBody),
        (status = 503, description = "unavailable", body = reply::ProblemBody),
    )
)]
pub(crate) async fn start(app: &App, asked: &Asked, body: Result<Bytes, Problem>) -> Result<Response, Problem> {
    app.admit(asked)?;
    let wanted = read(asked, &body?)?;
    app.must_be_connected()?;
    let _place = app.place_to_wait()?;
    let began = Instant::now();
    let deadline = began + app.config.answer_timeout;

    let answer = start_and_wait(app, asked, &wanted, deadline).await;
    let outcome = match &answer {
        Ok(response) if response.status() == StatusCode::ACCEPTED => "accepted",
        Ok(_) => "opened",
        Err(problem) => problem.code(),
    };
    metrics::counter!("gateway_starts_total", "outcome" => outcome).increment(1);
    if outcome == "opened" {
        metrics::histogram!("gateway_time_to_session_seconds").record(began.elapsed());
    }
    tracing::info!(checkout = %wanted.id, outcome, "checkout asked for");
    match answer {
        // The order's page says why it ended.
        Err(problem) if wanted.is_form && has_ended(&problem) => Ok(reply::see_other(&reply::page_path(wanted.id))),
        answer => answer,
    }
}

/// Whether a refusal is about a checkout that was started and has ended.
fn has_ended(problem: &Problem) -> bool {
    matches!(problem.code(), "out_of_stock" | "payment_unavailable" | "checkout_ended")
}

fn read(asked: &Asked, body: &[u8]) -> Result<Wanted, Problem> {
    let request = StartRequest::read(&asked.headers, body)?;
    let key = idempotency_key(&asked.headers)?.or(request.form_key);
    let id = key.as_ref().map_or_else(WorkflowId::random, |key| checkout_of_key(asked, key));
    let fingerprint = request.cart.fingerprint();
    Ok(Wanted { id, has_key: key.is_some(), cart: request.cart, fingerprint, is_form: request.is_form })
}

/// Each caller that shows a token has its keys to itself; those without one share theirs.
fn checkout_of_key(asked: &Asked, key: &IdempotencyKey) -> WorkflowId {
    let caller = bearer(&asked.headers).map(|token| hex::encode(Sha256::digest(token))).unwrap_or_default();
    WorkflowId::from_idempotency_key(&caller, key)
}

async fn start_and_wait(app: &App, asked: &Asked, wanted: &Wanted, deadline: Instant) -> Result<Response, Problem> {
    let (mut follower, has_history) =
        if wanted.has_key { find_history(app, wanted.id, deadline).await? } else { (app.follow_new(wanted.id), false) };
    let known = has_history || ask_once(app, asked, wanted, deadline).await?;
    // From here on the checkout exists, or may exist later: whatever is answered tells its id.
    wait(app, &mut follower, wanted, known, deadline).await.map_err(|problem| with_checkout(problem, wanted.id))
}

/// Wait until there is something to answer.
async fn wait(
    app: &App,
    follower: &mut Follower,
    wanted: &Wanted,
    known: bool,
    deadline: Instant,
) -> Result<Response, Problem> {
    loop {
        if let Some(view) = follower.view() {
            must_be_same(view, &wanted.fingerprint)?;
            if let Some(outcome) = outcome(view) {
                return outcome.map(|()| opened(view, wanted, known));
            }
        }
        tokio::select! {
            changed = follower.changed() => changed?,
            () = tokio::time::sleep_until(deadline) => return Ok(accepted(follower, wanted, known)),
            () = app.stop.cancelled() => return Ok(accepted(follower, wanted, known)),
        }
    }
}

/// What the same key has started before, and whether anything is recorded of it.
async fn find_history(app: &App, id: WorkflowId, deadline: Instant) -> Result<(Follower, bool), Problem> {
    match tokio::time::timeout_at(deadline, app.follow_if_any(id)).await {
        Ok(found) => Ok(found?),
        Err(_) => {
            Err(Problem::unavailable("The order book does not answer at the moment; try again with the same key."))
        }
    }
}

/// Store the start, once: whether the same key has asked for it before, and its command still waits for a worker.
async fn ask_once(app: &App, asked: &Asked, wanted: &Wanted, deadline: Instant) -> Result<bool, Problem> {
    let asking = async {
        if !wanted.has_key {
            return publish(app, asked, wanted, Repeat::CannotBe).await.map(|_| false);
        }
        match publish(app, asked, wanted, Repeat::MayBe).await {
            Ok(is_stored) if is_stored => return Ok(false),
            // Also when nothing new is taken: what was asked before is still answered.
            refused => {
                if is_waiting(app, wanted).await? {
                    return Ok(true);
                }
                refused?;
            }
        }
        // Something else waits (a cancel), or nothing any more.
        publish(app, asked, wanted, Repeat::CannotBe).await.map(|_| false)
    };
    let asked = tokio::time::timeout_at(deadline, asking).await.unwrap_or_else(|_| {
        app.storing_is_overdue(app.config.answer_timeout);
        Err(Problem::unavailable(
            "The order could not be stored in time. Try again with the same Idempotency-Key; without one, look at the \
             checkout named here before you try again.",
        ))
    });
    asked.map_err(|problem| with_checkout(problem, wanted.id))
}

/// Whether the start of this checkout waits for a worker; the same key must have meant the same cart.
async fn is_waiting(app: &App, wanted: &Wanted) -> Result<bool, Problem> {
    let Some(waiting) = waiting_start(&app.nats, wanted.id).await? else { return Ok(false) };
    must_be_same(&waiting, &wanted.fingerprint)?;
    // A command other than a start says nothing of what was started.
    Ok(waiting.fingerprint.is_some())
}

/// Whether the same start may have been stored before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    MayBe,
    CannotBe,
}

/// Store the start; whether it is stored, which it is not when it may be a repeat and a command waits already.
async fn publish(app: &App, asked: &Asked, wanted: &Wanted, repeat: Repeat) -> Result<bool, Problem> {
    app.must_take_new()?;
    let start = priced(app, wanted)?;
    crash_point!("gateway.start.before_publish");
    let subject = Subject::Command(checkout_ref(wanted.id));
    let is_stored = match repeat {
        Repeat::MayBe => app.first_command(subject, &start, asked).await?,
        Repeat::CannotBe => app.command(subject, &start, asked).await.map(|_| true)?,
    };
    crash_point!("gateway.start.after_publish");
    Ok(is_stored)
}

fn priced(app: &App, wanted: &Wanted) -> Result<CheckoutCommand, Problem> {
    app.must_know_catalogue()?;
    let skus = match (&wanted.cart, &app.config.default_product) {
        (Cart::Items(items), _) => items.iter().map(|item| item.sku.clone()).collect(),
        (Cart::Default, crate::config::DefaultProduct::Sku(sku)) => vec![sku.clone()],
        (Cart::Default, _) => Vec::new(),
    };
    let (found, first) = app.catalogue.prices(&skus);
    let find = |sku: &common::ids::Sku| {
        found.get(sku).or(first.as_ref().filter(|product| product.sku == *sku)).map(|product| &**product)
    };
    let (lines, total) = wanted.cart.price(&app.config.default_product, first.as_deref(), find)?;
    Ok(CheckoutCommand::Start { lines, total, fingerprint: wanted.fingerprint.clone() })
}

/// The same key must mean the same cart, whoever was first.
fn must_be_same(view: &CheckoutView, fingerprint: &RequestFingerprint) -> Result<(), Problem> {
    match &view.fingerprint {
        Some(known) if known != fingerprint => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_conflict",
            "This Idempotency-Key was used for another cart. Use a new key for a new checkout.",
        )),
        _ => Ok(()),
    }
}

/// What there is to answer: the payment page was opened, or never will be; `None` while that is open.
fn outcome(view: &CheckoutView) -> Option<Result<(), Problem>> {
    if view.session.is_some() {
        return Some(Ok(()));
    }
    let problem = match view.status {
        CheckoutStatus::Reserving
        | CheckoutStatus::OpeningPayment
        | CheckoutStatus::AwaitingPayment
        | CheckoutStatus::Settling => return None,
        CheckoutStatus::OutOfStock => {
            let lacking = serde_json::to_value(reply::lacking(view)).unwrap_or_default();
            Problem::new(StatusCode::CONFLICT, "out_of_stock", "There is too little in stock; nothing was set aside.")
                .with_member("lacking", lacking)
        }
        CheckoutStatus::PaymentUnavailable => Problem::new(
            StatusCode::BAD_GATEWAY,
            "payment_unavailable",
            "No payment page could be opened; nothing is set aside and nothing is charged.",
        ),
        CheckoutStatus::Paid | CheckoutStatus::Declined | CheckoutStatus::Cancelled | CheckoutStatus::Expired => {
            Problem::new(StatusCode::CONFLICT, "checkout_ended", "The checkout ended before it could be paid.")
        }
    };
    Some(Err(problem.with_member("checkout_status", view.status.as_str())))
}

fn opened(view: &CheckoutView, wanted: &Wanted, known: bool) -> Response {
    if wanted.is_form {
        let payable = view.session.as_ref().filter(|_| view.status == CheckoutStatus::AwaitingPayment);
        return match payable {
            Some(session) => reply::see_other(&session.payment_url),
            None => reply::see_other(&reply::page_path(wanted.id)),
        };
    }
    let mut response = reply::json(StatusCode::CREATED, &StartedBody::from(view));
    reply::set(&mut response, header::ETAG, &reply::etag(view, None));
    located(response, wanted, known)
}

fn accepted(follower: &Follower, wanted: &Wanted, known: bool) -> Response {
    if wanted.is_form {
        return reply::see_other(&reply::page_path(wanted.id));
    }
    let not_recorded = CheckoutView::accepted(wanted.id, None);
    let mut body = StartedBody::from(follower.view().unwrap_or(&not_recorded));
    // The word of a checkout that a worker has not taken yet.
    body.status = follower.view().map_or(CheckoutStatus::Reserving, |view| view.status).as_str();
    let mut response = reply::json(StatusCode::ACCEPTED, &body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ASK_AGAIN.as_secs()));
    located(response, wanted, known)
}

fn located(mut response: Response, wanted: &Wanted, known: bool) -> Response {
    reply::set(&mut response, header::LOCATION, &reply::checkout_path(wanted.id));
    if known {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// A refusal of a checkout that exists, or may exist later, says which one it is.
fn with_checkout(problem: Problem, id: WorkflowId) -> Problem {
    let problem = problem.with_member("workflow_id", id.to_string());
    match HeaderValue::from_str(&reply::checkout_path(id)) {
        Ok(location) => problem.with_header(header::LOCATION, location),
        Err(_) => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout_view::tests::{awaiting_payment, cancelled_early, out_of_stock, paid};

    fn refused(view: &CheckoutView) -> (u16, &'static str) {
        let problem = outcome(view).expect("decided").expect_err("refused");
        (problem.status().as_u16(), problem.code())
    }

    #[test]
    fn a_start_is_answered_as_soon_as_there_is_something_to_answer() {
        let story = awaiting_payment();
        for records in 1..story.stored.len() {
            let stored = story.stored[..records].iter().map(|(sequence, bytes)| (*sequence, &bytes[..]));
            let view = CheckoutView::read(story.view().id, stored).expect("sound").expect("a history");
            assert_eq!(outcome(&view), None, "after {records} records");
        }
        assert_eq!(outcome(&story.view()), Some(Ok(())));
        assert_eq!(outcome(&paid().view()), Some(Ok(())), "a repeat gets the session that there was");
    }

    #[test]
    fn a_start_that_failed_says_so_with_a_code() {
        assert_eq!(refused(&out_of_stock().view()), (409, "out_of_stock"));
        assert_eq!(refused(&cancelled_early().view()), (409, "checkout_ended"));
        let problem = outcome(&out_of_stock().view()).expect("decided").expect_err("refused");
        let body = String::from_utf8(problem.to_json(None)).expect("JSON");
        assert!(body.contains(r#""lacking":[{"available":1,"requested":2,"sku":"MUG"}]"#), "{body}");
    }

    #[test]
    fn the_same_key_with_another_cart_is_a_conflict() {
        let view = awaiting_payment().view();
        assert_eq!(must_be_same(&view, &RequestFingerprint("f".into())), Ok(()));
        let problem = must_be_same(&view, &RequestFingerprint("other".into())).expect_err("another cart");
        assert_eq!((problem.status().as_u16(), problem.code()), (422, "idempotency_conflict"));
    }

    #[test]
    fn callers_that_show_a_token_have_their_keys_to_themselves() {
        let key: IdempotencyKey = "k".parse().expect("a key");
        let id = |token: Option<&str>| {
            let mut headers = http::HeaderMap::new();
            if let Some(token) = token {
                headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().expect("a header value"));
            }
            checkout_of_key(&Asked { headers, client: None, query: String::new() }, &key)
        };
        assert_eq!(id(None), WorkflowId::from_idempotency_key("", &key));
        assert_eq!(id(Some("a")), id(Some("a")));
        assert_ne!(id(Some("a")), id(Some("b")));
        assert_ne!(id(Some("a")), id(None));
    }

    #[test]
    fn a_refusal_of_a_checkout_that_may_exist_names_it() {
        let id = crate::checkout_view::tests::id();
        let response = warp::Reply::into_response(with_checkout(Problem::unavailable("x"), id));
        assert_eq!(response.headers()[header::LOCATION], format!("/api/checkout_session/{id}"));
    }
}
