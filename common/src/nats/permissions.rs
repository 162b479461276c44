//! May this service do what it has to do? Asked once at the start: a permission that is missing looks like a timeout to
//! whoever publishes, and would be found at the first order instead.
//!
//! The questions are publishes that no stream stores (they expect a stream of another name) and that no API answers (they
//! name no inbox). The server says which of them it refuses before it answers the ping that follows.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_nats::{HeaderMap, header};

use super::connect::Nats;
use crate::{
    shards::Shards,
    streams::{ConsumerName, StreamName},
    subject::Subject,
};

/// A stream that does not exist: what expects it is not stored in any other.
const NO_STREAM: &str = "PERMISSION-CHECK";

/// The refusals have arrived when the ping is answered; this is for the task that takes note of them.
const NOTING: Duration = Duration::from_millis(200);

/// More would only fill the memory of a service that is refused the same thing for days in other words.
const MOST_REFUSALS: usize = 100;

/// What the server has refused to this connection's user for want of a permission; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeSet<String>>>);

impl Refusals {
    /// Take note when an error of the server is about a permission; whether it is.
    pub(super) fn note(&self, error: &str) -> bool {
        let is_one = error.to_ascii_lowercase().contains("permissions violation");
        let mut refusals = self.lock();
        if is_one && refusals.len() < MOST_REFUSALS {
            refusals.insert(error.trim_start_matches("nats: ").to_owned());
        }
        is_one
    }

    /// Each once, in the server's words, such as `Permissions Violation for Publish to "history.checkout.…"`.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // The set is whole after a panic elsewhere: every change of it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a service has to do at the server, besides reading the configuration of its streams and receiving answers.
#[derive(Debug, Default)]
pub struct Needs<'a> {
    /// Streams whose configuration is read, with that of their consumers.
    pub streams: &'a [StreamName],
    /// Consumers that messages are taken from, and acked.
    pub takes: &'a [ConsumerName],
    /// Streams that messages are read from, by any replica.
    pub reads: &'a [StreamName],
    /// Streams whose leader is asked for the last message of a subject.
    pub asks_leader: &'a [StreamName],
    /// Queues from which what is done is taken out.
    pub trims: &'a [StreamName],
    /// Where messages are stored: one subject of each kind, with any id.
    pub writes: Vec<Subject>,
    /// Subjects in the words of the server, where the others do not say it.
    pub publishes: &'a [&'a str],
}

impl Needs<'_> {
    fn subjects(&self, shards: Shards) -> Vec<String> {
        let mut subjects: Vec<String> = self.publishes.iter().map(ToString::to_string).collect();
        let named = |consumer: ConsumerName| format!("{}.{}", consumer.stream().as_str(), consumer.as_str());
        subjects.extend(
            shards.all_streams(self.streams).iter().map(|stream| format!("$JS.API.STREAM.INFO.{}", stream.as_str())),
        );
        subjects.extend(
            shards
                .consumers_of(self.streams)
                .into_iter()
                .map(|consumer| format!("$JS.API.CONSUMER.INFO.{}", named(consumer))),
        );
        for consumer in shards.all_consumers(self.takes) {
            subjects.push(format!("$JS.API.CONSUMER.MSG.NEXT.{}", named(consumer)));
            // Both forms; which one a server uses depends on its version.
            subjects.push(format!("$JS.ACK.{}.permission-check", named(consumer)));
            subjects.push(format!("$JS.ACK.domain.account.{}.permission-check", named(consumer)));
        }
        subjects.extend(
            shards.all_streams(self.reads).iter().map(|stream| format!("$JS.API.DIRECT.GET.{}", stream.as_str())),
        );
        subjects.extend(
            shards
                .all_streams(self.asks_leader)
                .iter()
                .map(|stream| format!("$JS.API.STREAM.MSG.GET.{}", stream.as_str())),
        );
        for subject in &self.writes {
            let written: BTreeSet<String> = shards.all().map(|shard| subject.in_shard(shard)).collect();
            subjects.extend(written);
        }
        subjects
    }
}

/// Ask whether this connection's user may do what it needs, and find out in how many parts the streams are.
///
/// # Errors
/// As [`check_permissions`] and [`Nats::with_shards`].
pub async fn check_in(nats: Nats, service: &str, needs: &Needs<'_>) -> anyhow::Result<Nats> {
    // Asked first: a missing permission would look like a server that does not answer.
    check_permissions(&nats, service, needs).await?;
    let nats = nats.with_shards().await?;
    if nats.shards != Shards::ONE {
        check_permissions(&nats, service, needs).await?;
    }
    Ok(nats)
}

/// Ask the server whether this connection's user may do all of this. Nothing is stored or changed by it.
///
/// # Errors
/// Everything that it may not, in the server's words, and what to do; or that the server cannot be asked.
pub async fn check_permissions(nats: &Nats, service: &str, needs: &Needs<'_>) -> anyhow::Result<()> {
    let asking = "ask the server for this service's permissions";
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_STREAM, NO_STREAM);
    for subject in needs.subjects(nats.shards) {
        // Says "still at work" where it is taken for an ack, of no message.
        nats.client.publish_with_headers(subject, headers.clone(), "+WPI".into()).await.context(asking)?;
    }
    for stream in nats.shards.all_streams(needs.trims) {
        // A body that is no JSON object would purge the whole stream (nats-server 2.15.1). This one asks for the messages
        // before the first.
        let subject = format!("$JS.API.STREAM.PURGE.{}", stream.as_str());
        nats.client.publish_with_headers(subject, headers.clone(), r#"{"seq":1}"#.into()).await.context(asking)?;
    }
    let _inbox = nats.client.subscribe(nats.client.new_inbox()).await.context(asking)?;
    nats.client.flush().await.context(asking)?;
    tokio::time::sleep(NOTING).await;
    let refused = nats.refusals.all();
    if !refused.is_empty() {
        bail!(
            "the NATS user of this service is not allowed what it needs ({}): give it the permissions of {service} in \
             deploy/nats/permissions.conf, reload the server and start it again",
            refused.join("; ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permissions_are_noted_each_once() {
        let refusals = Refusals::default();
        assert!(!refusals.note("nats: maximum payload violation"));
        for _ in 0..2 {
            assert!(refusals.note(r#"nats: Permissions Violation for Publish to "inventory.ledger""#));
        }
        assert_eq!(refusals.all(), [r#"Permissions Violation for Publish to "inventory.ledger""#]);
        (0..1_000).for_each(|number| assert!(refusals.note(&format!("permissions violation {number}"))));
        assert_eq!(refusals.all().len(), MOST_REFUSALS);
    }
}
