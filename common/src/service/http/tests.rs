//! The server as a client sees it, over real connections.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use warp::{Filter as _, Reply as _};

use super::*;

const PATHS: &[ServedPath] = &[
    ServedPath { template: "/hello", methods: &["GET"] },
    ServedPath { template: "/echo", methods: &["POST"] },
    ServedPath { template: "/panic", methods: &["GET"] },
    ServedPath { template: "/slow", methods: &["GET"] },
    ServedPath { template: "/number", methods: &["GET"] },
    ServedPath { template: "/teapot", methods: &["GET"] },
];

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

fn routes(stop: CancellationToken) -> BoxedFilter<(Response,)> {
    let hello = warp::path("hello").and(warp::path::end()).map(|| "hello".into_response()).boxed();
    let echo = warp::path("echo")
        .and(body(8))
        .map(|body: Result<bytes::Bytes, Problem>| body.map(|bytes| bytes.to_vec()).into_response())
        .boxed();
    let panic = warp::path("panic").map(|| -> Response { panic!("a defect") }).boxed();
    let slow = warp::path("slow").then(move || {
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            "ended".into_response()
        }
    });
    let number = warp::path("number").and(warp::query::<std::collections::HashMap<String, String>>());
    let number = number.and(warp::header::<u32>("x-number")).map(|_, _| "ok".into_response()).boxed();
    let teapot = warp::path("teapot").map(|| {
        Problem::new(StatusCode::IM_A_TEAPOT, "teapot", "No coffee.").with_member("pot", "small").into_response()
    });
    hello.or(echo).unify().or(panic).unify().or(slow.boxed()).unify().or(number).unify().or(teapot).unify().boxed()
}

async fn start(options: HttpOptions) -> Running {
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), "--listen").await.expect("a free port");
    let (address, stop) = (server.address(), CancellationToken::new());
    let serving = tokio::spawn(server.serve(PATHS.into(), routes(stop.clone()), options, stop.clone()));
    Running { address, stop, serving }
}

async fn connect(server: &Running) -> TcpStream {
    TcpStream::connect(server.address).await.expect("connect")
}

/// Send these bytes and read until the server closes the connection.
async fn send(server: &Running, request: &str) -> String {
    let mut connection = connect(server).await;
    connection.write_all(request.as_bytes()).await.expect("send");
    read_to_end(&mut connection).await
}

async fn read_to_end(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, connection.read_to_end(&mut answer)).await.expect("an answer in time").expect("read");
    String::from_utf8(answer).expect("text")
}

async fn get(server: &Running, method: &str, path: &str) -> String {
    send(server, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

fn assert_problem(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    assert!(answer.contains(&format!("\"status\":{status},\"code\":\"{code}\"")), "{answer}");
    assert!(answer.contains("x-request-id: ") && answer.contains("\"request_id\":\""), "{answer}");
}

#[tokio::test]
async fn an_answer_has_a_request_id_and_keeps_a_harmless_one() {
    let server = start(HttpOptions::default()).await;
    let answer = get(&server, "GET", "/hello").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    let kept =
        send(&server, "GET /hello HTTP/1.1\r\nhost: x\r\nx-request-id: mine-1\r\nconnection: close\r\n\r\n").await;
    assert!(kept.contains("x-request-id: mine-1\r\n"), "{kept}");
    let replaced =
        send(&server, "GET /hello HTTP/1.1\r\nhost: x\r\nx-request-id: a\"b\r\nconnection: close\r\n\r\n").await;
    assert!(!replaced.contains("a\"b"), "{replaced}");
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let server = start(HttpOptions { request_timeout: Duration::from_millis(100), ..HttpOptions::default() }).await;
    assert_problem(&get(&server, "GET", "/nothing").await, 404, "not_found");
    assert_problem(&get(&server, "GET", "/panic").await, 500, "internal");
    assert_problem(&get(&server, "GET", "/slow").await, 504, "timeout");
    assert_problem(&get(&server, "GET", "/number").await, 400, "validation");
    let teapot = get(&server, "GET", "/teapot").await;
    assert_problem(&teapot, 418, "teapot");
    assert!(teapot.contains("\"pot\":\"small\""), "{teapot}");
    assert!(get(&server, "GET", "/hello").await.starts_with("HTTP/1.1 200"), "a panic must not hurt the next request");
}

#[tokio::test]
async fn methods_are_answered_by_the_table() {
    let server = start(HttpOptions::default()).await;
    let refused = get(&server, "DELETE", "/hello").await;
    assert_problem(&refused, 405, "method_not_allowed");
    assert!(refused.contains("allow: GET, HEAD, OPTIONS\r\n"), "{refused}");
    let options = get(&server, "OPTIONS", "/echo").await;
    assert!(options.starts_with("HTTP/1.1 204") && options.contains("allow: POST, OPTIONS\r\n"), "{options}");
    let head = get(&server, "HEAD", "/hello").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 5\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_body_is_bounded_whether_its_length_is_announced_or_not() {
    let server = start(HttpOptions::default()).await;
    let post = |rest: &str| format!("POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{rest}");
    let fits = send(&server, &post("content-length: 8\r\n\r\n12345678")).await;
    assert!(fits.ends_with("\r\n\r\n12345678"), "{fits}");
    assert_problem(&send(&server, &post("content-length: 9\r\n\r\n123456789")).await, 413, "too_large");
    let chunked = post("transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n12345\r\n0\r\n\r\n");
    assert_problem(&send(&server, &chunked).await, 413, "too_large");
    let compressed = post("content-encoding: gzip\r\ncontent-length: 1\r\n\r\nx");
    assert_problem(&send(&server, &compressed).await, 415, "unsupported_media_type");
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_head_is_let_go() {
    let server = start(HttpOptions { idle_timeout: Duration::from_millis(100), ..HttpOptions::default() }).await;
    for half in ["", "P", "GET /hello HTTP/1.1\r\nhost: x\r\n"] {
        let answer = send(&server, half).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{half:?} got {answer}");
    }
}

#[tokio::test]
async fn beyond_the_cap_a_connection_is_told_to_come_back() {
    let server = start(HttpOptions { max_connections: 1, ..HttpOptions::default() }).await;
    let mut first = connect(&server).await;
    first.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("send");
    let mut start_of_answer = [0; 15];
    timeout(PATIENCE, first.read_exact(&mut start_of_answer)).await.expect("in time").expect("read");
    assert_eq!(&start_of_answer, b"HTTP/1.1 200 OK");

    let shed = get(&server, "GET", "/hello").await;
    assert_problem(&shed, 503, "unavailable");
    assert!(shed.contains("retry-after: 2\r\n") && shed.contains("connection: close\r\n"), "{shed}");

    drop(first);
    let served_again = timeout(PATIENCE, async {
        while !get(&server, "GET", "/hello").await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    });
    served_again.await.expect("a place becomes free when a connection ends");
}

#[tokio::test]
async fn stopping_lets_requests_end_and_then_returns() {
    let server = start(HttpOptions::default()).await;
    let mut idle = connect(&server).await;
    let mut waiting = connect(&server).await;
    waiting.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("send");
    // The request is under way once a later one on another connection has been answered.
    get(&server, "GET", "/hello").await;
    server.stop.cancel();
    assert!(read_to_end(&mut waiting).await.ends_with("ended"));
    assert_eq!(read_to_end(&mut idle).await, "");
    timeout(PATIENCE, server.serving).await.expect("in time").expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let first = HttpServer::bind(([127, 0, 0, 1], 0).into(), "--listen").await.expect("a free port");
    let port = first.address().port();
    let error = HttpServer::bind(first.address(), "--listen").await.expect_err("the port is taken");
    assert_eq!(error.to_string(), format!("port {port} on 127.0.0.1 is taken: choose another with --listen"));
}

#[test]
fn the_flags_default_to_the_documented_values() {
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        http: HttpOptions,
    }
    let flags = <Flags as clap::Parser>::parse_from(["x"]);
    assert_eq!(flags.http, HttpOptions::default());
}
