//! HTTP in, commands out: the public API, the store pages and the payment webhooks.
//!
//! The gateway decides nothing about a checkout. It checks what comes in (`validation`), stores it as a command or a
//! webhook (`app`), and tells what the history says (`checkout_view`, `follow`, `live`). Any number of gateways
//! may run; each can answer for every checkout.
//!
//! Reading order: `config` → `app` → `routes` → `validation`, `follow`, `checkout_view` → `reply`.

mod app;
mod catalogue;
mod checkout_view;
mod config;
mod follow;
mod heard;
mod limiter;
mod live;
mod openapi;
mod operators;
mod pages;
mod refund_view;
mod reply;
mod room;
mod routes;
mod storing;
mod validation;
mod waiting;

use std::{net::SocketAddr, sync::Arc};

use common::{
    high_water::HighWater,
    nats::Nats,
    payment::PaymentProvider,
    service::http::{HttpServer, ServedPath},
    streams::StreamName,
};
use tokio_util::sync::CancellationToken;
use warp::{filters::BoxedFilter, reply::Response};

use crate::app::App;
pub use crate::config::{Config, DefaultProduct};

/// A gateway whose port is taken and which is connected, but does not serve yet.
pub struct Gateway {
    app: Arc<App>,
    server: HttpServer,
    high_water: HighWater,
}

impl Gateway {
    /// Take the port, check the streams, start watching. `stop` ends everything that is started here.
    ///
    /// # Errors
    /// When the port is taken, a stream is missing or not as it must be, or a setting cannot be used; the text says
    /// what to do.
    pub async fn start(
        config: Config,
        nats: Nats,
        provider: Arc<dyn PaymentProvider>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let server = HttpServer::bind(config.listen, "--listen").await?;
        Self::start_behind(server, config, nats, provider, stop).await
    }

    async fn start_behind(
        server: HttpServer,
        config: Config,
        nats: Nats,
        provider: Arc<dyn PaymentProvider>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let options = config.high_water.clone();
        let app = App::start(config, nats, provider, stop).await?;
        let marked = app.nats.shards.all_streams(&[StreamName::Commands, StreamName::Webhooks]);
        let high_water = HighWater::check(&options, &app.nats, &marked).await?;
        Ok(Self { app, server, high_water })
    }

    /// Where it listens; the real port when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serve until the token that it was started with is cancelled, then let requests under way end.
    ///
    /// # Errors
    /// When the port can no longer be listened on.
    pub async fn serve(self) -> anyhow::Result<()> {
        tracing::info!(address = %self.server.address(), "gateway listens");
        let (options, stop) = (self.app.config.http.clone(), self.app.stop.clone());
        let serving = self.server.serve(paths().into(), routes(&self.app), options, stop);
        self.high_water.guard(serving).await
    }
}

/// Serve the API and the pages until `stop`. Until NATS is reached for the first time, everybody is told so.
///
/// # Errors
/// As [`Gateway::start`] and [`Gateway::serve`].
pub async fn run(
    config: Config,
    nats: Nats,
    provider: Arc<dyn PaymentProvider>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let server = HttpServer::bind(config.listen, "--listen").await?;
    if !waiting::until_connected(&server, &config.http, &nats, &stop).await? {
        return Ok(());
    }
    Gateway::start_behind(server, config, nats, provider, stop).await?.serve().await
}

/// Everything that is served: the API, and the pages.
fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    // The pages come last: they answer any address that a browser asks for.
    routes::any_of([routes::routes(app), pages::routes::routes(app)])
}

/// The table of what [`routes`] serves.
fn paths() -> Vec<ServedPath> {
    [routes::PATHS, pages::routes::PATHS].concat()
}

#[cfg(test)]
mod tests;
