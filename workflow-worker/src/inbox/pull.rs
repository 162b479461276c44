//! Pulling messages of one durable consumer, for as long as the process lives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_nats::jetstream::consumer::{Consumer, Info, pull};
use common::streams::ConsumerName;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::Inbox;

/// Messages asked for at a time: what a busy worker can take. What is not asked for goes to the next worker, which has not got
/// the histories: with 256, two workers did 2,326 and 2,628 checkouts a second at 2,000 in flight, where with 1,024 they do 3,521
/// (`bench --mode engine --in-flight 2000 --workers 2`) and one alone does 3,200. A worker that dies leaves no more than that of
/// each stream waiting for its ack wait.
const PULL: usize = 1_024;

/// Entries of the ledger asked for at a time: each tells hundreds of workflows when there is much to do.
const PULL_ENTRIES: usize = 16;

/// A pull that finds nothing waits this long at the server.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// The server says so often that the pull still stands. When another server has come to lead the consumer it does not know
/// of the pull, and after two heartbeats missed we make a new one: so long does a worker stand idle after a leader is lost.
const HEARTBEAT: Duration = Duration::from_millis(1_500);

/// Between two attempts after an error, so that a server in trouble is not hammered.
const PAUSE: Duration = Duration::from_secs(1);

/// How often it is checked that what waits at the server also arrives.
const WATCH_INTERVAL: Duration = Duration::from_secs(20);

/// Checks in a row that find something waiting and nothing arriving before the process gives up: a minute.
const MOST_SILENT_CHECKS: u32 = 3;

/// Pull until asked to stop.
pub(super) async fn pull(inbox: Arc<Inbox>, name: ConsumerName, stop: CancellationToken) -> anyhow::Result<()> {
    let pulled = AtomicU64::new(0);
    tokio::select! {
        result = take_all(&inbox, name, &pulled, &stop) => result,
        silent = watch(&inbox, name, &pulled) => silent,
    }
}

async fn take_all(
    inbox: &Arc<Inbox>,
    name: ConsumerName,
    pulled: &AtomicU64,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let Err(error) = take_until_trouble(inbox, name, pulled, stop).await else { return Ok(()) };
        let (consumer, stream, error) = (name.as_str(), name.stream().as_str(), format!("{error:#}"));
        tracing::warn!(consumer, stream, error, "cannot pull; trying again");
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Take messages until asked to stop, or until an error of the consumer.
async fn take_until_trouble(
    inbox: &Arc<Inbox>,
    name: ConsumerName,
    pulled: &AtomicU64,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let consumer = consumer(inbox, name).await?;
    loop {
        let mut messages = messages(inbox, name, &consumer).await?;
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                next = messages.next() => next,
            };
            match next.context("the pull has ended")? {
                Ok(message) => {
                    pulled.fetch_add(1, Ordering::Relaxed);
                    inbox.accept(name, message).await;
                }
                Err(error) if error.kind() == pull::MessagesErrorKind::MissingHeartbeat => {
                    // The client only says so, and would leave it at that until the pull ends.
                    let (consumer, stream) = (name.as_str(), name.stream().as_str());
                    tracing::info!(consumer, stream, "the server missed two heartbeats: pulling anew");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn consumer(inbox: &Inbox, name: ConsumerName) -> anyhow::Result<Consumer<pull::Config>> {
    let stream = name.stream().as_str();
    inbox.nats.jetstream.get_consumer_from_stream(name.as_str(), stream).await.with_context(|| {
        format!("find consumer {} of stream {stream}: run `deploy provision` if it is gone", name.as_str())
    })
}

async fn messages(
    inbox: &Inbox,
    name: ConsumerName,
    consumer: &Consumer<pull::Config>,
) -> anyhow::Result<pull::Stream> {
    let most = if name == ConsumerName::WorkerLedger { PULL_ENTRIES } else { PULL };
    let priority = priority_in_part(inbox.priority, name.stream().part_place());
    let stream = consumer.stream().group(name.group()).priority(priority.into());
    let stream = stream.max_messages_per_batch(most).expires(PULL_EXPIRES).heartbeat(HEARTBEAT);
    stream.messages().await.context("begin to pull")
}

/// Where commands are in several parts, another worker is the first in each of them: the numbers 0 to 9 are put into another
/// order for each part, by multiplication modulo 11, of which 6 is a generator.
fn priority_in_part(priority: u8, place: usize) -> u8 {
    let number = (0..place % 10).fold(u32::from(priority) + 1, |number, _| number * 6 % 11);
    u8::try_from(number).map_or(priority, |number| number.saturating_sub(1))
}

/// What waits for workers, for whoever watches them: a consumer that is paused looks healthy otherwise.
fn tell(name: ConsumerName, info: &Info) {
    let stream = name.stream().as_str();
    let waiting = u32::try_from(info.num_pending).unwrap_or(u32::MAX);
    metrics::gauge!("consumer_messages_waiting", "stream" => stream).set(waiting);
    metrics::gauge!("consumer_paused", "stream" => stream).set(if info.paused { 1 } else { 0 });
    if info.paused {
        tracing::warn!(stream, "an operator has paused this consumer: {} messages wait", info.num_pending);
    }
}

/// Ends with an error when something waits at the server for a minute and nothing arrives here nor elsewhere.
async fn watch(inbox: &Inbox, name: ConsumerName, pulled: &AtomicU64) -> anyhow::Result<()> {
    let (mut last_pulled, mut last_acked, mut silent) = (0, 0, 0);
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let now_pulled = pulled.load(Ordering::Relaxed);
        // While the server cannot be asked, the connection is the trouble, and it is made again by itself.
        let Ok(mut consumer) = consumer(inbox, name).await else { continue };
        let Ok(info) = consumer.info().await else { continue };
        let acked = info.ack_floor.consumer_sequence;
        tell(name, info);
        let nothing_to_pull = info.paused || info.num_pending == 0 || inbox.room.available_permits() == 0;
        let moves = nothing_to_pull || now_pulled != last_pulled || acked != last_acked;
        silent = if moves { 0 } else { silent + 1 };
        (last_pulled, last_acked) = (now_pulled, acked);
        if silent >= MOST_SILENT_CHECKS {
            bail!(
                "{} messages wait in {} but none has arrived for {} s: start this worker again",
                info.num_pending,
                name.stream().as_str(),
                (WATCH_INTERVAL * MOST_SILENT_CHECKS).as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_one_part_a_number_is_what_it_is_and_in_each_part_all_are_different() {
        assert_eq!(
            (0..10).map(|priority| priority_in_part(priority, 0)).collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
        for place in 0..64 {
            let mut all: Vec<u8> = (0..10).map(|priority| priority_in_part(priority, place)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>(), "part {place}");
        }
    }

    #[test]
    fn two_workers_are_the_first_in_two_of_four_parts_each() {
        let firsts = (0..4).filter(|&place| priority_in_part(0, place) < priority_in_part(1, place)).count();
        assert_eq!(firsts, 2);
    }
}
