//! One connection per process, set so that a dead server is noticed in seconds.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, jetstream};
use tokio_util::sync::CancellationToken;

use super::{acked::Acked, permissions::Refusals};
use crate::shards::Shards;

/// Where the NATS servers are and who we are to them.
#[derive(Debug, Clone, clap::Args)]
pub struct NatsOptions {
    /// NATS server, or several of one cluster separated by commas; with a user as nats://user:password@host:4222.
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
    /// What was stored for certain over this connection.
    pub acked: Acked,
    /// What the server has refused for want of a permission.
    pub refusals: Refusals,
    /// In how many parts histories and commands are: one, until the streams have been asked ([`Nats::with_shards`]).
    pub shards: Shards,
}

/// A peer that does not answer for two of these is taken for dead; the default would take minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// An unclean leader change takes 5 to 6 s; a request that is given up earlier would only be sent again. Where that is better
/// than waiting, it is done on purpose: for acks by [`super::append`], for reads by [`super::read::ask_again`].
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connect, and keep the connection through everything: it is made again for ever when it breaks.
///
/// # Errors
/// When the address or the credentials file cannot be read, or no server answers within 5 s.
pub async fn connect(options: &NatsOptions, name: &str) -> anyhow::Result<Nats> {
    let refusals = Refusals::default();
    let connected = connect_options(options, name, &refusals).await?.connect(&options.servers()[..]).await;
    let client = connected.with_context(|| options.unreachable())?;
    Ok(Nats { refusals, ..Nats::new(client) })
}

/// [`connect`] for a service that may be started before its servers: those that cannot be reached yet are tried for ever,
/// in the background, and [`Nats::until_connected`] waits for the first connection.
///
/// # Errors
/// What waiting does not mend: an address or a credentials file that cannot be read, a user that is refused, wrong TLS.
pub async fn connect_when_reachable(options: &NatsOptions, name: &str) -> anyhow::Result<Nats> {
    let refusals = Refusals::default();
    let connect = connect_options(options, name, &refusals).await?;
    let client = match connect.clone().connect(&options.servers()[..]).await {
        Err(error) if may_pass(error.kind()) => {
            tracing::warn!(error = options.unreachable(), cause = %error, "NATS is tried again until it answers");
            connect.retry_on_initial_connect().connect(&options.servers()[..]).await
        }
        known => known,
    };
    let client = client.with_context(|| options.unreachable())?;
    Ok(Nats { refusals, ..Nats::new(client) })
}

/// Whether what stands between us and a server may be over in a while without anybody changing a setting.
fn may_pass(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns)
}

async fn connect_options(options: &NatsOptions, name: &str, refusals: &Refusals) -> anyhow::Result<ConnectOptions> {
    let connect = match &options.nats_creds {
        Some(file) => ConnectOptions::with_credentials_file(file)
            .await
            .with_context(|| format!("read the credentials file {}", file.display()))?,
        None => ConnectOptions::new(),
    };
    // The client leaves this to us.
    let connect = match options.servers().iter().find_map(|url| user_and_password(url)) {
        Some((user, password)) => connect.user_and_password(user, password),
        None => connect,
    };
    let noted = refusals.clone();
    Ok(connect
        .name(name)
        .ping_interval(PING_INTERVAL)
        .max_reconnects(None)
        .request_timeout(Some(REQUEST_TIMEOUT))
        // Each service has inboxes of its own, so that none may be allowed to read another's.
        .custom_inbox_prefix(inbox_prefix(name))
        .event_callback(move |event| log_event(event, noted.clone())))
}

impl NatsOptions {
    fn servers(&self) -> Vec<&str> {
        self.nats_url.split(',').map(str::trim).collect()
    }

    fn unreachable(&self) -> String {
        let servers = self.servers().iter().map(|url| without_password(url)).collect::<Vec<_>>().join(", ");
        format!("connect to NATS at {servers}: is nats-server running there? (`cargo run` starts one)")
    }
}

/// A name with a space or a dot in it would break every subject that begins with it.
fn inbox_prefix(name: &str) -> String {
    let token: String = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    format!("_INBOX.{token}")
}

/// The user and the password that stand in an address.
fn user_and_password(url: &str) -> Option<(String, String)> {
    let (_, rest) = url.split_once("://")?;
    let (user, password) = rest.rsplit_once('@')?.0.split_once(':')?;
    Some((percent_decoded(user), percent_decoded(password)))
}

/// A part of an address as it is meant: `%40` is `@`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2).and_then(|digits| hex::decode(digits).ok())).flatten();
        match escaped.as_deref() {
            Some(&[byte]) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An address without the user and the password that may stand in it: it is written to logs.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    }
}

impl Nats {
    /// The JetStream context of an existing connection, with the timeouts of this system.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .build(client.clone());
        Self { client, jetstream, acked: Acked::default(), refusals: Refusals::default(), shards: Shards::ONE }
    }

    /// Wait until the connection stands, for the first time or again, or until `stop`; whether it stands.
    pub async fn until_connected(&self, stop: &CancellationToken) -> bool {
        // A client answers this once everything before it is on its way to a server. It fails only when the client is
        // closed, which is an end, too.
        tokio::select! {
            flushed = self.client.flush() => flushed.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Whether the connection stands right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

/// A permission that is missing looks like a timeout to whoever published; only the event tells the truth.
async fn log_event(event: Event, refusals: Refusals) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS; connecting again"),
        Event::ServerError(error) => {
            let is_permission = refusals.note(&error.to_string());
            tracing::error!(%error, is_permission, "the NATS server refused something: check this user's permissions");
        }
        Event::ClientError(error) => tracing::warn!(%error, "the NATS client reports an error"),
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "a subscription is too slow, core messages were dropped")
        }
        other => tracing::info!(event = %other, "NATS connection"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_get_into_a_message() {
        assert_eq!(without_password("nats://gateway:p@ss@127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(without_password("token@shop:4222"), "shop:4222");
        assert_eq!(without_password("nats://shop:4222"), "nats://shop:4222");
    }

    #[test]
    fn a_user_stands_in_the_address() {
        let of = |url: &str| user_and_password(url).map(|(user, password)| format!("{user} {password}"));
        assert_eq!(of("nats://gateway:a:b%40c%@127.0.0.1:4222").as_deref(), Some("gateway a:b@c%"));
        assert_eq!(of("nats://127.0.0.1:4222"), None);
        assert_eq!(of("shop:4222"), None);
    }
}
