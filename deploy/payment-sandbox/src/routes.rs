//! What this service answers to, and the payment page.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use common::{
    service::{
        http::{Problem, ServedPath, body},
        monitor::metrics,
    },
    time,
};
use http::{HeaderMap, StatusCode};
use maud::Markup;
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

use crate::{
    api::{Answer, App, reply},
    books::{Decision, Refusal},
    faults::Call,
    page::{PaymentPage, message_page, payment_page},
    store::StoreError,
};

/// Largest body of a request: a session of a hundred lines with long names has a third of it.
const MAX_BODY: usize = 128 * 1024;

/// The page loads nothing from elsewhere and nobody may put it into a frame. Where its form leads is not restricted,
/// because browsers apply that to the way back to the shop, too.
const PAGE_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           base-uri 'none'; frame-ancestors 'none'";

/// Every path that is served.
pub(crate) const PATHS: &[ServedPath] = &[
    ServedPath { template: "/api/create_payment_session", methods: &["POST"] },
    ServedPath { template: "/api/session/{id}", methods: &["GET"] },
    ServedPath { template: "/api/submit_payment", methods: &["POST"] },
    ServedPath { template: "/api/decline_payment", methods: &["POST"] },
    ServedPath { template: "/api/cancel_payment", methods: &["POST"] },
    ServedPath { template: "/api/expire_session", methods: &["POST"] },
    ServedPath { template: "/api/refund", methods: &["POST"] },
    ServedPath { template: "/api/events", methods: &["GET"] },
    ServedPath { template: "/api/books", methods: &["GET"] },
    ServedPath { template: "/api/faults", methods: &["GET", "POST", "DELETE"] },
    ServedPath { template: "/payment/{id}", methods: &["GET", "POST"] },
    ServedPath { template: "/livez", methods: &["GET"] },
    ServedPath { template: "/metrics", methods: &["GET"] },
];

type Routes = BoxedFilter<(Response,)>;

/// The whole service as one filter.
pub(crate) fn routes(app: &Arc<App>) -> Routes {
    let api = create(app)
        .or(look_up(app))
        .unify()
        .or(decide(app, "submit_payment", Call::SubmitPayment, Decision::Pay))
        .unify()
        .or(decide(app, "decline_payment", Call::DeclinePayment, Decision::Decline))
        .unify()
        .or(decide(app, "cancel_payment", Call::CancelPayment, Decision::Cancel))
        .unify()
        .or(expire(app))
        .unify()
        .or(refund(app))
        .unify()
        .boxed();
    api.or(for_checkers(app)).unify().or(faults(app)).unify().or(page(app)).unify().or(for_machines()).unify().boxed()
}

/// The application, for a handler.
fn with(app: &Arc<App>) -> impl Filter<Extract = (Arc<App>,), Error = Infallible> + Clone + use<> {
    let app = app.clone();
    warp::any().map(move || app.clone())
}

/// A POST to `/api/<name>` with its head and body.
fn post(
    app: &Arc<App>,
    name: &'static str,
) -> impl Filter<Extract = (Arc<App>, HeaderMap, Result<Bytes, Problem>), Error = warp::Rejection> + Clone + use<> {
    warp::path("api")
        .and(warp::path(name))
        .and(warp::path::end())
        .and(warp::post())
        .and(with(app))
        .and(warp::header::headers_cloned())
        .and(body(MAX_BODY))
}

/// The query as it was sent; empty when there is none.
fn query() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

fn create(app: &Arc<App>) -> Routes {
    post(app, "create_payment_session").then(App::create).boxed()
}

fn look_up(app: &Arc<App>) -> Routes {
    let path = warp::path!("api" / "session" / String).and(warp::get()).and(with(app));
    path.then(|id: String, app: Arc<App>| app.look_up(id)).boxed()
}

fn decide(app: &Arc<App>, name: &'static str, call: Call, decision: Decision) -> Routes {
    let handle = move |app: Arc<App>, headers, body| app.decide(call, decision, headers, body);
    post(app, name).then(handle).boxed()
}

fn expire(app: &Arc<App>) -> Routes {
    post(app, "expire_session").then(App::expire).boxed()
}

fn refund(app: &Arc<App>) -> Routes {
    post(app, "refund").then(App::refund).boxed()
}

fn for_checkers(app: &Arc<App>) -> Routes {
    let events = warp::path!("api" / "events").and(warp::get()).and(with(app)).and(query());
    let books = warp::path!("api" / "books").and(warp::get()).and(with(app)).and(query());
    let events = events.map(|app: Arc<App>, query: String| reply(app.events(&query)));
    let books = books.map(|app: Arc<App>, query: String| reply(app.books(&query)));
    events.or(books).unify().boxed()
}

fn faults(app: &Arc<App>) -> Routes {
    let path = || warp::path!("api" / "faults");
    let answer = |app: &Arc<App>, answer: fn(&App) -> Answer| with(app).map(move |app: Arc<App>| reply(answer(&app)));
    let add = post(app, "faults").map(|app: Arc<App>, headers, body| reply(app.add_faults(&headers, body)));
    let list = path().and(warp::get()).and(answer(app, App::list_faults));
    let clear = path().and(warp::delete()).and(answer(app, App::clear_faults));
    add.or(list).unify().or(clear).unify().boxed()
}

fn for_machines() -> Routes {
    let live = warp::path!("livez").and(warp::get()).map(|| "ok\n".into_response());
    let counted = warp::path!("metrics").and(warp::get()).map(metrics);
    live.or(counted).unify().boxed()
}

fn page(app: &Arc<App>) -> Routes {
    let show = warp::path!("payment" / String).and(warp::get()).and(with(app));
    let show = show.map(|id: String, app: Arc<App>| show_page(&app, &id));
    let act = warp::path!("payment" / String).and(warp::post()).and(with(app)).and(body(MAX_BODY));
    let act = act.then(act_on_page);
    show.or(act).unify().boxed()
}

fn html(status: StatusCode, markup: Markup) -> Response {
    let mut response = warp::reply::html(markup.into_string()).into_response();
    *response.status_mut() = status;
    let headers =
        [("cache-control", "no-store"), ("content-security-policy", PAGE_POLICY), ("referrer-policy", "no-referrer")];
    for (name, value) in headers {
        response.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    response
}

fn show_page(app: &App, session_id: &str) -> Response {
    let session = match app.store.session(session_id) {
        Ok(session) => session.view(&app.public_url, time::now()),
        Err(error) => return failure_page(&error),
    };
    let order_url = app.shop_url.as_deref().map(|shop| order_page(shop, &session.order.client_reference_id));
    html(StatusCode::OK, payment_page(&PaymentPage { session, order_url }))
}

fn failure_page(error: &StoreError) -> Response {
    match error {
        StoreError::Refused(Refusal::UnknownSession) => {
            let text = "This payment does not exist. Go back to the shop and try again from there.";
            html(StatusCode::NOT_FOUND, message_page("No such payment", text))
        }
        other => {
            tracing::error!(error = %other, "the payment page cannot be shown");
            let text =
                "The payment service cannot answer now. Reload this page in a moment; nothing was charged twice.";
            html(StatusCode::SERVICE_UNAVAILABLE, message_page("Please try again", text))
        }
    }
}

fn order_page(shop_url: &str, reference: &str) -> String {
    format!("{}/checkout/{reference}", shop_url.trim_end_matches('/'))
}

/// The form's `action` is `pay`, `decline` or `cancel`; then it goes back to the shop, or to this page, which shows
/// what is true now, also when the session was decided or over already.
async fn act_on_page(session_id: String, app: Arc<App>, body: Result<Bytes, Problem>) -> Response {
    #[derive(serde::Deserialize)]
    struct Form {
        action: String,
    }
    let form = body.ok().and_then(|body| serde_html_form::from_bytes::<Form>(&body).ok());
    let decision = match form.as_ref().map(|form| form.action.as_str()) {
        Some("pay") => Decision::Pay,
        Some("decline") => Decision::Decline,
        Some("cancel") => Decision::Cancel,
        _ => {
            let text = "The form must say pay, decline or cancel. Go back and use its buttons.";
            return html(StatusCode::BAD_REQUEST, message_page("Nothing was done", text));
        }
    };
    match app.decided(session_id.clone(), decision).await {
        Ok(session) => see_other(match &app.shop_url {
            Some(shop) => order_page(shop, &session.order.client_reference_id),
            None => format!("/payment/{session_id}"),
        }),
        Err(StoreError::Refused(Refusal::NotOpen(_))) => see_other(format!("/payment/{session_id}")),
        Err(error) => failure_page(&error),
    }
}

fn see_other(location: String) -> Response {
    warp::reply::with_header(StatusCode::SEE_OTHER, "location", location).into_response()
}
