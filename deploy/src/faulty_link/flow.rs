//! One direction of a connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How bytes pass in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// At once.
    Open,
    /// In order, each after this time.
    Delayed(Duration),
    /// At most about this many bytes a second, per connection.
    Throttled {
        /// Less than 20 is taken as 20: one byte in each slice of a second.
        bytes_per_second: usize,
    },
    /// Not at all for now; what was sent meanwhile passes when the flow opens again. A half-open connection, and a
    /// partition that heals.
    Held,
    /// Not at all, and what was sent is thrown away. The connection is cut when the flow changes, because what follows
    /// would make no sense without it.
    Lost,
}

/// How many pieces a throttled second is cut into: small enough to look like a slow line, few enough to cost nothing.
const SLICES_PER_SECOND: usize = 20;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Chunks under way in one direction: 1 MiB, more than a socket's buffer, so that a delay does not throttle.
const CHUNKS_UNDER_WAY: usize = 64;

struct Chunk {
    read_at: Instant,
    bytes: Bytes,
}

/// Pass bytes on until the source ends, then break the connection.
pub(super) async fn pass_on(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    flow: watch::Receiver<Flow>,
    broken: CancellationToken,
) {
    let (sender, receiver) = mpsc::channel(CHUNKS_UNDER_WAY);
    tokio::join!(read(from, sender), write(to, receiver, flow));
    broken.cancel();
}

async fn read(mut from: OwnedReadHalf, chunks: mpsc::Sender<Chunk>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let chunk = Chunk { read_at: Instant::now(), bytes: buffer.split().freeze() };
                if chunks.send(chunk).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut chunks: mpsc::Receiver<Chunk>, mut flow: watch::Receiver<Flow>) {
    while let Some(chunk) = chunks.recv().await {
        if write_chunk(&mut to, chunk, &mut flow).await.is_none() {
            return;
        }
    }
}

/// Gives nothing when the connection must end.
async fn write_chunk(to: &mut OwnedWriteHalf, chunk: Chunk, flow: &mut watch::Receiver<Flow>) -> Option<()> {
    let mut left = chunk.bytes;
    while !left.is_empty() {
        let now = *flow.borrow_and_update();
        match now {
            Flow::Open => {
                to.write_all(&left).await.ok()?;
                left.clear();
            }
            Flow::Delayed(delay) => tokio::select! {
                () = sleep_until(chunk.read_at + delay) => {
                    to.write_all(&left).await.ok()?;
                    left.clear();
                }
                changed = flow.changed() => changed.ok()?,
            },
            Flow::Throttled { bytes_per_second } => {
                let slice = (bytes_per_second / SLICES_PER_SECOND).clamp(1, left.len());
                to.write_all(&left.split_to(slice)).await.ok()?;
                sleep(Duration::from_secs(1) / u32::try_from(SLICES_PER_SECOND).expect("a small number")).await;
            }
            Flow::Held => flow.changed().await.ok()?,
            Flow::Lost => {
                flow.changed().await.ok()?;
                return None;
            }
        }
    }
    Some(())
}
