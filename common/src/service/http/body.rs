//! Reading a request's body: bounded in bytes and in time, whether its length is announced or not.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use warp::{
    Filter, Rejection,
    http::{HeaderMap, StatusCode, header},
};

use super::problem::Problem;

/// How long a body may take to arrive: bodies here are small, so a slower one is a stuck or a hostile client.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes that all bodies together may have brought before they are whole: many hundred times what honest clients have under
/// way, and little beside what ten thousand connections with a quarter of a megabyte each would take.
const MOST_BYTES_UNDER_WAY: usize = 64 * 1024 * 1024;

/// What bodies of this process that are not whole yet hold.
static BYTES_UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// How much of a body that is too large is read and thrown away, and for how long, so that the client has sent it
/// and reads the refusal instead of a broken connection.
const THROW_AWAY_BYTES: usize = 16 * 1024 * 1024;
const THROW_AWAY_TIME: Duration = Duration::from_secs(2);

/// The request's whole body, or why it cannot be had: 413 beyond `limit_bytes` (chunked ones too), 408 when it comes
/// too slowly, 415 when it is compressed, 400 when it breaks off, 503 when too many large ones are under way.
///
/// Put it after path and method: a body can be taken only once.
pub fn body(
    limit_bytes: usize,
) -> impl Filter<Extract = (Result<Bytes, Problem>,), Error = Rejection> + Clone + Send + Sync + 'static {
    warp::header::headers_cloned().and(warp::body::stream()).then(move |headers: HeaderMap, parts| async move {
        if is_compressed(&headers) {
            return Err(Problem::unsupported_media_type("Send the body without Content-Encoding."));
        }
        tokio::time::timeout(BODY_DEADLINE, collect(parts, limit_bytes))
            .await
            .unwrap_or_else(|_| Err(Problem::of_status(StatusCode::REQUEST_TIMEOUT)))
    })
}

/// The media type of a body in lower case without its parameters, such as `application/json`; `None` when there is
/// no `Content-Type` or it cannot be read.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase())
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

async fn collect<B: Buf>(
    parts: impl Stream<Item = Result<B, warp::Error>>,
    limit_bytes: usize,
) -> Result<Bytes, Problem> {
    let mut parts = pin!(parts);
    let (mut whole, mut held) = (BytesMut::new(), Held::new(&BYTES_UNDER_WAY));
    while let Some(part) = parts.next().await {
        let mut part = part.map_err(|_| Problem::validation("The body broke off before its end."))?;
        if whole.len().saturating_add(part.remaining()) > limit_bytes {
            drop(whole);
            throw_away(parts.as_mut()).await;
            return Err(Problem::too_large(limit_bytes));
        }
        held.take(part.remaining(), MOST_BYTES_UNDER_WAY)?;
        whole.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    Ok(whole.freeze())
}

/// One body's share of what all of them hold.
struct Held {
    all: &'static AtomicUsize,
    own: usize,
}

impl Held {
    fn new(all: &'static AtomicUsize) -> Self {
        Self { all, own: 0 }
    }

    fn take(&mut self, bytes: usize, most: usize) -> Result<(), Problem> {
        self.own += bytes;
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= most {
            return Ok(());
        }
        metrics::counter!("http_bodies_shed_total").increment(1);
        Err(Problem::unavailable("Too many large requests are being received; try again in a moment."))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

async fn throw_away<B: Buf>(mut parts: impl Stream<Item = Result<B, warp::Error>> + Unpin) {
    let reading = async {
        let mut thrown = 0_usize;
        while let Some(Ok(part)) = parts.next().await {
            thrown = thrown.saturating_add(part.remaining());
            if thrown > THROW_AWAY_BYTES {
                break;
            }
        }
    };
    // However it ends, the refusal is sent.
    let _ = tokio::time::timeout(THROW_AWAY_TIME, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_bound_and_give_their_share_back() {
        static ALL: AtomicUsize = AtomicUsize::new(0);
        let (mut first, mut second) = (Held::new(&ALL), Held::new(&ALL));
        assert!(first.take(60, 100).is_ok());
        assert!(second.take(40, 100).is_ok());
        assert_eq!(second.take(1, 100).expect_err("full").status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(second.take(1, 100).is_ok());
        drop(second);
        assert_eq!(ALL.load(Ordering::Relaxed), 0);
    }
}
