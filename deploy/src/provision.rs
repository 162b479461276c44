//! The provisioner: the only code that creates streams and consumers. It creates what is missing, brings safe
//! differences in line, and never deletes anything.

use std::{error::Error, time::Duration};

use anyhow::{Context as _, bail};
use async_nats::jetstream::{
    ErrorCode,
    consumer::pull,
    context::{CreateStreamError, CreateStreamErrorKind},
    object_store,
    stream::{Config, ConsumerError, ConsumerErrorKind, RetentionPolicy},
};
use common::{
    crash_point,
    nats::{Nats, check::differences},
    shards::{SHARDS_KEY, Shards},
    streams::{ConsumerName, DURABILITY_KEY, Durability, INVENTORY_SNAPSHOTS, Placement, StreamName},
};
use tokio::time::Instant;

/// A stream may hold this many bytes of snapshots; two of a million finished reservations fit.
const SNAPSHOT_BYTES: i64 = 512 * 1024 * 1024;

/// Nodes count as there a few seconds after they have met; on a busy machine later.
const NODES_PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries while nodes are missing.
const NODES_PAUSE: Duration = Duration::from_millis(500);

/// What the provisioner did, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provisioned {
    /// It was not there.
    Created(String),
    /// It was there and another setting was brought in line.
    Updated(String),
    /// It was there as it must be.
    Unchanged(String),
}

/// What to do about a queue that was made before queues were trimmed by their readers.
const OF_AN_OLDER_VERSION: &str = " (a queue of an older version: delete the data folder of a shop for trying; otherwise let the \
    older services handle everything in it, delete the stream, provision again, and tell the gateways with `accept-loss`)";

/// Create or bring in line every stream, consumer and bucket. Running it again changes nothing.
///
/// # Errors
/// When the server cannot be asked, refuses, or holds a stream that differs in a way that cannot be changed.
pub async fn provision(nats: &Nats, placement: &Placement) -> anyhow::Result<Vec<Provisioned>> {
    must_have_as_many_parts(nats, placement.shards).await?;
    let mut done = Vec::new();
    for stream in placement.shards.all_streams(&StreamName::ALL) {
        done.push(provision_stream(nats, placement, stream).await?);
    }
    for consumer in placement.shards.all_consumers(&ConsumerName::ALL) {
        provision_consumer(nats, consumer).await?;
    }
    done.push(provision_snapshots(nats, placement).await?);
    Ok(done)
}

/// In how many parts the streams of this server are; one when nothing is provisioned yet.
pub async fn shards_there(nats: &Nats) -> Shards {
    match nats.jetstream.get_stream(StreamName::Commands.as_str()).await {
        Ok(found) => noted_shards(&found.cached_info().config).unwrap_or_default(),
        Err(_) => Shards::ONE,
    }
}

fn noted_shards(commands: &Config) -> Option<Shards> {
    commands.metadata.get(SHARDS_KEY).map_or(Some(Shards::ONE), |noted| noted.parse().ok())
}

/// With another number of parts, the histories that there are would be looked for where they are not.
async fn must_have_as_many_parts(nats: &Nats, wanted: Shards) -> anyhow::Result<()> {
    let Ok(commands) = nats.jetstream.get_stream(StreamName::Commands.as_str()).await else { return Ok(()) };
    let found = noted_shards(&commands.cached_info().config);
    if found != Some(wanted) {
        let found = found.map_or("an unknown number of".to_owned(), |found| found.to_string());
        bail!(
            "the histories of this server are in {found} parts, not in {wanted}: how many there are is decided once, because \
             each checkout is looked for in the part that follows from its id. Leave --shards away to keep what there is, or \
             use another server"
        );
    }
    Ok(())
}

async fn provision_stream(nats: &Nats, placement: &Placement, stream: StreamName) -> anyhow::Result<Provisioned> {
    let name = stream.as_str();
    let wanted = placement.config(stream);
    let found = match nats.jetstream.get_stream(name).await {
        Ok(found) => found.cached_info().config.clone(),
        Err(_) => {
            // Created, or already there after all: the server compares the configuration and answers the truth.
            let create = || nats.jetstream.create_stream(wanted.clone());
            crash_point!("provision.before_create_stream");
            when_nodes_have_met(create).await.with_context(|| format!("create stream {name}"))?;
            crash_point!("provision.after_create_stream");
            return Ok(Provisioned::Created(name.into()));
        }
    };
    if is_in_line(&wanted, &found) {
        return Ok(Provisioned::Unchanged(name.into()));
    }
    let update = Config { metadata: with_server_metadata(&wanted, &found), ..wanted.clone() };
    crash_point!("provision.before_update_stream");
    nats.jetstream.update_stream(update).await.with_context(|| {
        format!(
            "stream {name} differs from what this version needs and the server will not change it ({}): \
             it belongs to another system or another version; use another server, or migrate it by hand{}",
            differences(&wanted, &found).join("; "),
            if found.retention == RetentionPolicy::WorkQueue { OF_AN_OLDER_VERSION } else { "" }
        )
    })?;
    crash_point!("provision.after_update_stream");
    Ok(Provisioned::Updated(name.into()))
}

/// Nodes that have just started tell each other that they are there, and for some moments one of them does not count yet.
async fn when_nodes_have_met<T, E: Error + 'static, Created: Future<Output = Result<T, E>>>(
    create: impl Fn() -> Created,
) -> Result<T, E> {
    let deadline = Instant::now() + NODES_PATIENCE;
    loop {
        match create().await {
            Err(error) if may_pass(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "the nodes cannot make it yet; trying again");
                tokio::time::sleep(NODES_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Too few nodes count as there, or the one that decides has not answered. Making something again that was made is harmless.
/// A bucket is a stream, whose error is the cause of the bucket's.
fn may_pass(error: &(dyn Error + 'static)) -> bool {
    let here = if let Some(error) = error.downcast_ref::<CreateStreamError>() {
        match error.kind() {
            CreateStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::CLUSTER_NO_PEERS,
            kind => kind == CreateStreamErrorKind::TimedOut,
        }
    } else if let Some(error) = error.downcast_ref::<ConsumerError>() {
        match error.kind() {
            ConsumerErrorKind::JetStream(error) => error.error_code() == ErrorCode::CLUSTER_NO_PEERS,
            kind => kind == ConsumerErrorKind::TimedOut,
        }
    } else {
        false
    };
    here || error.source().is_some_and(may_pass)
}

/// Room only ever grows here: a smaller limit would make a full stream refuse orders.
fn is_in_line(wanted: &Config, found: &Config) -> bool {
    differences(wanted, found).is_empty()
        && wanted.num_replicas == found.num_replicas
        && wanted.description == found.description
        && found.max_bytes >= wanted.max_bytes
        && wanted.metadata.get(DURABILITY_KEY) == found.metadata.get(DURABILITY_KEY)
}

/// The server keeps notes of its own in the metadata; they stay.
fn with_server_metadata(wanted: &Config, found: &Config) -> std::collections::HashMap<String, String> {
    let mut metadata = found.metadata.clone();
    metadata.extend(wanted.metadata.clone());
    metadata
}

async fn provision_consumer(nats: &Nats, consumer: ConsumerName) -> anyhow::Result<()> {
    let stream = consumer.stream().as_str();
    crash_point!("provision.before_consumer");
    when_nodes_have_met(|| nats.jetstream.create_consumer_on_stream::<pull::Config, _>(consumer.config(), stream))
        .await
        .with_context(|| format!("create consumer {} of stream {stream}", consumer.as_str()))?;
    crash_point!("provision.after_consumer");
    Ok(())
}

async fn provision_snapshots(nats: &Nats, placement: &Placement) -> anyhow::Result<Provisioned> {
    if nats.jetstream.get_object_store(INVENTORY_SNAPSHOTS).await.is_ok() {
        return Ok(Provisioned::Unchanged(INVENTORY_SNAPSHOTS.into()));
    }
    let config = object_store::Config {
        bucket: INVENTORY_SNAPSHOTS.into(),
        description: Some("The inventory's state now and then, so that it starts quickly; can be thrown away.".into()),
        num_replicas: placement.replicas,
        max_bytes: SNAPSHOT_BYTES.min(i64::try_from(placement.storage_bytes / 50).unwrap_or(SNAPSHOT_BYTES)),
        ..object_store::Config::default()
    };
    crash_point!("provision.before_bucket");
    when_nodes_have_met(|| nats.jetstream.create_object_store(config.clone()))
        .await
        .context("create the bucket of the inventory's snapshots")?;
    crash_point!("provision.after_bucket");
    Ok(Provisioned::Created(INVENTORY_SNAPSHOTS.into()))
}

/// Ask a server's monitoring port whether it syncs every write, and how much it may store.
///
/// # Errors
/// When the port does not answer, or its answer has no JetStream configuration.
pub async fn ask_monitoring(monitoring_url: &str) -> anyhow::Result<(Durability, u64)> {
    let url = format!("{}/jsz?config=1", monitoring_url.trim_end_matches('/'));
    let body = http_get(&url).await.with_context(|| format!("ask the server's monitoring port at {url}"))?;
    let answer: serde_json::Value =
        serde_json::from_slice(&body).with_context(|| format!("read the answer of {url}"))?;
    let Some(config) = answer.get("config").filter(|config| config.is_object()) else {
        bail!("{url} shows no JetStream configuration: is JetStream switched on at this server?");
    };
    let always = config.get("sync_always").and_then(serde_json::Value::as_bool).unwrap_or(false);
    let storage = config.get("max_storage").and_then(serde_json::Value::as_u64).unwrap_or(0);
    Ok((if always { Durability::SyncAlways } else { Durability::SyncSometimes }, storage))
}

async fn http_get(url: &str) -> anyhow::Result<Vec<u8>> {
    common::service::tls::install_tls_provider();
    let answer = reqwest::get(url).await?.error_for_status()?;
    Ok(answer.bytes().await?.to_vec())
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::{
        context::{CreateKeyValueErrorKind, CreateObjectStoreError},
        stream::ConsumerError,
    };

    use super::*;

    /// What nats-server 2.15.1 says while one of three nodes does not count as there yet.
    fn no_peers() -> async_nats::jetstream::Error {
        let answer = r#"{"code":400,"err_code":10005,"description":"no suitable peers for placement, peer offline"}"#;
        serde_json::from_str(answer).expect("an error of the server")
    }

    #[test]
    fn everything_that_is_made_waits_for_the_nodes_to_meet() {
        let stream = || CreateStreamError::new(CreateStreamErrorKind::JetStream(no_peers()));
        assert!(may_pass(&stream()));
        assert!(may_pass(&CreateObjectStoreError::with_source(CreateKeyValueErrorKind::BucketCreate, stream())));
        assert!(may_pass(&ConsumerError::new(ConsumerErrorKind::JetStream(no_peers()))));
        assert!(may_pass(&CreateStreamError::new(CreateStreamErrorKind::TimedOut)));
    }

    #[test]
    fn what_the_server_refuses_for_good_is_not_tried_again() {
        assert!(!may_pass(&CreateStreamError::new(CreateStreamErrorKind::InvalidStreamName)));
        assert!(!may_pass(&CreateObjectStoreError::new(CreateKeyValueErrorKind::InvalidStoreName)));
    }
}
