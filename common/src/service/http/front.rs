//! What stands before the routes: request id, trace, `HEAD`, `OPTIONS`, `Allow`, metrics, problem documents.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use tokio::sync::OwnedSemaphorePermit;
use tower::{BoxError, Service};
use tracing::Instrument as _;
use uuid::Uuid;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::{
    ClientAddress, Network, NeverFails, Problem, ServedPath,
    paths::{self, Paths},
    problem::PROBLEM_JSON,
    trace_context::trace_parent,
};
use crate::headers::TRACE_PARENT_IN_HTTP;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer's body, whatever made it.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What all connections share.
pub(super) struct Front {
    pub(super) paths: Paths,
    pub(super) trusted_proxies: Vec<Network>,
}

/// How a connection was let in; holds its place until the connection ends.
#[derive(Clone)]
pub(super) enum Admission {
    Served(#[expect(dead_code, reason = "held for its drop")] Arc<OwnedSemaphorePermit>),
    Shed(#[expect(dead_code, reason = "held for its drop")] Arc<OwnedSemaphorePermit>),
}

/// One connection: everything that a request goes through before the routes, and its answer after them.
#[derive(Clone)]
pub(super) struct Connection<S> {
    front: Arc<Front>,
    peer: IpAddr,
    admission: Admission,
    routes: S,
}

impl<S> Connection<S> {
    pub(super) fn new(front: Arc<Front>, peer: IpAddr, admission: Admission, routes: S) -> Self {
        Self { front, peer, admission, routes }
    }
}

impl<S, RequestBody, RoutesBody> Service<Request<RequestBody>> for Connection<S>
where
    S: Service<Request<RequestBody>, Response = Response<RoutesBody>, Error = NeverFails> + Clone + Send + 'static,
    S::Future: Send,
    RequestBody: Send + 'static,
    RoutesBody: BodyExt<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = NeverFails;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, NeverFails>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), NeverFails>> {
        self.routes.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let request_id = request_id(request.headers());
        // Being full is no reason to be restarted: whether it is alive is answered all the same.
        if matches!(self.admission, Admission::Shed(_)) && request.uri().path() != "/livez" {
            let response = without_routes(too_many_connections());
            return Box::pin(std::future::ready(Ok(finish(response, &request_id))));
        }
        let client = ClientAddress::find(self.peer, request.headers(), &self.front.trusted_proxies);
        let trace_parent = trace_parent(request.headers());
        let row = paths::find(&self.front.paths, request.uri().path()).copied();
        let route = row.map_or("", |row| row.template);
        let span = tracing::info_span!(
            "request", method = %request.method(), route, request_id, trace = &trace_parent[3..35]
        );
        request.extensions_mut().insert(client);
        if let Ok(value) = HeaderValue::try_from(trace_parent) {
            request.headers_mut().insert(TRACE_PARENT_IN_HTTP, value);
        }
        let routes = self.routes.clone();
        Box::pin(answer(routes, row, request, request_id).instrument(span))
    }
}

async fn answer<S, RequestBody, RoutesBody>(
    mut routes: S,
    row: Option<ServedPath>,
    mut request: Request<RequestBody>,
    request_id: String,
) -> Result<Response<Body>, NeverFails>
where
    S: Service<Request<RequestBody>, Response = Response<RoutesBody>, Error = NeverFails>,
    RoutesBody: BodyExt<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let began = Instant::now();
    let method = request.method().clone();
    let response = match answered_by_table(row.as_ref(), &method) {
        Some(response) => response,
        None => {
            if method == Method::HEAD {
                *request.method_mut() = Method::GET;
            }
            let response = routes.call(request).await?.map(|body| body.map_err(Into::into).boxed_unsync());
            // A path that nobody serves answers no method: no `Allow` could be given with it.
            if row.is_none() && response.status() == StatusCode::METHOD_NOT_ALLOWED {
                without_routes(Problem::of_status(StatusCode::NOT_FOUND))
            } else {
                response
            }
        }
    };
    let mut response = finish(response, &request_id);
    if method == Method::HEAD {
        response = without_body(response);
    }
    record(&method, row.as_ref(), response.status(), began);
    Ok(response)
}

/// `OPTIONS` and methods that a known path does not answer; unknown paths are left to the routes.
fn answered_by_table(row: Option<&ServedPath>, method: &Method) -> Option<Response<Body>> {
    let row = row.filter(|row| !row.answers(method))?;
    let mut response = if method == Method::OPTIONS {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        without_routes(Problem::of_status(StatusCode::METHOD_NOT_ALLOWED))
    };
    if let Ok(allow) = HeaderValue::try_from(row.allow()) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    Some(response)
}

fn too_many_connections() -> Problem {
    Problem::unavailable("There are too many connections; try again in a moment.")
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
}

fn without_routes(problem: Problem) -> Response<Body> {
    warp::Reply::into_response(problem).map(|body| body.map_err(Into::into).boxed_unsync())
}

/// Put the request id on an answer, and make a problem document of every refusal that is not one yet.
fn finish(response: Response<Body>, request_id: &str) -> Response<Body> {
    let (mut parts, mut body) = response.into_parts();
    let refused = parts.status.is_client_error() || parts.status.is_server_error();
    let told = parts.extensions.remove::<Problem>();
    if refused && !is_page(&parts.headers) {
        let problem = told.unwrap_or_else(|| Problem::of_status(parts.status));
        body = full(problem.to_json(Some(request_id)));
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        parts.headers.remove(header::CONTENT_LENGTH);
        if parts.status == StatusCode::SERVICE_UNAVAILABLE {
            parts.headers.entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("2"));
        }
    }
    if let Ok(value) = HeaderValue::try_from(request_id) {
        parts.headers.insert(REQUEST_ID, value);
    }
    Response::from_parts(parts, body)
}

/// A page made for a browser may say itself what went wrong.
fn is_page(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"))
}

/// The head that the same `GET` would get.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = exact_length(&body) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, empty())
}

/// How long the body is, when that is known before it is read.
fn exact_length<B: BodyExt>(body: &B) -> Option<u64> {
    body.size_hint().exact()
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The caller's id for its request if it is short and harmless in logs, a new one otherwise.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(&byte))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(harmless);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

fn record(method: &Method, row: Option<&ServedPath>, status: StatusCode, began: Instant) {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = known.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER");
    let route = row.map_or("", |row| row.template);
    metrics::histogram!(
        "http_server_request_duration_seconds",
        "http_request_method" => method, "http_route" => route, "http_response_status_code" => status.as_str().to_owned()
    )
    .record(began.elapsed());
    if status.is_server_error() {
        tracing::warn!(status = status.as_u16(), "refused");
    } else {
        tracing::debug!(status = status.as_u16(), took = ?began.elapsed(), "answered");
    }
}
