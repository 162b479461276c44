//! Is there room to carry what is started to its end? A stream refuses what goes beyond its limit, also the end of a
//! checkout that runs already. So new checkouts are refused while the last part of a stream is left to those that run.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{nats::Nats, service::http::Problem, streams::StreamName};
use http::StatusCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::live::Live;

/// What a checkout writes to on its way to its end.
const NEEDED: [StreamName; 5] = [
    StreamName::Commands,
    StreamName::History,
    StreamName::InventoryCommands,
    StreamName::Inventory,
    StreamName::Webhooks,
];

/// From here on the rest of a stream is left to checkouts that run already. On 1 GB of storage that is 40 MB of histories,
/// the ends (about 3 kB each) of more than ten thousand open checkouts.
const FULL_FOR_NEW_PERCENT: u64 = 90;

/// How often the server is asked. At ten thousand starts per second some 10 MB are written in between.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longer than one look may take; what was seen before counts until then.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// Room is made by people, or by what runs coming to its end.
const COME_BACK_AFTER: Duration = Duration::from_secs(30);

/// A stream whose last part is left to what runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded {
    stream: StreamName,
    used_percent: u64,
}

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, used_percent } = self;
        write!(
            f,
            "stream {} is {used_percent} % full, and what is left is for checkouts that run already: raise its limit \
             (`deploy provision --storage-bytes`)",
            stream.as_str()
        )
    }
}

/// What was last seen; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room {
    crowded: Arc<RwLock<Option<Crowded>>>,
    cannot_see: Arc<AtomicBool>,
}

impl Room {
    /// The stream that has too little room for new checkouts, if there is one.
    pub(crate) fn crowded(&self) -> Option<Crowded> {
        *self.crowded.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuse a new checkout that might not come to its end.
    pub(crate) fn must_have_room(&self) -> Result<(), Problem> {
        let Some(Crowded { stream, used_percent }) = self.crowded() else { return Ok(()) };
        metrics::counter!("gateway_shed_total").increment(1);
        tracing::warn!(stream = stream.as_str(), used_percent, "refused a new checkout: its end might not fit");
        let detail = "The order book is almost full, and what is left is for orders that run already; try again later.";
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with_retry_after(COME_BACK_AFTER))
    }

    /// Ask the server how full the streams are, again and again until `stop`.
    pub(crate) async fn keep_looking(self, nats: Nats, live: Live, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            self.look(&nats, &live).await;
        }
    }

    /// Ask once. While the server cannot be asked nothing can be stored either, and what was seen before counts.
    pub(crate) async fn look(&self, nats: &Nats, live: &Live) {
        match tokio::time::timeout(LOOK_PATIENCE, fullest(nats, live)).await {
            Ok(Ok(seen)) => {
                let crowded = Some(seen).filter(|seen| seen.used_percent >= FULL_FOR_NEW_PERCENT);
                let before =
                    std::mem::replace(&mut *self.crowded.write().unwrap_or_else(PoisonError::into_inner), crowded);
                match (before, crowded) {
                    (None, Some(crowded)) => tracing::error!("{crowded}; new checkouts are refused"),
                    (Some(_), None) => tracing::info!("there is room again: new checkouts are taken"),
                    _ => {}
                }
            }
            Ok(Err(error)) => return self.blind(&format!("{error:#}")),
            Err(_) => return self.blind("no answer"),
        }
        self.cannot_see.store(false, Ordering::Relaxed);
    }

    /// Say it once, not every second.
    fn blind(&self, why: &str) {
        if !self.cannot_see.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "cannot ask how full the streams are: is there a connection, and may this user ask for STREAM.INFO?"
            );
        }
    }
}

/// The stream with the least room left. How far the histories go is passed on to whoever has heard of them.
async fn fullest(nats: &Nats, live: &Live) -> anyhow::Result<Crowded> {
    let mut fullest = Crowded { stream: NEEDED[0], used_percent: 0 };
    for stream in nats.shards.all_streams(&NEEDED) {
        let asked_at = Instant::now();
        let info = nats.jetstream.get_stream_no_info(stream.as_str()).await?.get_info().await?;
        if stream.kind() == StreamName::History {
            live.histories_reach(stream, info.state.last_sequence, asked_at);
        }
        let used_percent = used_percent(info.state.bytes, info.config.max_bytes);
        metrics::gauge!("gateway_stream_used_percent", "stream" => stream.as_str())
            .set(f64::from(u32::try_from(used_percent).unwrap_or(u32::MAX)));
        if used_percent > fullest.used_percent {
            fullest = Crowded { stream, used_percent };
        }
    }
    Ok(fullest)
}

/// How full a stream is; one without a limit never is.
fn used_percent(bytes: u64, max_bytes: i64) -> u64 {
    match u64::try_from(max_bytes) {
        Ok(limit) if limit > 0 => bytes.saturating_mul(100) / limit,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(crowded: Option<Crowded>) -> Room {
        Room { crowded: Arc::new(RwLock::new(crowded)), ..Room::default() }
    }

    #[test]
    fn a_stream_is_as_full_as_its_limit_says() {
        assert_eq!(used_percent(89, 100), 89);
        assert_eq!(used_percent(120, 100), 120);
        assert_eq!(used_percent(u64::MAX, 100), u64::MAX / 100);
        assert_eq!((used_percent(5, -1), used_percent(5, 0)), (0, 0), "no limit");
    }

    #[test]
    fn a_new_checkout_is_refused_with_when_to_come_back_and_the_operator_is_told_what_to_do() {
        assert!(room(None).must_have_room().is_ok());
        let crowded = Crowded { stream: StreamName::History, used_percent: 93 };
        let refused = room(Some(crowded)).must_have_room().expect_err("no room");
        assert_eq!((refused.status(), refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
        let response = warp::Reply::into_response(refused);
        assert_eq!(response.headers()[http::header::RETRY_AFTER], "30");
        let told = crowded.to_string();
        assert!(told.contains("HISTORY is 93 % full") && told.contains("--storage-bytes"), "{told}");
    }
}
