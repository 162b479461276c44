//! Where the pages are served, and what every page is sent with.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    contracts::checkout::CheckoutStatus,
    nats::read,
    service::http::{Problem, ServedPath, body},
    time,
};
use http::{HeaderValue, StatusCode, header};
use maud::Markup;
use serde::Deserialize;
use uuid::Uuid;
use warp::{Filter, Rejection, Reply as _, filters::BoxedFilter, reply::Response};

use super::{
    assets, error, operator, operator_cookie, order,
    overview::{Overview, StoredRecord},
    store,
};
use crate::{
    app::{App, Asked},
    checkout_view::CheckoutView,
    follow::checkout_ref,
    reply::{self, refund_status},
    routes::{any_of, asked, read_id, unknown_checkout},
};

/// Nothing may come from elsewhere, and nobody may put the shop into a frame. Where forms lead is not restricted:
/// browsers apply that to the way on to the payment provider, too.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'";

/// The address of an asset names its content, so nobody needs to ask again within a year.
const CACHED_FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A sign-in form is a token and little else.
const MAX_FORM_BYTES: usize = 4 * 1024;

/// Every path of the pages.
pub(crate) const PATHS: &[ServedPath] = &[
    ServedPath { template: "/", methods: &["GET"] },
    ServedPath { template: "/stock", methods: &["GET"] },
    ServedPath { template: "/checkout/{id}", methods: &["GET"] },
    ServedPath { template: "/checkout/{id}/fragment", methods: &["GET"] },
    ServedPath { template: "/operator", methods: &["GET"] },
    ServedPath { template: "/operator/sign-in", methods: &["POST"] },
    ServedPath { template: "/operator/sign-out", methods: &["POST"] },
    ServedPath { template: "/operator/checkout/{id}", methods: &["GET"] },
    ServedPath { template: "/static/{file}", methods: &["GET"] },
];

type Routes = BoxedFilter<(Response,)>;

/// Every page. To be tried after all other routes: the last of these answers any address that a browser asks for.
pub(crate) fn routes(app: &Arc<App>) -> Routes {
    any_of([
        get(warp::path::end().boxed(), app, |app, asked| async move { store_page(&app, &asked) }),
        get(warp::path!("stock").boxed(), app, |app, asked| async move { stock(&app, &asked) }),
        get_one(warp::path!("checkout" / String).boxed(), app, order_page),
        get_one(warp::path!("checkout" / String / "fragment").boxed(), app, order_fragment),
        get(warp::path!("operator").boxed(), app, |app, asked| async move { operator_page(&app, &asked).await }),
        get_one(warp::path!("operator" / "checkout" / String).boxed(), app, operator_checkout),
        sign_in(app),
        sign_out(),
        static_file(),
        nothing_here(),
    ])
}

/// A page without a parameter.
fn get<Answer>(
    path: BoxedFilter<()>,
    app: &Arc<App>,
    answer: impl Fn(Arc<App>, Asked) -> Answer + Clone + Send + Sync + 'static,
) -> Routes
where
    Answer: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let send = move |app, asked| {
        let answer = answer(app, asked);
        async move { page_or_problem(answer.await) }
    };
    path.and(warp::get()).and(asked(app)).then(send).boxed()
}

/// A page of the one thing that its path names.
fn get_one<Answer>(
    path: BoxedFilter<(String,)>,
    app: &Arc<App>,
    answer: impl Fn(Arc<App>, Asked, String) -> Answer + Clone + Send + Sync + 'static,
) -> Routes
where
    Answer: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let send = move |id, app, asked| {
        let answer = answer(app, asked, id);
        async move { page_or_problem(answer.await) }
    };
    path.and(warp::get()).and(asked(app)).then(send).boxed()
}

fn store_page(app: &App, asked: &Asked) -> Result<Response, Problem> {
    app.admit(asked)?;
    app.must_know_catalogue()?;
    let fresh_key = || Uuid::now_v7().to_string().parse().expect("a UUID is 36 visible characters");
    Ok(html(StatusCode::OK, store::page(&app.articles(), fresh_key)))
}

fn stock(app: &App, asked: &Asked) -> Result<Response, Problem> {
    app.admit(asked)?;
    app.must_know_catalogue()?;
    Ok(html(StatusCode::OK, store::stock_fragment(&app.articles())))
}

async fn order_page(app: Arc<App>, asked: Asked, id: String) -> Result<Response, Problem> {
    match find_order(&app, &asked, &id).await {
        Ok(found) => Ok(html(StatusCode::OK, order::page(&found, time::now()))),
        Err(problem) if problem.code() == "not_found" => Ok(html(problem.status(), error::unknown_order())),
        Err(problem) if problem.code() == "validation" => Ok(html(problem.status(), error::not_an_order_number())),
        Err(problem) => Err(problem),
    }
}

async fn order_fragment(app: Arc<App>, asked: Asked, id: String) -> Result<Response, Problem> {
    let found = find_order(&app, &asked, &id).await?;
    Ok(html(StatusCode::OK, order::fragment(&found, time::now())))
}

/// A checkout as its customer sees it: with the refund that an operator may have made of it.
async fn find_order(app: &App, asked: &Asked, id: &str) -> Result<CheckoutView, Problem> {
    app.admit(asked)?;
    let id = read_id(id)?;
    app.must_be_connected()?;
    let mut found = app.checkout(id).await?.ok_or_else(|| unknown_checkout(id))?;
    if found.status == CheckoutStatus::Paid
        && let Some(refund) = app.refund(id).await?
    {
        found.refund = refund_status(&found, Some(&refund));
        // Both are sequences of one stream, so the greater one is the newer news.
        found.revision = found.revision.max(refund.revision);
    }
    Ok(found)
}

async fn operator_page(app: &App, asked: &Asked) -> Result<Response, Problem> {
    if let Some(sign_in) = not_signed_in(app, asked)? {
        return Ok(sign_in);
    }
    let overview = Overview::read(&app.nats, app.articles()).await.map_err(unreadable)?;
    Ok(html(StatusCode::OK, operator::overview(&overview)))
}

async fn operator_checkout(app: Arc<App>, asked: Asked, id: String) -> Result<Response, Problem> {
    if let Some(sign_in) = not_signed_in(&app, &asked)? {
        return Ok(sign_in);
    }
    let found = find_order(&app, &asked, &id).await?;
    let stored = read::history(&app.nats, checkout_ref(found.id)).await.map_err(unreadable)?;
    let records: Vec<StoredRecord> = stored.iter().map(StoredRecord::from).collect();
    Ok(html(StatusCode::OK, operator::checkout(&found, &records)))
}

fn unreadable(error: read::ReadError) -> Problem {
    tracing::warn!(%error, "could not read for an operator page");
    Problem::unavailable("The streams cannot be read at the moment; try again.")
}

/// The page that whoever brings no token gets instead.
fn not_signed_in(app: &App, asked: &Asked) -> Result<Option<Response>, Problem> {
    app.admit(asked)?;
    let is_operator = app.must_be_operator(&operator_cookie::with_token(asked)).is_ok();
    if is_operator {
        app.must_be_connected()?;
    }
    Ok((!is_operator).then(|| html(StatusCode::UNAUTHORIZED, operator::sign_in(None))))
}

fn sign_in(app: &Arc<App>) -> Routes {
    warp::path!("operator" / "sign-in")
        .and(warp::post())
        .and(asked(app))
        .and(body(MAX_FORM_BYTES))
        .map(|app: Arc<App>, asked: Asked, body: Result<Bytes, Problem>| {
            page_or_problem(body.and_then(|body| try_sign_in(&app, &asked, &body)))
        })
        .boxed()
}

fn try_sign_in(app: &App, asked: &Asked, body: &[u8]) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Form {
        token: String,
    }
    app.admit(asked)?;
    let form: Form = serde_html_form::from_bytes(body)
        .map_err(|_| Problem::validation("The form must have the field token; please use the page's own form."))?;
    match app.must_be_operator(&operator_cookie::bearing(asked, form.token.trim())) {
        Ok(_) => {
            let mut response = reply::see_other("/operator");
            reply::set(&mut response, header::SET_COOKIE, &operator_cookie::keep(asked, form.token.trim()));
            Ok(response)
        }
        Err(_) => {
            let refused = Some("This is not the operator token of this shop.");
            Ok(html(StatusCode::UNAUTHORIZED, operator::sign_in(refused)))
        }
    }
}

fn sign_out() -> Routes {
    warp::path!("operator" / "sign-out")
        .and(warp::post())
        .map(|| {
            let mut response = reply::see_other("/operator");
            reply::set(&mut response, header::SET_COOKIE, operator_cookie::FORGET);
            response
        })
        .boxed()
}

fn static_file() -> Routes {
    let file = |name: String| async move {
        let asset = assets::ALL.into_iter().find(|asset| asset.name == name).ok_or_else(warp::reject::not_found)?;
        let mut response = asset.text.into_response();
        reply::set(&mut response, header::CONTENT_TYPE, asset.content_type);
        reply::set(&mut response, header::CACHE_CONTROL, CACHED_FOR_EVER);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok::<_, Rejection>(response)
    };
    warp::path!("static" / String).and(warp::get()).and_then(file).boxed()
}

/// Any other address: a page for a browser; what machines get is left to the server.
fn nothing_here() -> Routes {
    let for_browsers = |path: warp::path::FullPath, accept: Option<String>| async move {
        let is_page = !path.as_str().starts_with("/api/") && accept.is_some_and(|accept| accept.contains("text/html"));
        if is_page { Ok(html(StatusCode::NOT_FOUND, error::not_found())) } else { Err(warp::reject::not_found()) }
    };
    warp::get().and(warp::path::full()).and(warp::header::optional("accept")).and_then(for_browsers).boxed()
}

fn page_or_problem(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|problem| of_problem(&problem))
}

/// A refusal as a page.
pub(crate) fn of_problem(problem: &Problem) -> Response {
    let mut response = html(problem.status(), error::of_problem(problem));
    if problem.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

/// A page, with what every page is sent with.
pub(crate) fn html(status: StatusCode, page: Markup) -> Response {
    let mut response = warp::reply::with_status(warp::reply::html(page.into_string()), status).into_response();
    for (name, value) in [
        // A page that is shown again must be asked for again: its form has a key of its own.
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(routes: Routes, path: &str, accept: &str) -> Response {
        let request = Request::get(path).header(header::ACCEPT, accept).body(String::new()).expect("a request");
        warp::service(routes).oneshot(request).await.expect("warp always answers")
    }

    fn text(response: &Response, name: header::HeaderName) -> &str {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    #[tokio::test]
    async fn the_files_of_the_pages_are_cached_for_ever_under_an_address_of_their_own() {
        for address in [assets::style_address(), assets::live_address(), assets::icon_address()] {
            let response = get(static_file(), address, "*/*").await;
            assert_eq!(response.status(), StatusCode::OK, "{address}");
            assert!(text(&response, header::CACHE_CONTROL).contains("immutable"));
            assert!(!text(&response, header::CONTENT_TYPE).is_empty());
        }
        assert_eq!(get(static_file(), "/static/other.css", "*/*").await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn only_a_browser_gets_a_page_for_an_address_that_leads_nowhere() {
        let browser = get(nothing_here(), "/somewhere/else", "text/html,*/*").await;
        assert_eq!(browser.status(), StatusCode::NOT_FOUND);
        assert!(text(&browser, header::CONTENT_TYPE).starts_with("text/html"));
        for (path, accept) in [("/somewhere", "application/json"), ("/api/nothing", "text/html")] {
            let machine = get(nothing_here(), path, accept).await;
            assert_eq!(machine.status(), StatusCode::NOT_FOUND);
            assert!(!text(&machine, header::CONTENT_TYPE).starts_with("text/html"), "{path} for {accept}");
        }
    }

    #[test]
    fn every_page_is_sent_with_its_policy_and_kept_by_nobody() {
        let page = html(StatusCode::OK, error::not_found());
        assert_eq!(text(&page, header::CONTENT_SECURITY_POLICY), CONTENT_SECURITY_POLICY);
        assert_eq!(text(&page, header::CACHE_CONTROL), "no-store");
        let unavailable = of_problem(&Problem::unavailable("x"));
        assert_eq!(unavailable.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text(&unavailable, header::RETRY_AFTER), "2");
    }
}
