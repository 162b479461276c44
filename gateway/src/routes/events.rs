//! `GET /api/checkout_session/{id}/events`: what happens in a checkout, as server-sent events.
//!
//! The id of an event is its record's sequence in the stream, so a client that lost its connection goes on where it
//! was, on any gateway.

use std::{convert::Infallible, sync::Arc, time::Duration};

use common::service::http::Problem;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use warp::{Filter, Reply as _, filters::BoxedFilter, reply::Response, sse::Event};

use super::{asked, read_id, unknown_checkout};
use crate::{
    app::{App, Asked},
    checkout_view::{CheckoutView, Entry},
    follow::Follower,
    reply::{self, EntryBody},
};

/// How often a silent connection gets a comment: shorter than the idle time-outs of load balancers.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events that may wait for a slow client; a checkout has about this many altogether.
const BACKLOG: usize = 16;

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "checkout_session" / String / "events")
        .and(warp::get())
        .and(asked(app))
        .then(|id: String, app: Arc<App>, asked: Asked| async move { reply::send(events(app, &id, &asked).await) })
        .boxed()
}

/// What happens in a checkout, as it happens.
#[utoipa::path(
    get, path = "/api/checkout_session/{id}/events", tag = "checkout",
    params(
        ("id" = String, Path, description = "The checkout's id"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that is known: the stream goes on after it"),
    ),
    responses(
        (status = 200, description = "Each event is one record of the history. The stream ends when nothing more is expected", body = EntryBody, content_type = "text/event-stream"),
        (status = 204, description = "Nothing more is expected, and everything is known: do not connect again"),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 404, description = "not_found", body = reply::ProblemBody),
        (status = 429, description = "rate_limited", body = reply::ProblemBody),
        (status = 503, description = "unavailable", body = reply::ProblemBody),
    )
)]
pub(crate) async fn events(app: Arc<App>, id: &str, asked: &Asked) -> Result<Response, Problem> {
    app.admit(asked)?;
    let id = read_id(id)?;
    let after = last_event_id(&asked.headers)?;
    let follower = app.follow(id).await?;
    if follower.view().is_none() && app.checkout(id).await?.is_none() {
        return Err(unknown_checkout(id));
    }
    if follower.view().is_some_and(|view| view.is_settled() && view.revision <= after) {
        // The one status that tells a browser's EventSource not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (events, stream) = mpsc::channel(BACKLOG);
    tokio::spawn(tell(app, follower, after, events));
    let stream = warp::sse::keep_alive().interval(KEEP_ALIVE).stream(ReceiverStream::new(stream));
    let mut response = warp::sse::reply(stream).into_response();
    reply::set(&mut response, header::CACHE_CONTROL, "no-cache, no-transform");
    // Proxies of the nginx kind would otherwise gather events before they pass them on.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Problem::validation("The request is not valid; see errors.")
            .with_error("Last-Event-ID", "must be the id of an event that came from here")
    })
}

/// Tell everything after a sequence until nothing more is expected, the client has gone, or the gateway stops.
async fn tell(app: Arc<App>, mut follower: Follower, mut after: u64, events: mpsc::Sender<Result<Event, Infallible>>) {
    loop {
        if let Some(view) = follower.view() {
            for entry in entries_after(view, after) {
                let Some(event) = event(entry) else { return };
                if events.send(Ok(event)).await.is_err() {
                    return;
                }
                after = entry.sequence;
            }
            if view.is_settled() {
                return;
            }
        }
        tokio::select! {
            changed = follower.changed() => if let Err(error) = changed {
                tracing::warn!(%error, "an event stream ends: the client will come back");
                return;
            },
            () = events.closed() => return,
            () = app.stop.cancelled() => return,
        }
    }
}

fn entries_after(view: &CheckoutView, after: u64) -> impl Iterator<Item = &Entry> {
    view.timeline.iter().filter(move |entry| entry.sequence > after)
}

/// One record as an event without a name, so that `onmessage` gets it; JSON keeps line ends out of the framing.
fn event(entry: &Entry) -> Option<Event> {
    Event::default().id(entry.sequence.to_string()).json_data(EntryBody::from(entry)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout_view::tests::{Story, awaiting_payment};
    use common::contracts::checkout::{CheckoutEvent, CheckoutStatus};

    #[test]
    fn an_event_is_one_line_of_json_with_its_sequence_as_id() {
        let view = awaiting_payment().view();
        let text = event(&view.timeline[2]).expect("an event").to_string();
        assert_eq!(
            text,
            "data:{\"sequence\":30,\"index\":2,\"at\":\"2027-01-15T08:00:00Z\",\"status\":\"awaiting_payment\",\
             \"types\":[\"payment_session_opened\"],\"sentence\":\"The payment page was opened.\"}\nid:30\n\n"
        );
    }

    #[test]
    fn a_line_end_in_a_providers_words_cannot_break_the_framing() {
        let reason = "no\r\n\nid:999\nevent:x".to_owned();
        let story = Story::default().then(CheckoutStatus::Settling, vec![CheckoutEvent::PaymentRefused { reason }]);
        let text = event(&story.view().timeline[0]).expect("an event").to_string();
        assert_eq!(text.matches('\n').count(), 3, "{text:?}");
        assert!(!text.contains('\r'), "{text:?}");
    }

    #[test]
    fn a_client_goes_on_after_what_it_knows() {
        let view = awaiting_payment().view();
        let sequences = |after| entries_after(&view, after).map(|entry| entry.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(0), [10, 20, 30]);
        assert_eq!(sequences(20), [30]);
        assert!(sequences(30).is_empty());
    }

    #[test]
    fn a_last_event_id_is_a_number() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", value.parse().expect("a header value"));
            last_event_id(&headers)
        };
        assert_eq!(last_event_id(&HeaderMap::new()), Ok(0));
        assert_eq!(read("30"), Ok(30));
        for bad in ["", "x", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(read(bad).expect_err(bad).code(), "validation", "{bad}");
        }
    }
}
