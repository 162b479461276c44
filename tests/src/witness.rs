//! Somebody who remembers what was stored, and looks whether it still is.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use common::{
    nats::{
        Nats,
        read::{self, Stored},
    },
    streams::StreamName,
};
use futures_util::StreamExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{shop::Shop, wait::eventually};

/// Records per read.
const BATCH: usize = 500;

/// The streams that hold the truth, and must be the same on every node.
const TRUTHS: [StreamName; 3] = [StreamName::History, StreamName::Inventory, StreamName::Webhooks];

/// Remembers every history record that was told live: a record is told only after it is stored.
#[derive(Debug)]
pub struct Witness {
    stop: CancellationToken,
    listening: JoinHandle<BTreeMap<u64, Bytes>>,
}

impl Witness {
    /// Listen at one node, or at whichever.
    pub async fn listen(client: &Client) -> Self {
        let mut told = client.subscribe("live.history.>").await.expect("listen to the histories");
        client.flush().await.expect("the server hears");
        let stop = CancellationToken::new();
        let until = stop.clone();
        let listening = tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            loop {
                let message = tokio::select! {
                    () = until.cancelled() => return seen,
                    message = told.next() => message,
                };
                let Some(message) = message else { return seen };
                let headers = message.headers.unwrap_or_default();
                let sequence =
                    headers.get(async_nats::header::NATS_SEQUENCE).and_then(|text| text.as_str().parse().ok());
                let before =
                    seen.insert(sequence.expect("a republished record has a sequence"), message.payload.clone());
                assert!(
                    before.as_ref().is_none_or(|before| *before == message.payload),
                    "sequence {sequence:?} was used twice: {before:?} and {:?}",
                    message.payload
                );
            }
        });
        Self { stop, listening }
    }

    /// Everything that was told is stored, under the sequence that it was told with; how many records that were.
    ///
    /// # Panics
    /// When something is gone or is another.
    pub async fn finds_everything(self, shop: &Shop) -> usize {
        self.stop.cancel();
        let told = self.listening.await.expect("the witness has not seen a sequence twice");
        let stored: BTreeMap<u64, Bytes> = whole(&shop.nats, StreamName::History)
            .await
            .into_iter()
            .map(|record| (record.sequence, record.payload))
            .collect();
        for (sequence, payload) in &told {
            assert_eq!(stored.get(sequence), Some(payload), "record {sequence} was stored and is not there any more");
        }
        assert!(!told.is_empty(), "the witness has heard nothing");
        told.len()
    }
}

/// A connection to one node that never leaves it for another.
///
/// # Panics
/// When the node does not answer.
pub async fn connect_to_node(shop: &Shop, node: usize) -> Nats {
    let url = shop.server.nodes()[node].client_url();
    let options = ConnectOptions::new().ignore_discovered_servers().request_timeout(Some(Duration::from_secs(5)));
    let client = eventually(&format!("node {node} answers"), async || options.clone().connect(&url).await.ok()).await;
    Nats::new(client)
}

/// Every node holds the same records in every stream that matters. A direct get is answered by the replica of the node
/// that the asker is connected to.
///
/// # Panics
/// When they differ for a minute.
pub async fn replicas_agree(shop: &Shop) {
    let mut nodes = Vec::new();
    for node in 0..shop.server.nodes().len() {
        nodes.push(connect_to_node(shop, node).await);
    }
    for stream in TRUTHS {
        eventually(&format!("every node holds the same {}", stream.as_str()), async || {
            let mut contents = Vec::new();
            for nats in &nodes {
                let stored = read_whole(nats, stream).await.ok()?;
                contents
                    .push(stored.into_iter().map(|one| (one.sequence, one.subject, one.payload)).collect::<Vec<_>>());
            }
            contents.iter().all(|content| *content == contents[0]).then_some(())
        })
        .await;
    }
}

/// Which server leads a stream, as far as it can be asked.
pub async fn leader_of(nats: &Nats, stream: StreamName) -> Option<String> {
    let stream = nats.jetstream.get_stream(stream.as_str()).await.ok()?;
    stream.cached_info().cluster.as_ref()?.leader.clone()
}

async fn whole(nats: &Nats, stream: StreamName) -> Vec<Stored> {
    eventually(&format!("{} can be read", stream.as_str()), async || read_whole(nats, stream).await.ok()).await
}

async fn read_whole(nats: &Nats, stream: StreamName) -> Result<Vec<Stored>, read::ReadError> {
    let (mut all, mut from) = (Vec::new(), 1);
    loop {
        let batch = read::stretch(nats, stream, from, BATCH, ">").await?;
        from = batch.messages.last().map_or(from, |last| last.sequence + 1);
        all.extend(batch.messages);
        if !batch.more {
            return Ok(all);
        }
    }
}
