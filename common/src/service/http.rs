//! How every HTTP service here is served: warp routes the requests, this file accepts, bounds and drains them.
//!
//! A service builds one boxed warp filter and hands it to [`HttpServer::serve`]. Around it stand, from the outside:
//! a cap on connections, a bound on slow heads and idle connections, compression, request ids and metrics, `HEAD`,
//! `OPTIONS` and `Allow`, problem documents for every refusal from whichever layer, caught panics, and a bound on
//! the time to an answer's head (streams are not cut).

mod accept;
mod body;
mod client_address;
mod front;
mod paths;
mod problem;
mod trace_context;

use std::{
    convert::Infallible,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{NotForContentType, Predicate as _, SizeAbove},
    },
    timeout::TimeoutLayer,
};
use warp::{filters::BoxedFilter, http::StatusCode, reply::Response};

pub use self::{
    body::{body, media_type},
    client_address::{ClientAddress, Network},
    paths::{Paths, ServedPath},
    problem::{FieldError, Problem},
    trace_context::trace_parent,
};

/// How connections and requests are bounded; the same flags for every HTTP service.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct HttpOptions {
    /// Most connections that are served at once; more are answered 503 and closed, twice as many are not accepted.
    #[arg(long = "http-max-connections", env = "CHECKOUT_HTTP_MAX_CONNECTIONS", default_value_t = HttpOptions::default().max_connections)]
    pub max_connections: usize,
    /// How long a client may take to send a request's head, which is also how long an unused connection stays open:
    /// behind a load balancer it must be longer than the balancer's own idle timeout.
    #[arg(long = "http-idle-timeout", env = "CHECKOUT_HTTP_IDLE_TIMEOUT", default_value = "10s", value_parser = crate::time::parse_duration)]
    pub idle_timeout: Duration,
    /// How long an answer's head may take; longer than the longest long-poll. A stream that has begun is not cut.
    #[arg(long = "http-request-timeout", env = "CHECKOUT_HTTP_REQUEST_TIMEOUT", default_value = "75s", value_parser = crate::time::parse_duration)]
    pub request_timeout: Duration,
    /// How long a client may not take what it is sent before its connection is closed; where the operating system can
    /// tell (Linux).
    #[arg(long = "http-write-timeout", env = "CHECKOUT_HTTP_WRITE_TIMEOUT", default_value = "30s", value_parser = crate::time::parse_duration)]
    pub write_timeout: Duration,
    /// How long requests that are under way may take to end after the service was asked to stop.
    #[arg(long = "http-drain-timeout", env = "CHECKOUT_HTTP_DRAIN_TIMEOUT", default_value = "10s", value_parser = crate::time::parse_duration)]
    pub drain_timeout: Duration,
    /// Networks of load balancers whose X-Forwarded-For is believed, such as 10.0.0.0/8; may be given several times.
    #[arg(long = "trusted-proxy", env = "CHECKOUT_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<Network>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            // One file handle and some 20 KB each: far below the limits of a small machine.
            max_connections: 8192,
            idle_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            trusted_proxies: Vec::new(),
        }
    }
}

/// A port that is taken and not served yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpServer {
    /// Take a port; port 0 takes a free one. `flag` is what a person would use to choose another one (`--listen`).
    ///
    /// # Errors
    /// When the port is taken or not allowed; the text says what to do.
    pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| bind_error(&error, address, flag))?;
        let address = listener.local_addr().context("ask which port was taken")?;
        Ok(Self { listener, address })
    }

    /// Where it listens; the real port when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same port once more: while this one waits, that one may be served, and no client is refused in between.
    ///
    /// # Errors
    /// When the operating system gives no second handle.
    pub fn second_handle(&self) -> anyhow::Result<Self> {
        let duplicate = || TcpListener::from_std(self.listener.as_fd().try_clone_to_owned()?.into());
        let listener = duplicate().with_context(|| format!("take the port of {} once more", self.address))?;
        Ok(Self { listener, address: self.address })
    }

    /// Serve `routes` until `stop`, then let requests that are under way end, for at most the drain time.
    ///
    /// `paths` is the table of what `routes` serves: it decides `Allow`, `OPTIONS` and the route names in metrics.
    /// Streams (server-sent events) and long polls must end by themselves when `stop` is cancelled.
    ///
    /// # Errors
    /// When the port can no longer be listened on.
    pub async fn serve(
        self,
        paths: Paths,
        routes: BoxedFilter<(Response,)>,
        options: HttpOptions,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let routes = ServiceBuilder::new()
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, options.request_timeout))
            .service(warp::service(routes));
        let front = Arc::new(front::Front { paths, trusted_proxies: options.trusted_proxies });
        let connections = Connections::new(options.max_connections);
        // Small answers gain nothing from compression; a stream of events would be held back by it.
        let compression = CompressionLayer::new().compress_when(SizeAbove::new(1024).and(NotForContentType::SSE));
        let make_service = tower::service_fn(move |peer: SocketAddr| {
            let service = connections.admit().map(|admission| {
                let connection = front::Connection::new(front.clone(), peer.ip(), admission, routes.clone());
                ServiceBuilder::new().layer(compression.clone()).service(connection)
            });
            std::future::ready(service)
        });

        let open_files = super::open_files::allow_most().context("ask how many connections may be open")?;
        if open_files.is_some_and(|most| most < options.max_connections as u64 * 2) {
            tracing::warn!(
                open_files,
                max_connections = options.max_connections,
                "the system lets this process have fewer connections than it would serve: raise the limit (LimitNOFILE, \
                 ulimit -n) or lower --http-max-connections"
            );
        }
        let handle = Handle::new();
        // http1_only must follow acceptor, which resets it; without it a silent connection stays open for ever.
        let mut server = axum_server::Server::from_listener(self.listener)
            .acceptor(accept::Acceptor { write_timeout: options.write_timeout })
            .http1_only()
            .handle(handle.clone());
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(options.idle_timeout)
            // A head larger than this is answered 431.
            .max_buf_size(64 * 1024);

        let serving = server.serve(make_service);
        tokio::pin!(serving);
        tokio::select! {
            result = &mut serving => result,
            () = stop.cancelled() => {
                handle.graceful_shutdown(Some(options.drain_timeout));
                serving.await
            }
        }
        .with_context(|| format!("serve HTTP on {}", self.address))
    }
}

fn bind_error(error: &std::io::Error, address: SocketAddr, flag: &str) -> anyhow::Error {
    let (host, port): (IpAddr, u16) = (address.ip(), address.port());
    match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!("port {port} on {host} is taken: choose another with {flag}"),
        ErrorKind::PermissionDenied => {
            anyhow::anyhow!("port {port} on {host} needs more rights than this process has: choose another with {flag}")
        }
        ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("{host} is not an address of this machine: choose another with {flag}")
        }
        _ => anyhow::anyhow!("cannot listen on {address}: {error}; choose another address with {flag}"),
    }
}

/// The cap on connections.
struct Connections {
    served: Arc<Semaphore>,
    /// Room to say 503 to those beyond the cap; beyond this they are dropped unanswered.
    shed: Arc<Semaphore>,
}

impl Connections {
    fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { served: Arc::new(Semaphore::new(max)), shed: Arc::new(Semaphore::new(max)) }
    }

    /// Whether a new connection is served, told to come back, or dropped (`Err`).
    fn admit(&self) -> Result<front::Admission, ConnectionDropped> {
        if let Ok(permit) = self.served.clone().try_acquire_owned() {
            return Ok(front::Admission::Served(Arc::new(permit)));
        }
        metrics::counter!("http_connections_shed_total").increment(1);
        let permit = self.shed.clone().try_acquire_owned().map_err(|_| ConnectionDropped)?;
        Ok(front::Admission::Shed(Arc::new(permit)))
    }
}

/// There are more connections than even refusals have room for.
#[derive(Debug, thiserror::Error)]
#[error("too many connections")]
struct ConnectionDropped;

/// What a service that cannot fail fails with.
type NeverFails = Infallible;

#[cfg(test)]
mod tests;
