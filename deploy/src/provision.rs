//! The provisioner: the only code that creates streams and consumers. It creates what is missing, brings safe
//! differences in line, and never deletes anything.

use anyhow::{Context as _, bail};
use async_nats::jetstream::{consumer::pull, object_store, stream::Config};
use common::{
    nats::{Nats, check::differences},
    streams::{ConsumerName, DURABILITY_KEY, Durability, INVENTORY_SNAPSHOTS, Placement, StreamName},
};

/// A stream may hold this many bytes of snapshots; two of a million finished reservations fit.
const SNAPSHOT_BYTES: i64 = 512 * 1024 * 1024;

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

/// Create or bring in line every stream, consumer and bucket. Running it again changes nothing.
///
/// # Errors
/// When the server cannot be asked, refuses, or holds a stream that differs in a way that cannot be changed.
pub async fn provision(nats: &Nats, placement: &Placement) -> anyhow::Result<Vec<Provisioned>> {
    let mut done = Vec::new();
    for stream in StreamName::ALL {
        done.push(provision_stream(nats, placement, stream).await?);
    }
    for consumer in ConsumerName::ALL {
        provision_consumer(nats, consumer).await?;
    }
    done.push(provision_snapshots(nats, placement).await?);
    Ok(done)
}

async fn provision_stream(nats: &Nats, placement: &Placement, stream: StreamName) -> anyhow::Result<Provisioned> {
    let name = stream.as_str();
    let wanted = placement.config(stream);
    let found = match nats.jetstream.get_stream(name).await {
        Ok(found) => found.cached_info().config.clone(),
        Err(_) => {
            // Created, or already there after all: the server compares the configuration and answers the truth.
            nats.jetstream.create_stream(wanted).await.with_context(|| format!("create stream {name}"))?;
            return Ok(Provisioned::Created(name.into()));
        }
    };
    if is_in_line(&wanted, &found) {
        return Ok(Provisioned::Unchanged(name.into()));
    }
    let update = Config { metadata: with_server_metadata(&wanted, &found), ..wanted.clone() };
    nats.jetstream.update_stream(update).await.with_context(|| {
        format!(
            "stream {name} differs from what this version needs and the server will not change it ({}): \
             it belongs to another system or another version; use another server, or migrate it by hand",
            differences(&wanted, &found).join("; ")
        )
    })?;
    Ok(Provisioned::Updated(name.into()))
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
    nats.jetstream
        .create_consumer_on_stream::<pull::Config, _>(consumer.config(), stream)
        .await
        .with_context(|| format!("create consumer {} of stream {stream}", consumer.as_str()))?;
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
    nats.jetstream.create_object_store(config).await.context("create the bucket of the inventory's snapshots")?;
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
