//! One connection per process, set so that a dead server is noticed in seconds.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, jetstream};

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
    // The client leaves this to us.
    let connect = match servers.iter().find_map(|url| user_and_password(url)) {
        Some((user, password)) => connect.user_and_password(user, password),
        None => connect,
    };
    let refusals = Refusals::default();
    let noted = refusals.clone();
    let client = connect
        .name(name)
        .ping_interval(PING_INTERVAL)
        .max_reconnects(None)
        .request_timeout(Some(REQUEST_TIMEOUT))
        // Each service has inboxes of its own, so that none may be allowed to read another's.
        .custom_inbox_prefix(inbox_prefix(name))
        .event_callback(move |event| log_event(event, noted.clone()))
        .connect(&servers[..])
        .await
        .with_context(|| {
            let servers = servers.iter().map(|url| without_password(url)).collect::<Vec<_>>().join(", ");
            format!("connect to NATS at {servers}: is nats-server running there? (`cargo run` starts one)")
        })?;
    Ok(Nats { refusals, ..Nats::new(client) })
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
