//! For machines: is it alive, should it get requests, what has it counted, what is its contract.

use std::sync::Arc;

use common::service::{http::Problem, monitor};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use warp::{Filter, Reply as _, filters::BoxedFilter, reply::Response};

use super::any_of;
use crate::{app::App, openapi, reply};

/// A state in one word.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthBody {
    /// `alive` or `ready`.
    status: &'static str,
}

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let live = warp::path!("livez").and(warp::get()).map(alive).boxed();
    let app = app.clone();
    let ready = warp::path!("readyz")
        .and(warp::get())
        .then(move || {
            let app = app.clone();
            async move { reply::send(ready(&app).await) }
        })
        .boxed();
    let metrics = warp::path!("metrics").and(warp::get()).map(metrics).boxed();
    let contract = warp::path!("openapi.json").and(warp::get()).map(contract).boxed();
    any_of([live, ready, metrics, contract])
}

/// Whether the process runs; asks nobody else.
#[utoipa::path(get, path = "/livez", tag = "machines", responses((status = 200, description = "It runs", body = HealthBody)))]
pub(crate) fn alive() -> Response {
    reply::json(StatusCode::OK, &HealthBody { status: "alive" })
}

/// Whether it should get requests.
#[utoipa::path(
    get, path = "/readyz", tag = "machines",
    responses(
        (status = 200, description = "It should", body = HealthBody),
        (status = 503, description = "not_ready, with the reason", body = reply::ProblemBody),
    )
)]
pub(crate) async fn ready(app: &App) -> Result<Response, Problem> {
    match app.not_ready().await {
        None => Ok(reply::json(StatusCode::OK, &HealthBody { status: "ready" })),
        Some(reason) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not_ready",
            format!("The gateway is not ready: {reason}."),
        )),
    }
}

/// Everything counted so far, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "machines", responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain")))]
pub(crate) fn metrics() -> Response {
    monitor::metrics()
}

/// This contract.
#[utoipa::path(get, path = "/openapi.json", tag = "machines", responses((status = 200, description = "OpenAPI 3.1", body = String, content_type = "application/json")))]
pub(crate) fn contract() -> Response {
    let mut response = openapi::document().to_owned().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
