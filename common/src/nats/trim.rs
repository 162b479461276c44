//! Taking what is done out of a queue: the commands that its consumer has acked, all at once, every few seconds.
//!
//! JetStream could do this by itself, message by message, in a stream with work-queue retention. But there every ack is a
//! removal, and with `sync_interval: always` every removal is a record of its own that is synced to disk before anything
//! else is stored in that stream: measured with 256 checkouts in flight, most of
//! the 4.3 fsyncs per checkout in these streams, out of 7.2 in all. A purge up to a sequence is one.
//!
//! Only what lies below the consumer's ack floor goes: everything up to there is acked, so nobody needs it any more. A
//! floor that is old (of a leader that does not lead any more, or of a consumer that was made anew) only takes less. Whether
//! a process dies before or after it makes no difference to anybody.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::pull;

use super::connect::Nats;
use crate::streams::ConsumerName;

/// Between two looks. What is done takes room meanwhile: at 2,000 checkouts a second about 10 MB, of which a full stream would
/// refuse the next; and whoever looks at the stream sees it.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// Keep a queue free of what is done, for as long as the process lives. Several processes may do it at the same time.
pub async fn keep_trimmed(nats: &Nats, consumer: ConsumerName) -> std::convert::Infallible {
    let mut parts: Vec<_> = nats.shards.all_consumers(&[consumer]).into_iter().map(|part| (part, 0)).collect();
    loop {
        tokio::time::sleep(TRIM_INTERVAL).await;
        for (part, trimmed) in &mut parts {
            match trim(nats, *part, *trimmed).await {
                Ok(floor) => *trimmed = floor,
                // The commands stay a while longer; what uses the room up is seen by the gateways.
                Err(error) => tracing::warn!(
                    stream = part.stream().as_str(),
                    error = format!("{error:#}"),
                    "could not take out what is done; trying again"
                ),
            }
        }
    }
}

/// Take out what is acked; gives the sequence up to which everything is done and gone. `trimmed` is what it gave before.
///
/// # Errors
/// When the server cannot be asked or refuses; nothing is lost then, and less room is free.
pub async fn trim(nats: &Nats, consumer: ConsumerName, trimmed: u64) -> anyhow::Result<u64> {
    let (name, stream) = (consumer.as_str(), consumer.stream().as_str());
    let found = nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, stream).await;
    let floor = found.context("ask what is done")?.cached_info().ack_floor.stream_sequence;
    if floor <= trimmed {
        return Ok(trimmed);
    }
    let stream = nats.jetstream.get_stream_no_info(stream).await.context("find the stream")?;
    // Everything before this sequence.
    stream.purge().sequence(floor + 1).await.context("take out what is done")?;
    Ok(floor)
}
