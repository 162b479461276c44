//! The door for machines of a service that has no other: is it alive, is it ready, what has it counted.

use std::net::SocketAddr;

use http::{HeaderValue, StatusCode, header};
use tokio_util::sync::CancellationToken;
use warp::{Filter as _, Reply as _, filters::BoxedFilter, reply::Response};

use super::{
    http::{HttpOptions, HttpServer, Problem, ServedPath},
    telemetry,
};
use crate::nats::Nats;

/// Where machines may ask.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct MonitorOptions {
    /// Serve /livez, /readyz and /metrics here; without it nobody can ask.
    #[arg(long, env = "CHECKOUT_MONITOR_LISTEN", value_name = "ADDRESS:PORT")]
    pub monitor_listen: Option<SocketAddr>,
}

const PATHS: &[ServedPath] = &[
    ServedPath { template: "/livez", methods: &["GET"] },
    ServedPath { template: "/readyz", methods: &["GET"] },
    ServedPath { template: "/metrics", methods: &["GET"] },
];

/// Run a service once there is a connection to NATS, with its door for machines open meanwhile and for as long as it runs.
/// A service that is stopped before it was connected has not run, which is no error.
///
/// # Errors
/// What the service gives, or that the door's port is taken.
pub async fn run_with_monitor(
    options: &MonitorOptions,
    nats: &Nats,
    stop: &CancellationToken,
    service: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let service = async { if nats.until_connected(stop).await { service.await } else { Ok(()) } };
    let Some(listen) = options.monitor_listen else { return service.await };
    let server = HttpServer::bind(listen, "--monitor-listen").await?;
    let closed = CancellationToken::new();
    let door = server.serve(PATHS.into(), routes(nats), HttpOptions::default(), closed.clone());
    let run = async {
        let outcome = service.await;
        closed.cancel();
        outcome
    };
    let (outcome, served) = tokio::join!(run, door);
    outcome.and(served)
}

fn routes(nats: &Nats) -> BoxedFilter<(Response,)> {
    let nats = nats.clone();
    let live = warp::path!("livez").and(warp::get()).map(|| "alive\n".into_response());
    let ready = warp::path!("readyz").and(warp::get()).map(move || ready(&nats));
    let metrics = warp::path!("metrics").and(warp::get()).map(metrics);
    live.or(ready).unify().or(metrics).unify().boxed()
}

fn ready(nats: &Nats) -> Response {
    if nats.is_connected() {
        return "ready\n".into_response();
    }
    let detail = "There is no connection to NATS at the moment; it is made again by itself.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).into_response()
}

/// Everything counted so far, in Prometheus' text format.
pub fn metrics() -> Response {
    let mut response = telemetry::render_metrics().into_response();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
