//! The whole gateway over real HTTP, with a catalogue in memory and a NATS server that cannot be reached: what is
//! refused before anything is stored, and what is said when nothing can be stored.

mod webhooks;

use std::time::Duration;

use common::{
    high_water::HighWaterOptions,
    nats::Nats,
    payment::{PaymentProvider, WebhookSecrets, sandbox},
    service::http::{HttpOptions, HttpServer},
    time,
};
use rstest::rstest;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{catalogue::tests::three_articles, live::Live};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const TOKEN: &str = "the-operators-token";
const SECRET: &str = "the-webhook-secret-1";
/// The one before it: still valid while the provider is being told of the new one.
const OLD_SECRET: &str = "the-webhook-secret-0";

/// A gateway that serves, and stops when it is dropped.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An answer as a client sees it.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.head, self.body))
    }

    fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&Value::from(code), &Value::from(status)));
        assert!(problem["request_id"].is_string() && problem["detail"].is_string(), "{problem}");
    }
}

async fn unreachable_nats() -> Nats {
    let client = async_nats::ConnectOptions::new().retry_on_initial_connect().connect("127.0.0.1:1").await;
    Nats::new(client.expect("connecting goes on in the background"))
}

fn provider() -> Arc<dyn PaymentProvider> {
    // Calls of the provider are not made here; its address only has to be one.
    let secrets: WebhookSecrets = format!("{SECRET},{OLD_SECRET}").parse().expect("two secrets");
    Arc::new(sandbox::SandboxProvider::new("http://127.0.0.1:1", secrets, Duration::from_secs(1)).expect("a provider"))
}

async fn start(config: Config) -> Running {
    let stop = CancellationToken::new();
    let config = Config {
        operator_token: Some(TOKEN.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})),
        http: HttpOptions { drain_timeout: Duration::ZERO, ..HttpOptions::default() },
        ..config
    };
    let nats = unreachable_nats().await;
    let app = App::of_parts(config, nats.clone(), provider(), Live::default(), three_articles(), stop.clone())
        .expect("settings that can be used");
    let high_water = HighWater::check(&HighWaterOptions::default(), &nats, &[]).await.expect("nothing to compare");
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), "--listen").await.expect("a free port");
    let running = Running { address: server.address(), stop };
    tokio::spawn(Gateway { app: Arc::new(app), server, high_water }.serve());
    running
}

impl Running {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut connection = TcpStream::connect(self.address).await.expect("connect");
        connection.write_all(request.as_bytes()).await.expect("send the head");
        connection.write_all(body).await.expect("send the body");
        let mut answer = Vec::new();
        let reading = connection.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time").expect("read");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    async fn post_json(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.as_bytes()).await
    }
}

#[rstest]
#[case::empty_cart(r#"{"items":[]}"#)]
#[case::zero(r#"{"items":[{"sku":"MUG","quantity":0}]}"#)]
#[case::negative(r#"{"items":[{"sku":"MUG","quantity":-1}]}"#)]
#[case::broken(r#"{"items":[{"sku":"MUG","quantity":1.5}]}"#)]
#[case::too_many(r#"{"items":[{"sku":"MUG","quantity":2147483648}]}"#)]
#[case::injection(r#"{"items":[{"sku":"MUG.>","quantity":1}]}"#)]
#[case::price(r#"{"items":[{"sku":"MUG","quantity":1,"unit_price":1}]}"#)]
#[case::duplicate_member(r#"{"items":[],"items":[]}"#)]
#[case::not_json("{")]
#[tokio::test]
async fn a_bad_cart_is_refused_before_anything_is_asked_of_nats(#[case] body: &str) {
    let gateway = start(Config::default()).await;
    let answer = gateway.post_json("/api/checkout_session", body).await;
    answer.assert_problem(400, "validation");
    assert!(answer.json()["errors"][0]["pointer"].is_string(), "{}", answer.body);
}

#[tokio::test]
async fn bad_keys_ids_and_parameters_are_refused() {
    let gateway = start(Config::default()).await;
    for key in ["a b", "", &"x".repeat(300), "\"\""] {
        let answer = gateway.send("POST", "/api/checkout_session", &[("idempotency-key", key)], b"").await;
        answer.assert_problem(400, "validation");
    }
    for id in ["x", "%2e%2e", "*", "0198C0DE-0000-7000-8000-00000000000A", "history.checkout.x"] {
        for (method, tail) in [("GET", ""), ("GET", "/events"), ("POST", "/cancel")] {
            let answer = gateway.send(method, &format!("/api/checkout_session/{id}{tail}"), &[], b"").await;
            answer.assert_problem(400, "validation");
        }
    }
    let id = checkout_view::tests::id();
    gateway.get(&format!("/api/checkout_session/{id}?wait=61")).await.assert_problem(400, "validation");
    gateway.get("/api/products?limit=0").await.assert_problem(400, "validation");
    gateway.get("/api/products/a.b").await.assert_problem(400, "validation");
}

#[tokio::test]
async fn bodies_of_the_wrong_kind_or_size_are_refused() {
    let gateway = start(Config::default()).await;
    let text = [("content-type", "text/plain")];
    gateway.send("POST", "/api/checkout_session", &text, b"x").await.assert_problem(415, "unsupported_media_type");
    gateway.send("POST", "/payment_webhook", &text, b"{}").await.assert_problem(415, "unsupported_media_type");
    let large = "x".repeat(64 * 1024 + 1);
    gateway.post_json("/api/checkout_session", &large).await.assert_problem(413, "too_large");
    let huge = "x".repeat(10 * 1024 * 1024);
    gateway.post_json("/payment_webhook", &huge).await.assert_problem(413, "too_large");
}

#[tokio::test]
async fn without_nats_a_start_is_refused_for_now() {
    let gateway = start(Config::default()).await;
    let headers = [("idempotency-key", "order-1"), ("content-type", "application/json")];
    let answer =
        gateway.send("POST", "/api/checkout_session", &headers, br#"{"items":[{"sku":"MUG","quantity":1}]}"#).await;
    answer.assert_problem(503, "unavailable");
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
}

#[tokio::test]
async fn a_browsers_form_gets_a_page_when_something_is_wrong() {
    let gateway = start(Config::default()).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = gateway.send("POST", "/api/checkout_session", &form, b"sku=MUG&quantity=0").await;
    assert_eq!(answer.status, 400);
    assert!(answer.head.contains("content-type: text/html"), "{}", answer.head);
    assert!(answer.body.contains("must be a whole number from 1"), "{}", answer.body);
}

#[tokio::test]
async fn what_operators_do_needs_their_token() {
    let gateway = start(Config::default()).await;
    let refund = format!("/api/checkout_session/{}/refund", checkout_view::tests::id());
    for path in ["/api/products/MUG/restock", &refund] {
        for token in ["", "Bearer wrong-token", "Basic x"] {
            let headers = [("authorization", token), ("content-type", "application/json"), ("idempotency-key", "k")];
            let answer = gateway.send("POST", path, &headers, b"{}").await;
            answer.assert_problem(401, "unauthorized");
            assert!(answer.head.contains("www-authenticate: Bearer"), "{}", answer.head);
        }
    }
    let token = format!("Bearer {TOKEN}");
    let restock = |path: &'static str, key: &'static str, body: &'static str| {
        let headers = [
            ("authorization", token.clone()),
            ("content-type", "application/json".into()),
            ("idempotency-key", key.into()),
        ];
        let gateway = &gateway;
        async move {
            let headers: Vec<_> = headers
                .iter()
                .filter(|(_, value): &&(&str, String)| !value.is_empty())
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            gateway.send("POST", path, &headers, body.as_bytes()).await
        }
    };
    restock("/api/products/MUG/restock", "", r#"{"quantity":1}"#).await.assert_problem(400, "validation");
    restock("/api/products/MUG/restock", "k", r#"{"quantity":0}"#).await.assert_problem(400, "validation");
    restock("/api/products/NOTHING/restock", "k", r#"{"quantity":1}"#).await.assert_problem(404, "not_found");
    restock("/api/products/MUG/restock", "k", r#"{"quantity":1}"#).await.assert_problem(503, "unavailable");
}

#[tokio::test]
async fn products_are_listed_with_their_stock() {
    let gateway = start(Config::default()).await;
    let list = gateway.get("/api/products?limit=2").await.json();
    assert_eq!(list["data"][0]["sku"], "MUG");
    assert_eq!(list["data"][0]["available"], 7);
    assert_eq!(list["has_more"], true);
    assert_eq!(gateway.get("/api/products/TEA").await.json()["price"]["amount"], 300);
    assert_eq!(gateway.get("/api/products/TEA/").await.status, 200, "a trailing slash is the same resource");
    gateway.get("/api/products/NOTHING").await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn alive_but_not_ready_without_nats() {
    let gateway = start(Config::default()).await;
    assert_eq!(gateway.get("/livez").await.status, 200);
    let ready = gateway.get("/readyz").await;
    ready.assert_problem(503, "not_ready");
    assert!(ready.body.contains("no connection to NATS"), "{}", ready.body);
    assert_eq!(gateway.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_client_that_asks_too_much_is_slowed_down_but_webhooks_are_not() {
    let gateway = start(Config { rate_limit: 1, ..Config::default() }).await;
    let mut last = gateway.get("/api/products").await;
    for _ in 0..5 {
        last = gateway.get("/api/products").await;
    }
    last.assert_problem(429, "rate_limited");
    assert!(last.head.contains("retry-after: "), "{}", last.head);
    gateway.post_json("/payment_webhook", "{}").await.assert_problem(400, "webhook_refused");
}

/// Walks the published document and calls every path with every method: what is documented is served, and what is
/// not is refused with the methods that are.
#[tokio::test]
async fn every_documented_path_is_served() {
    let gateway = start(Config { answer_timeout: Duration::from_millis(50), ..Config::default() }).await;
    let document = gateway.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 10);
    for (template, methods) in paths {
        let path = template.replace("{id}", "not-an-id").replace("{sku}", "a.b");
        for (method, operation) in methods.as_object().expect("methods") {
            let answer = gateway.send(&method.to_uppercase(), &path, &[], b"").await;
            let documented = operation["responses"].as_object().expect("responses");
            assert!(documented.contains_key(&answer.status.to_string()), "{method} {path} answers {}", answer.status);
            assert_ne!(answer.status, 404, "{method} {path}");
        }
        let refused = gateway.send("DELETE", &path, &[], b"").await;
        refused.assert_problem(405, "method_not_allowed");
        for method in methods.as_object().expect("methods").keys() {
            assert!(refused.head.contains(&method.to_uppercase()), "{path}: {}", refused.head);
        }
    }
    for method in ["GET", "POST", "DELETE"] {
        gateway.send(method, "/api/nothing", &[], b"").await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn head_is_answered_where_get_is() {
    let gateway = start(Config::default()).await;
    let head = gateway.send("HEAD", "/api/products", &[], b"").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("content-length: "), "{}", head.head);
}
