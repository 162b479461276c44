//! The last messages of the streams that only ever grow, looked at again and again while servers die.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{
    nats::Nats,
    streams::StreamName,
    time::{Timestamp, from_server},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The streams whose messages are never taken away.
const STREAMS: [StreamName; 3] = [StreamName::History, StreamName::Inventory, StreamName::Webhooks];

/// A message that was the last one of its stream. Its time tells it from another one that got its place later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LastMessage {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// When the server stored it.
    pub(super) at: Timestamp,
}

/// What was seen, by the stream's name. Not in the order in which it was seen: a node that led and has not heard of its
/// successor yet tells what used to be the last message.
pub(super) type LastMessages = BTreeMap<&'static str, BTreeSet<LastMessage>>;

/// Look until asked to stop, and once more at the end.
pub(super) async fn watch(nats: Nats, stop: CancellationToken) -> LastMessages {
    let mut seen = LastMessages::new();
    while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
        look(&nats, &mut seen).await;
    }
    look(&nats, &mut seen).await;
    seen
}

async fn look(nats: &Nats, seen: &mut LastMessages) {
    for stream in nats.shards.all_streams(&STREAMS) {
        // A server that is down has nothing to say.
        if let Ok(info) = nats.jetstream.get_stream(stream.as_str()).await {
            let state = &info.cached_info().state;
            let last = LastMessage { sequence: state.last_sequence, at: from_server(state.last_timestamp) };
            // Nothing is stored before the first message.
            if last.sequence > 0 {
                seen.entry(stream.as_str()).or_default().insert(last);
            }
        }
    }
}
