//! One connection per process, set so that a dead server is noticed in seconds.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, jetstream};

/// Where the NATS servers are and who we are to them.
#[derive(Debug, Clone, clap::Args)]
pub struct NatsOptions {
    /// NATS server, or several of one cluster separated by commas.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats_url: String,
    /// Credentials file (`.creds`) to log in with.
    #[arg(long, env = "NATS_CREDS", value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
}

/// A connection and its JetStream context.
#[derive(Debug, Clone)]
pub struct Nats {
    /// Core NATS: subscriptions and requests.
    pub client: Client,
    /// Streams and consumers.
    pub jetstream: jetstream::Context,
}

/// A peer that does not answer for two of these is taken for dead; the default would take minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// An unclean leader change takes 5 to 6 s; a request that is given up earlier would only be sent again.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connect, and keep the connection through everything: it is made again for ever when it breaks.
///
/// # Errors
/// When the address or the credentials file cannot be read, or no server answers within 5 s.
pub async fn connect(options: &NatsOptions, name: &str) -> anyhow::Result<Nats> {
    let connect = match &options.nats_creds {
        Some(file) => ConnectOptions::with_credentials_file(file)
            .await
            .with_context(|| format!("read the credentials file {}", file.display()))?,
        None => ConnectOptions::new(),
    };
    let servers: Vec<&str> = options.nats_url.split(',').map(str::trim).collect();
    let client = connect
        .name(name)
        .ping_interval(PING_INTERVAL)
        .max_reconnects(None)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .event_callback(log_event)
        .connect(&servers[..])
        .await
        .with_context(|| {
            format!("connect to NATS at {}: is nats-server running there? (`cargo run` starts one)", options.nats_url)
        })?;
    Ok(Nats::new(client))
}

impl Nats {
    /// The JetStream context of an existing connection, with the timeouts of this system.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .build(client.clone());
        Self { client, jetstream }
    }

    /// Whether the connection stands right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

/// A permission that is missing looks like a timeout to whoever published; only the event tells the truth.
async fn log_event(event: Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS; connecting again"),
        Event::ServerError(error) => {
            tracing::error!(%error, "the NATS server refused something: check this user's permissions")
        }
        Event::ClientError(error) => tracing::warn!(%error, "the NATS client reports an error"),
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "a subscription is too slow, core messages were dropped")
        }
        other => tracing::info!(event = %other, "NATS connection"),
    }
}
