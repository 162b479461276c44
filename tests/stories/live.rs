//! Watching a checkout: long polls and server-sent events, on any gateway.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::Value;
use stories::{Service, Shop, ShopOptions};

async fn open() -> Shop {
    Shop::open_with(crate::SERVICE, ShopOptions { gateways: 2, ..ShopOptions::default() }).await
}

fn id(checkout: &Value) -> &str {
    checkout["workflow_id"].as_str().expect("an id")
}

/// Ask a gateway for a checkout, with what is known and how many seconds to wait for a change of it.
async fn poll(shop: &Shop, gateway: usize, id: &str, known: Option<&str>, wait: u64) -> Response {
    let url = format!("{}/api/checkout_session/{id}?wait={wait}", shop.gateway_url(gateway));
    let request = shop.http.get(url);
    let request = known.iter().fold(request, |request, etag| request.header("If-None-Match", *etag));
    request.send().await.expect("the gateway answers")
}

fn etag(answer: &Response) -> String {
    answer.headers().get("etag").expect("an ETag").to_str().expect("ASCII").to_owned()
}

/// The ETag is the sequence of the newest record, the same on every gateway, and changes with every record.
#[tokio::test]
async fn the_etag_is_the_revision_of_the_history() {
    let shop = open().await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let revision = async || format!("\"{}\"", shop.records(id(&checkout)).await.last().expect("a record").sequence);
    let first = revision().await;
    for gateway in [0, 1] {
        assert_eq!(etag(&poll(&shop, gateway, id(&checkout), None, 0).await), first);
    }
    shop.pay(&checkout).await;
    shop.until_status(id(&checkout), "paid").await;
    let last = revision().await;
    assert_ne!(first, last);
    for gateway in [0, 1] {
        let answer = poll(&shop, gateway, id(&checkout), Some(&first), 30).await;
        assert_eq!((answer.status().as_u16(), etag(&answer)), (200, last.clone()), "what has changed is told at once");
        let answer = poll(&shop, gateway, id(&checkout), Some(&last), 0).await;
        assert_eq!((answer.status().as_u16(), etag(&answer)), (304, last.clone()));
        assert_eq!(answer.text().await.expect("a body"), "");
    }
    shop.is_healthy().await;
}

/// Whoever asks for a change without saying what is known is not kept waiting when the checkout has ended.
#[tokio::test]
async fn after_the_end_a_long_poll_without_an_etag_is_answered_at_once() {
    let shop = open().await;
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.pay(&checkout).await;
    shop.until_status(id(&checkout), "paid").await;
    for gateway in [0, 1] {
        let answer = tokio::time::timeout(Duration::from_secs(20), poll(&shop, gateway, id(&checkout), None, 60)).await;
        let answer = answer.expect("an answer before the time is over");
        let known = etag(&answer);
        assert_eq!(answer.json::<Value>().await.expect("JSON")["status"], "paid");
        // With the ETag it waits: a refund by hand may come.
        assert_eq!(poll(&shop, gateway, id(&checkout), Some(&known), 1).await.status(), 304);
    }
    shop.is_healthy().await;
}

/// Whoever waits on any gateway is told of the next change when it happens, and 304 when none does.
#[tokio::test]
async fn a_long_poll_ends_with_the_change_or_with_the_time() {
    let shop = open().await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let known = etag(&poll(&shop, 0, id(&checkout), None, 0).await);

    let began = Instant::now();
    let answer = poll(&shop, 1, id(&checkout), Some(&known), 1).await;
    assert_eq!((answer.status().as_u16(), etag(&answer)), (304, known.clone()));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    let began = Instant::now();
    let (first, second, without_etag, ()) = tokio::join!(
        poll(&shop, 0, id(&checkout), Some(&known), 60),
        poll(&shop, 1, id(&checkout), Some(&known), 60),
        poll(&shop, 1, id(&checkout), None, 60),
        async {
            // So that the polls wait before there is something to tell; if not, they are answered all the same.
            tokio::time::sleep(Duration::from_millis(200)).await;
            shop.pay(&checkout).await;
        },
    );
    for answer in [first, second, without_etag] {
        assert_eq!(answer.status(), 200);
        assert_ne!(etag(&answer), known);
        let view: Value = answer.json().await.expect("JSON");
        assert!(["settling", "paid"].contains(&view["status"].as_str().expect("a status")), "{view}");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    shop.until_status(id(&checkout), "paid").await;
    shop.is_healthy().await;
}

/// Whoever only wants to know how it ends asks once, on any gateway, whatever is known and whatever happens before.
#[tokio::test]
async fn a_long_poll_until_the_end_is_answered_with_the_end() {
    let shop = open().await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let known = etag(&poll(&shop, 0, id(&checkout), None, 0).await);
    let until_end = async |gateway: usize, known: Option<&str>, wait: u64| {
        let address = format!("{}/api/checkout_session/{}", shop.gateway_url(gateway), id(&checkout));
        let request = shop.http.get(format!("{address}?wait={wait}&until=end"));
        let request = known.iter().fold(request, |request, etag| request.header("If-None-Match", *etag));
        request.send().await.expect("the gateway answers")
    };
    assert_eq!(until_end(0, Some(&known), 1).await.status(), 304, "nothing has happened in time");
    // What is not known yet is no end either.
    let answer = until_end(1, Some("\"1\""), 1).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.expect("JSON")["status"], "awaiting_payment");

    let began = Instant::now();
    let (first, second, without_etag, ()) =
        tokio::join!(until_end(0, Some(&known), 60), until_end(1, Some("\"1\""), 60), until_end(1, None, 60), async {
            // So that the polls wait before there is something to tell; if not, they are answered all the same.
            tokio::time::sleep(Duration::from_millis(200)).await;
            shop.pay(&checkout).await;
        },);
    for answer in [first, second, without_etag] {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json::<Value>().await.expect("JSON")["status"], "paid");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // It has ended: nobody waits.
    let began = Instant::now();
    let answer = until_end(0, Some(&known), 60).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(until_end(1, Some(&etag(&answer)), 60).await.status(), 304);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    shop.is_healthy().await;
}

/// A stream of server-sent events that is being read.
struct Events {
    answer: Response,
    text: String,
}

impl Events {
    async fn of(shop: &Shop, gateway: usize, id: &str, after: Option<u64>) -> Self {
        let url = format!("{}/api/checkout_session/{id}/events", shop.gateway_url(gateway));
        let request =
            after.iter().fold(shop.http.get(url), |request, id| request.header("Last-Event-ID", id.to_string()));
        let answer = request.send().await.expect("the gateway answers");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, text: String::new() }
    }

    /// The next event's id and data; `None` when the stream has ended.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let read = read(event);
                self.text = rest.to_owned();
                match read {
                    Some(read) => return Some(read),
                    None => continue,
                }
            }
            let patience = Duration::from_secs(30);
            let chunk = tokio::time::timeout(patience, self.answer.chunk()).await.expect("an event in time");
            self.text += std::str::from_utf8(&chunk.expect("the connection stands")?).expect("UTF-8");
        }
    }
}

/// One event; `None` for a comment that keeps the connection alive.
fn read(event: &str) -> Option<(u64, Value)> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
    let id = field("id:")?.trim().parse().expect("a sequence");
    Some((id, serde_json::from_str(field("data:").expect("data").trim()).expect("JSON")))
}

/// The whole history from record 0, the rest of it live, and then the end. On the other gateway it goes on behind what is
/// known, and whoever knows everything is told not to come back.
#[tokio::test]
async fn events_tell_the_whole_history_and_go_on_where_they_were_on_another_gateway() {
    let shop = open().await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let mut live = Events::of(&shop, 0, id(&checkout), None).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(live.next().await.expect("it has not ended"));
    }
    let mut interrupted = Events::of(&shop, 0, id(&checkout), None).await;
    let (known, _) = interrupted.next().await.expect("the first record");
    drop(interrupted);
    let mut resumed_early = Events::of(&shop, 1, id(&checkout), Some(known)).await;

    shop.pay(&checkout).await;
    while let Some(event) = live.next().await {
        told.push(event);
    }
    let records = shop.records(id(&checkout)).await;
    let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(told.iter().map(|(id, _)| *id).collect::<Vec<_>>(), sequences);
    assert!(told.iter().enumerate().all(|(place, (_, data))| data["index"] == place), "{told:?}");
    let types: Vec<&str> =
        told.iter().flat_map(|(_, data)| data["types"].as_array().expect("types")).filter_map(Value::as_str).collect();
    assert_eq!(types, shop.event_types(id(&checkout)).await);
    assert_eq!(told.last().expect("events").1["status"], "paid");

    let mut resumed_late = Events::of(&shop, 1, id(&checkout), Some(known)).await;
    for resumed in [&mut resumed_early, &mut resumed_late] {
        for expected in &told[1..] {
            assert_eq!(resumed.next().await.as_ref(), Some(expected));
        }
        assert_eq!(resumed.next().await, None, "nothing comes after the end");
    }
    let url = format!("{}/api/checkout_session/{}/events", shop.gateway_url(1), id(&checkout));
    let last = sequences.last().expect("records").to_string();
    let nothing_more = shop.http.get(url).header("Last-Event-ID", last).send().await.expect("an answer");
    assert_eq!(nothing_more.status(), 204);
    shop.is_healthy().await;
}

/// Those who watch do not keep a gateway from stopping, and go on at another one.
#[tokio::test]
async fn a_gateway_that_is_asked_to_stop_lets_those_go_who_wait() {
    let mut shop = open().await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let known = etag(&poll(&shop, 0, id(&checkout), None, 0).await);
    let mut events = Events::of(&shop, 0, id(&checkout), None).await;
    let mut last = 0;
    for _ in 0..3 {
        last = events.next().await.expect("it has not ended").0;
    }
    let began = Instant::now();
    let (answer, ()) = tokio::join!(poll(&shop, 0, id(&checkout), Some(&known), 60), async {
        // So that the poll waits.
        tokio::time::sleep(Duration::from_millis(200)).await;
        shop.signal(Service::Gateway(0), rustix::process::Signal::TERM);
    });
    assert_eq!(answer.status(), 304);
    assert_eq!(events.next().await, None);
    assert!(shop.exit_status(Service::Gateway(0)).await.success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let mut events = Events::of(&shop, 1, id(&checkout), Some(last)).await;
    shop.start(Service::Gateway(0));
    shop.until_ready().await;
    shop.pay(&checkout).await;
    assert_eq!(events.next().await.expect("it goes on").1["index"], 3);
    shop.until_status(id(&checkout), "paid").await;
    shop.is_healthy().await;
}
