//! What is answered before NATS has been reached for the first time: that the gateway lives, that it is not ready, and to
//! everybody else to come again. Nothing can be stored yet, and how the streams lie is not known.

use common::{
    nats::Nats,
    service::http::{HttpOptions, HttpServer, Problem},
};
use http::StatusCode;
use tokio_util::sync::CancellationToken;
use warp::{Filter as _, Reply as _, filters::BoxedFilter, reply::Response};

use crate::{paths, routes::machines};

/// Wait for the first connection, or for `stop`, and answer on the server's port meanwhile; whether it is connected.
///
/// # Errors
/// When the port cannot be listened on.
pub(crate) async fn until_connected(
    server: &HttpServer,
    options: &HttpOptions,
    nats: &Nats,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    if nats.is_connected() {
        return Ok(true);
    }
    tracing::info!(address = %server.address(), "gateway listens, and waits for NATS");
    let is_over = CancellationToken::new();
    let waiting = async {
        let is_connected = nats.until_connected(stop).await;
        is_over.cancel();
        is_connected
    };
    let answering = server.second_handle()?.serve(paths().into(), routes(), options.clone(), is_over.clone());
    let (is_connected, answered) = tokio::join!(waiting, answering);
    answered.map(|()| is_connected)
}

fn routes() -> BoxedFilter<(Response,)> {
    let live = warp::path!("livez").and(warp::get()).map(machines::alive);
    let metrics = warp::path!("metrics").and(warp::get()).map(machines::metrics);
    let ready = warp::path!("readyz").and(warp::get()).map(|| {
        let detail = "The gateway is not ready: there is no connection to NATS yet.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).into_response()
    });
    let other = warp::any().map(|| {
        Problem::unavailable(
            "The shop is starting and cannot reach its store yet; nothing was done. Try again in a moment.",
        )
        .into_response()
    });
    live.or(metrics).unify().or(ready).unify().or(other).unify().boxed()
}
