//! Reading a request's body: bounded in bytes and in time, whether its length is announced or not.

use std::{pin::pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use warp::{
    Filter, Rejection,
    http::{HeaderMap, StatusCode, header},
};

use super::problem::Problem;

/// How long a body may take to arrive: bodies here are small, so a slower one is a stuck or a hostile client.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// How much of a body that is too large is read and thrown away, and for how long, so that the client has sent it
/// and reads the refusal instead of a broken connection.
const THROW_AWAY_BYTES: usize = 16 * 1024 * 1024;
const THROW_AWAY_TIME: Duration = Duration::from_secs(2);

/// The request's whole body, or why it cannot be had: 413 beyond `limit_bytes` (chunked ones too), 408 when it comes
/// too slowly, 415 when it is compressed, 400 when it breaks off.
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
    let mut whole = BytesMut::new();
    while let Some(part) = parts.next().await {
        let mut part = part.map_err(|_| Problem::validation("The body broke off before its end."))?;
        if whole.len().saturating_add(part.remaining()) > limit_bytes {
            drop(whole);
            throw_away(parts.as_mut()).await;
            return Err(Problem::too_large(limit_bytes));
        }
        whole.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    Ok(whole.freeze())
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
