//! The last sequences of the streams that only ever grow, looked at again and again while servers die.

use std::{collections::BTreeMap, time::Duration};

use common::{nats::Nats, streams::StreamName};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The streams whose messages are never taken away.
const STREAMS: [StreamName; 3] = [StreamName::History, StreamName::Inventory, StreamName::Webhooks];

/// What was seen, in order, by the stream's name.
pub(super) type LastSequences = BTreeMap<&'static str, Vec<u64>>;

/// Look until asked to stop, and once more at the end.
pub(super) async fn watch(nats: Nats, stop: CancellationToken) -> LastSequences {
    let mut seen = LastSequences::new();
    while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
        look(&nats, &mut seen).await;
    }
    look(&nats, &mut seen).await;
    seen
}

async fn look(nats: &Nats, seen: &mut LastSequences) {
    for stream in nats.shards.all_streams(&STREAMS) {
        // A server that is down has nothing to say.
        if let Ok(info) = nats.jetstream.get_stream(stream.as_str()).await {
            seen.entry(stream.as_str()).or_default().push(info.cached_info().state.last_sequence);
        }
    }
}
