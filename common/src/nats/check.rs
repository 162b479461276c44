//! Is the server as it must be? Services ask before they start, and stop with an error that says what to do.

use anyhow::{Context as _, bail};
use async_nats::jetstream::stream::Config;

use super::connect::Nats;
use crate::streams::{ConsumerName, DURABILITY_KEY, Durability, StreamName};

/// What to run when something is missing; one sentence for every error of this file.
const REMEDY: &str = "run `deploy provision` against this server (`cargo run` does so by itself)";

/// Check that the streams exist with the configuration that this version expects, that their consumers exist, and that
/// the server syncs every write.
///
/// # Errors
/// The first thing that is not as it must be, with what to do about it.
pub async fn check(nats: &Nats, streams: &[StreamName], allow_unsynced: bool) -> anyhow::Result<()> {
    for &stream in streams {
        let info = nats
            .jetstream
            .get_stream(stream.as_str())
            .await
            .with_context(|| format!("stream {} is not there or cannot be asked: {REMEDY}", stream.as_str()))?;
        let found = &info.cached_info().config;
        let differences = differences(&stream.config(), found);
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
    for consumer in ConsumerName::ALL.into_iter().filter(|consumer| streams.contains(&consumer.stream())) {
        nats.jetstream
            .get_consumer_from_stream::<async_nats::jetstream::consumer::pull::Config, _, _>(
                consumer.as_str(),
                consumer.stream().as_str(),
            )
            .await
            .with_context(|| {
                format!("consumer {} of {} is not there: {REMEDY}", consumer.as_str(), consumer.stream().as_str())
            })?;
    }
    Ok(())
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
