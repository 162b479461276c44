//! Whatever clients send: each bad request is refused with a problem document that says why, and leaves no trace.

mod rows;

use std::time::{Duration, Instant};

use common::{
    payment::{WebhookSecrets, sandbox::DEVELOPMENT_SECRET},
    streams::StreamName,
    time,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use stories::{Shop, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use self::rows::Row;

/// An id that is no checkout's.
const UNKNOWN: &str = "0198c0de-0000-7000-8000-00000000000a";

const START: &str = "/api/checkout_session";

const GOOD_CART: &str = r#"{"items":[{"sku":"MUG-01","quantity":1}]}"#;

const JSON: &str = "application/json";

fn sign(body: &str) -> String {
    let secrets: WebhookSecrets = DEVELOPMENT_SECRET.parse().expect("a secret");
    secrets.sign(body.as_bytes(), time::now())
}

/// What the streams have ever taken, and what there is of the article that everybody wants.
async fn traces(shop: &Shop) -> (Vec<u64>, Value) {
    let mut taken = Vec::new();
    for stream in [
        StreamName::Commands,
        StreamName::History,
        StreamName::Webhooks,
        StreamName::InventoryCommands,
        StreamName::Inventory,
        StreamName::DeadLetters,
    ] {
        taken.push(shop.messages_ever_in(stream).await);
    }
    (taken, shop.product("MUG-01").await)
}

/// Whether an answer refuses as it must: what is wrong with it.
async fn check(answer: Response, status: u16, code: &str) -> Result<(), String> {
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let (is, body) = (answer.status().as_u16(), answer.text().await.map_err(|error| error.to_string())?);
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    let as_it_must = (is, &*kind) == (status, "application/problem+json")
        && problem["code"] == code
        && problem["status"] == status
        && ["type", "title", "detail", "request_id"].iter().all(|member| problem[member].is_string());
    if as_it_must { Ok(()) } else { Err(format!("expected {status} {code}, got {is} {kind} {body:.300}")) }
}

/// A8, A17, D10, D17, D18, FA3, FA4, FA5, FA8, FW14.
#[tokio::test]
async fn every_bad_request_is_refused_with_a_problem_document_and_leaves_no_trace() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.until_idle().await;
    let before = traces(&shop).await;
    let rows = rows::rows(&shop);

    let (mut wrong, began) = (Vec::new(), Instant::now());
    let count = rows.len();
    for Row { name, request, status, code } in rows {
        let answer = request.send().await.unwrap_or_else(|error| panic!("{name}: no answer: {error:?}"));
        if let Err(how) = check(answer, status, code).await {
            wrong.push(format!("{name}: {how}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(
        began.elapsed() < Duration::from_millis(50) * u32::try_from(count).expect("a few"),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(traces(&shop).await, before);
    shop.is_healthy().await;
}

/// The store page's form is refused with a page for people, and leaves as little.
#[tokio::test]
async fn a_bad_form_is_refused_with_a_page_and_leaves_no_trace() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.until_idle().await;
    let before = traces(&shop).await;
    for (name, form) in [
        ("without an article", "quantity=1"),
        ("of none", "sku=MUG-01&quantity=0"),
        ("of a text", "sku=MUG-01&quantity=two"),
        ("of another article's subject", "sku=MUG-01.x&quantity=1"),
        ("with two articles", "sku=MUG-01&sku=TEE-01&quantity=1"),
        ("with JSON in it", GOOD_CART),
        ("with a bad key", "sku=MUG-01&quantity=1&idempotency_key=a%20b"),
        ("with markup in it", "sku=%3Cscript%3E&quantity=1"),
    ] {
        let request = shop.http.post(format!("{}{START}", shop.shop_url()));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 400, "{name}");
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8", "{name}");
        let page = answer.text().await.expect("a page");
        assert!(page.contains("<h1") && !page.contains("<script>"), "{name}: {page}");
    }
    assert_eq!(traces(&shop).await, before);
    shop.is_healthy().await;
}

/// FA6: methods that a path does not answer are told which it does.
#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let shop = Shop::open(crate::SERVICE).await;
    let one = format!("{START}/{UNKNOWN}");
    for (method, path, allow) in [
        (Method::GET, START.to_owned(), "POST, OPTIONS"),
        (Method::PUT, START.to_owned(), "POST, OPTIONS"),
        (Method::DELETE, one.clone(), "GET, HEAD, OPTIONS"),
        (Method::POST, one.clone(), "GET, HEAD, OPTIONS"),
        (Method::POST, format!("{one}/events"), "GET, HEAD, OPTIONS"),
        (Method::GET, format!("{one}/cancel"), "POST, OPTIONS"),
        (Method::GET, "/payment_webhook".into(), "POST, OPTIONS"),
        (Method::TRACE, "/api/products".into(), "GET, HEAD, OPTIONS"),
        (Method::PATCH, "/api/products/MUG-01".into(), "GET, HEAD, OPTIONS"),
    ] {
        let request = shop.http.request(method.clone(), format!("{}{path}", shop.shop_url()));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers().get("allow").and_then(|value| value.to_str().ok()), Some(allow), "{method} {path}");
        check(answer, 405, "method_not_allowed").await.unwrap_or_else(|how| panic!("{method} {path}: {how}"));
    }
    shop.is_healthy().await;
}

/// Send bytes, read what comes until the connection ends or nothing comes for a while; the status line's number.
async fn send_raw(shop: &Shop, bytes: &[u8]) -> Option<u16> {
    let address = shop.shop_url().replace("http://", "");
    let (mut reading, mut writing) = TcpStream::connect(address).await.expect("connect").into_split();
    // The server may refuse and close before it has read everything.
    let write = async {
        let _ = writing.write_all(bytes).await;
    };
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(15), async {
        let mut part = [0; 4_096];
        while !text.windows(4).any(|end| end == b"\r\n\r\n") {
            match reading.read(&mut part).await {
                Ok(count) if count > 0 => text.extend_from_slice(&part[..count]),
                _ => break,
            }
        }
    });
    let ((), read) = tokio::join!(write, read);
    read.expect("an answer, or the end of the connection, in time");
    String::from_utf8_lossy(&text).split(' ').nth(1)?.parse().ok()
}

/// FA5, FA6: what no client library sends.
#[tokio::test]
async fn requests_that_break_the_rules_of_http_are_refused_and_leave_no_trace() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.until_idle().await;
    let before = traces(&shop).await;
    let head = format!("POST {START} HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n");
    let length = GOOD_CART.len();
    let chunk = format!("{:x}\r\n{}\r\n", 50_000, " ".repeat(50_000));
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    for (name, request, statuses) in [
        (
            "1 MB in chunks",
            format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(20)),
            &[413][..],
        ),
        (
            "a chunk without a size",
            format!("{head}transfer-encoding: chunked\r\n\r\nlarge\r\n{GOOD_CART}\r\n0\r\n\r\n"),
            &[400],
        ),
        ("two lengths", format!("{head}content-length: {length}\r\ncontent-length: 5\r\n\r\n{GOOD_CART}"), &[400]),
        ("a negative length", format!("{head}content-length: -1\r\n\r\n{GOOD_CART}"), &[400]),
        (
            "a length and chunks",
            format!("{head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\n0\r\n\r\n"),
            &[400],
        ),
        ("200 headers", format!("{head}{many}content-length: {length}\r\n\r\n{GOOD_CART}"), &[400, 431]),
        ("a header of 500 KB", format!("{head}x-large: {}\r\n\r\n", "x".repeat(500_000)), &[400, 431]),
        ("a header with a zero in it", format!("{head}x-zero: a\0b\r\n\r\n"), &[400]),
        ("no HTTP", "buy me a mug\r\n\r\n".to_owned(), &[400]),
        ("another version", format!("POST {START} HTTP/3.7\r\nhost: shop\r\n\r\n"), &[400, 505]),
        (
            "a method that nobody knows",
            format!("BUY {START} HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n"),
            &[405],
        ),
        (
            "a way out of the path",
            format!("GET {START}/../../metrics HTTP/1.1\r\nhost: shop\r\naccept: {JSON}\r\n\r\n"),
            &[400, 404],
        ),
    ] {
        let status = send_raw(&shop, request.as_bytes()).await;
        assert!(status.is_some_and(|status| statuses.contains(&status)), "{name}: {status:?}");
    }
    assert_eq!(traces(&shop).await, before);
    shop.is_healthy().await;
}

/// A client that goes away in the middle of its request has asked for nothing.
#[tokio::test]
async fn half_a_request_is_no_request() {
    let shop = Shop::open(crate::SERVICE).await;
    shop.until_idle().await;
    let before = traces(&shop).await;
    let length = GOOD_CART.len() + 1;
    let request = format!(
        "POST {START} HTTP/1.1\r\nhost: shop\r\ncontent-type: {JSON}\r\ncontent-length: {length}\r\n\r\n{GOOD_CART}"
    );
    let address = shop.shop_url().replace("http://", "");
    let mut connection = TcpStream::connect(address).await.expect("connect");
    connection.write_all(request.as_bytes()).await.expect("send");
    connection.shutdown().await.expect("stop sending");
    // It is told, if it listens; the connection ends either way.
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(15), connection.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(!String::from_utf8_lossy(&rest).contains(" 201 "));
    assert_eq!(traces(&shop).await, before);
    shop.is_healthy().await;
}

/// D14: a webhook is taken only when it is stored; until then the provider sends it again.
#[tokio::test]
async fn a_webhook_that_cannot_be_stored_is_not_taken() {
    let mut shop = Shop::open(crate::SERVICE).await;
    shop.fault(json!({ "call": "webhook", "fault": "hold" })).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
    shop.pay(&checkout).await;
    let event = json!({
        "id": "evt_by_hand", "type": "payment_session.paid", "payment_status": "paid",
        "session_id": checkout["payment"]["session_id"], "client_reference_id": id, "amount": 1490, "currency": "eur",
    });
    let event = event.to_string();
    let tell = async |shop: &Shop| {
        let request = shop.http.post(format!("{}/payment_webhook", shop.shop_url())).header("content-type", JSON);
        request.header("Payment-Signature", sign(&event)).body(event.clone()).send().await.expect("an answer")
    };
    shop.server.kill().expect("kill nats-server");
    let answer = tell(&shop).await;
    assert!(answer.headers().contains_key("retry-after"));
    check(answer, 503, "unavailable").await.expect("a refusal that asks to come again");
    shop.server.restart().await.expect("start nats-server again");
    shop.until_ready().await;

    // What was answered 503 is unknown, not refused: the client may have sent it after it was connected again. So this
    // telling is the first or the second, and counts once either way.
    eventually("the webhook is taken", async || (tell(&shop).await.status() == 200).then_some(())).await;
    shop.until_status(&id, "paid").await;
    let again: Value = tell(&shop).await.json().await.expect("JSON");
    assert_eq!(again["duplicate"], true);
    // The provider's own telling of the same payment changes nothing.
    shop.no_faults().await;
    eventually("both tellings are stored", async || (shop.messages_in(StreamName::Webhooks).await == 2).then_some(()))
        .await;
    shop.until_idle().await;
    assert_eq!(shop.event_types(&id).await.len(), 5);
    shop.is_healthy().await;
}
