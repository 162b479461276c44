//! Is the server as it must be? Services ask before they start, and stop with an error that says what to do.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::{
    Error as ServerError,
    consumer::pull,
    context::{GetStreamError, GetStreamErrorKind},
    stream::{Config, ConsumerError, ConsumerErrorKind, Stream},
};
use tokio::time::Instant;

use super::connect::Nats;
use crate::streams::{ConsumerName, DURABILITY_KEY, Durability, StreamName};

/// What to run when something is missing; one sentence for every error of this file.
const REMEDY: &str = "run `deploy provision` against this server (`cargo run` does so by itself)";

/// After all nodes of a cluster were down, every stream and consumer elects a leader of its own, and until then nobody
/// answers for it: seconds on a quiet machine, more on a busy one.
const LEADER_PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions to a cluster that is still electing.
const LEADER_PAUSE: Duration = Duration::from_millis(500);

/// Check that the streams exist with the configuration that this version expects, that their consumers exist, and that
/// the server syncs every write.
///
/// # Errors
/// The first thing that is not as it must be, with what to do about it.
pub async fn check(nats: &Nats, streams: &[StreamName], allow_unsynced: bool) -> anyhow::Result<()> {
    for stream in nats.shards.all_streams(streams) {
        let found = stream_config(nats, stream).await?;
        let differences = differences(&stream.config(), &found);
        if !differences.is_empty() {
            bail!("stream {} is not as it must be ({}): {REMEDY}", stream.as_str(), differences.join("; "));
        }
        let durability = found.metadata.get(DURABILITY_KEY).map(String::as_str);
        if durability != Some(Durability::SyncAlways.as_str()) && !allow_unsynced {
            bail!(
                "stream {} was not provisioned on a server that syncs every write (`sync_interval: always` in the jetstream \
                 section of nats-server's configuration): a power cut would lose accepted orders. Change the \
                 configuration, restart the server and {REMEDY}; throw-away tests may start with --allow-unsynced",
                stream.as_str()
            );
        }
    }
    for consumer in nats.shards.consumers_of(streams) {
        consumer_exists(nats, consumer).await?;
    }
    Ok(())
}

pub(crate) async fn stream_config(nats: &Nats, name: StreamName) -> anyhow::Result<Config> {
    Ok(stream(nats, name).await?.cached_info().config.clone())
}

/// A stream and how it stands, as its leader tells; a cluster that has no leader for it yet is waited for.
///
/// # Errors
/// When it is not there, or nobody has answered for it for a minute; with what to do about it.
pub async fn stream(nats: &Nats, stream: StreamName) -> anyhow::Result<Stream> {
    let name = stream.as_str();
    let ask = || async move { nats.jetstream.get_stream(name).await };
    patiently(&format!("stream {name}"), ask, |error: &GetStreamError| match error.kind() {
        GetStreamErrorKind::JetStream(error) => is_final(&error),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => true,
        GetStreamErrorKind::Request => false,
    })
    .await
}

async fn consumer_exists(nats: &Nats, consumer: ConsumerName) -> anyhow::Result<()> {
    let (name, stream) = (consumer.as_str(), consumer.stream().as_str());
    let ask = || async move {
        nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, stream).await?;
        Ok(())
    };
    patiently(&format!("consumer {name} of {stream}"), ask, |error: &ConsumerError| match error.kind() {
        ConsumerErrorKind::JetStream(error) => is_final(&error),
        ConsumerErrorKind::InvalidConsumerType | ConsumerErrorKind::InvalidName => true,
        ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request | ConsumerErrorKind::Other => false,
    })
    .await
}

/// Whether the server has answered for good; a 503 says that it cannot tell just now.
fn is_final(answer: &ServerError) -> bool {
    answer.code() != 503
}

/// Ask until there is an answer: a stream without a leader is not a stream that is gone.
async fn patiently<T, E: std::error::Error + Send + Sync + 'static, Answer: Future<Output = Result<T, E>>>(
    what: &str,
    ask: impl Fn() -> Answer,
    is_final: fn(&E) -> bool,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + LEADER_PATIENCE;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if is_final(&error) {
            return Err(error).with_context(|| format!("{what} is not there or cannot be used: {REMEDY}"));
        }
        if Instant::now() >= deadline {
            return Err(error).with_context(|| {
                format!(
                    "nobody has answered for {what} for {} s: see with `nats stream report` whether most of its servers \
                     run and it has a leader; if it does not exist, {REMEDY}",
                    LEADER_PATIENCE.as_secs()
                )
            });
        }
        tracing::warn!(%error, "{what} does not answer yet; asking again");
        tokio::time::sleep(LEADER_PAUSE).await;
    }
}

/// What differs between the configuration that is expected and the one that was found, in words; replicas, bytes and
/// metadata are the place's own affair.
#[must_use]
pub fn differences(expected: &Config, found: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, expected: String, found: String| {
        if expected != found {
            differences.push(format!("{what} is {found}, expected {expected}"));
        }
    };
    let debug = |value: &dyn std::fmt::Debug| format!("{value:?}");
    compare("subjects", debug(&expected.subjects), debug(&found.subjects));
    compare("retention", debug(&expected.retention), debug(&found.retention));
    compare("storage", debug(&expected.storage), debug(&found.storage));
    compare("discard", debug(&expected.discard), debug(&found.discard));
    compare("discard per subject", debug(&expected.discard_new_per_subject), debug(&found.discard_new_per_subject));
    // The server writes "no limit" as -1 where the client's default is 0.
    compare(
        "messages per subject",
        debug(&expected.max_messages_per_subject.max(0)),
        debug(&found.max_messages_per_subject.max(0)),
    );
    compare("maximum age", debug(&expected.max_age), debug(&found.max_age));
    compare("deny delete", debug(&expected.deny_delete), debug(&found.deny_delete));
    compare("direct gets", debug(&expected.allow_direct), debug(&found.allow_direct));
    compare("atomic batches", debug(&expected.allow_atomic_publish), debug(&found.allow_atomic_publish));
    compare("schedules", debug(&expected.allow_message_schedules), debug(&found.allow_message_schedules));
    compare("message time to live", debug(&expected.allow_message_ttl), debug(&found.allow_message_ttl));
    compare("republish", debug(&expected.republish), debug(&found.republish));
    // Anything but the default would let acked writes be lost.
    compare("persist mode", "None".into(), debug(&found.persist_mode.filter(|mode| debug(mode) != "Default")));
    differences
}
