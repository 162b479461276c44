//! A running sandbox, a receiver of its webhooks, and a client.

#![allow(dead_code)] // Every test program uses its own part of it.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::{
    payment::{WebhookSecrets, sandbox::DEVELOPMENT_SECRET},
    service::http::{HttpOptions, HttpServer},
    time::now,
};
use http::{HeaderMap, StatusCode};
use payment_sandbox::{Config, PaymentSandbox};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warp::{Filter as _, Reply as _};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A webhook as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) body: Value,
    pub(crate) raw: Vec<u8>,
    pub(crate) signature: String,
    pub(crate) answered: u16,
}

/// A shop that takes webhooks: it answers with the statuses that it was told, then with 200.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    arrived: Arc<Mutex<Vec<Arrived>>>,
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Receiver {
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().expect("no test panicked while it held the lock").clone()
    }

    /// The next answers, first one first.
    pub(crate) fn will_answer(&self, statuses: &[u16]) {
        self.answers.lock().expect("no test panicked while it held the lock").extend(statuses);
    }

    /// What was taken (answered 2xx), once there are that many.
    pub(crate) async fn taken(&self, count: usize) -> Vec<Arrived> {
        let taken = || -> Vec<Arrived> {
            self.arrived().into_iter().filter(|arrived| (200..300).contains(&arrived.answered)).collect()
        };
        eventually(&format!("{count} webhooks are taken"), || (taken().len() >= count).then_some(())).await;
        taken()
    }

    fn take(&self, headers: &HeaderMap, raw: &[u8]) -> StatusCode {
        let mut answers = self.answers.lock().expect("no test panicked while it held the lock");
        let answered = if answers.is_empty() { 200 } else { answers.remove(0) };
        let signature = headers.get("payment-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.arrived.lock().expect("no test panicked while it held the lock").push(Arrived {
            body: serde_json::from_slice(raw).unwrap_or_default(),
            raw: raw.to_vec(),
            signature: signature.to_owned(),
            answered,
        });
        StatusCode::from_u16(answered).expect("a status")
    }

    /// Listen on a free port until `stop`; gives the URL.
    pub(crate) async fn listen(&self, stop: CancellationToken) -> String {
        let receiver = self.clone();
        let routes = warp::path!("payment_webhook")
            .and(warp::post())
            .and(warp::header::headers_cloned())
            .and(warp::body::bytes())
            .map(move |headers: HeaderMap, body: bytes::Bytes| receiver.take(&headers, &body).into_response())
            .boxed();
        let server = HttpServer::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "").await.expect("a free port");
        let url = format!("http://{}/payment_webhook", server.address());
        tokio::spawn(server.serve([].as_slice().into(), routes, HttpOptions::default(), stop));
        url
    }
}

/// Until a condition holds; fails with the words when it does not come true.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "it did not come true in {PATIENCE:?} that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A sandbox on a port and a folder of its own.
pub(crate) struct Stage {
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    pub(crate) receiver: Receiver,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

pub(crate) fn config(folder: &Path, webhook_url: String) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: folder.to_owned(),
        public_url: None,
        webhook_url,
        webhook_secret: None,
        shop_url: None,
        faults: true,
        http: HttpOptions::default(),
    }
}

pub(crate) fn http_client() -> reqwest::Client {
    common::service::tls::install_tls_provider();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([])
        .timeout(PATIENCE)
        .build()
        .expect("a client")
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        Self::on(folder, Receiver::default(), change).await
    }

    async fn on(folder: Arc<TempDir>, receiver: Receiver, change: impl FnOnce(&mut Config)) -> Self {
        let stop = CancellationToken::new();
        let mut config = config(folder.path(), receiver.listen(stop.clone()).await);
        change(&mut config);
        let sandbox = PaymentSandbox::open(config).await.expect("the sandbox opens");
        let base = format!("http://{}", sandbox.address());
        let serving = tokio::spawn(sandbox.serve(stop.clone()));
        Self { base, http: http_client(), receiver, folder, stop, serving }
    }

    /// Stop it in order and start it again on the same folder.
    pub(crate) async fn restarted(mut self) -> Self {
        self.stop.cancel();
        (&mut self.serving).await.expect("no panic").expect("it stops in order");
        Self::on(self.folder.clone(), self.receiver.clone(), |_| {}).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_with_key(path, body, &Uuid::now_v7().to_string()).await
    }

    pub(crate) async fn post_with_key(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).header("Idempotency-Key", key).json(body);
        read(request.send().await.expect("an answer")).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        read(self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer")).await
    }

    pub(crate) async fn fault(&self, rule: Value) {
        let (status, answer) = self.post("/api/faults", &rule).await;
        assert_eq!(status, 201, "{answer}");
    }

    pub(crate) async fn clear_faults(&self) {
        let answer = self.http.delete(format!("{}/api/faults", self.base)).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }

    /// Open a session; gives its id.
    pub(crate) async fn session(&self, reference: &str) -> String {
        let (status, session) = self.post("/api/create_payment_session", &order(reference)).await;
        assert_eq!(status, 201, "{session}");
        session["session_id"].as_str().expect("an id").to_owned()
    }

    /// Do something to a session (`submit_payment`, `expire_session`, …).
    pub(crate) async fn act(&self, call: &str, session_id: &str) -> (u16, Value) {
        self.post(&format!("/api/{call}"), &json!({ "session_id": session_id })).await
    }

    /// The session's row in the books.
    pub(crate) async fn in_books(&self, session_id: &str) -> Value {
        let (_, books) = self.get("/api/books?limit=1000").await;
        let rows = books["data"].as_array().expect("a list");
        rows.iter().find(|row| row["session_id"] == session_id).expect("the session is in the books").clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn read(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.expect("a whole answer");
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Something that can be ordered: two of one article and one of another, together 25.99 EUR.
pub(crate) fn order(reference: &str) -> Value {
    json!({
        "client_reference_id": reference, "amount": 2599, "currency": "eur",
        "lines": [
            { "name": "Mug", "quantity": 2, "unit_amount": 1250 },
            { "name": "Sticker", "quantity": 1, "unit_amount": 99 },
        ],
        "expires_at": now() + jiff::SignedDuration::from_mins(10),
    })
}

pub(crate) fn secrets() -> WebhookSecrets {
    DEVELOPMENT_SECRET.parse().expect("a secret")
}
