//! What was answered is kept, however the sandbox ends.

mod stage;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use stage::{Stage, http_client, order};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let stage = Stage::new().await;
    let (open, paid) = (stage.session("order-1").await, stage.session("order-2").await);
    stage.act("submit_payment", &paid).await;
    let key_body = order("order-3");
    let (_, keyed) = stage.post_with_key("/api/create_payment_session", &key_body, "key-3").await;
    stage.post("/api/expire_session", &json!({ "client_reference_id": "order-4" })).await;
    let (_, before) = stage.get("/api/books").await;

    let stage = stage.restarted().await;
    assert_eq!(stage.get("/api/books").await.1, before);
    assert_eq!(stage.in_books(&open).await["status"], "open");
    let (_, again) = stage.post_with_key("/api/create_payment_session", &key_body, "key-3").await;
    assert_eq!(again["session_id"], keyed["session_id"], "the key is still known");
    assert_eq!(stage.post("/api/create_payment_session", &order("order-4")).await.0, 410, "the promise is kept");
    assert_eq!(stage.act("submit_payment", &paid).await.0, 200);
    assert_eq!(stage.in_books(&paid).await["charges"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_folder_in_use_and_a_taken_port_are_said_in_words() {
    let stage = Stage::new().await;
    let config = || stage::config(stage.folder.path(), "http://127.0.0.1:1/".into());
    let refused = payment_sandbox::PaymentSandbox::open(config()).await.map(|_| ()).expect_err("it is in use");
    assert!(format!("{refused:#}").contains("another payment sandbox"), "{refused:#}");
    let mut taken = config();
    taken.listen = stage.base.trim_start_matches("http://").parse().expect("an address");
    let refused = payment_sandbox::PaymentSandbox::open(taken).await.map(|_| ()).expect_err("the port is taken");
    assert!(format!("{refused:#}").contains("--payment-listen"), "{refused:#}");
}

/// The sandbox as a process of its own, killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Start the program on a free port; gives its URL, which it says in its log.
fn start(folder: &Path) -> (Process, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_payment-sandbox"))
        .args(["--payment-listen=127.0.0.1:0", "--webhook-url=http://127.0.0.1:1/"])
        .arg("--payment-data-dir")
        .arg(folder)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let log = BufReader::new(child.stderr.take().expect("its log"));
    let process = Process(child);
    let mut lines = log.lines().map(|line| line.expect("its log is text"));
    let said = lines.by_ref().find(|line| line.contains("listens on http://")).expect("it says where it listens");
    // Somebody has to read on, or the program would wait for room in the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let url: String = said.split("listens on ").nth(1).expect("a URL").chars().take_while(|c| *c != '"').collect();
    (process, url)
}

/// Open and pay sessions one after the other until the sandbox does not answer any more; those that were answered.
async fn buy_until_it_dies(base: String, customer: usize, all_paid: Arc<AtomicUsize>) -> Vec<String> {
    let http = http_client();
    let mut paid = Vec::new();
    for number in 0.. {
        let order = order(&format!("order-{customer}-{number}"));
        let create = http.post(format!("{base}/api/create_payment_session")).json(&order);
        let Ok(answer) = create.header("Idempotency-Key", format!("{customer}-{number}")).send().await else { break };
        let Ok(session) = answer.json::<Value>().await else { break };
        let pay = http.post(format!("{base}/api/submit_payment"));
        let answer = pay.json(&json!({ "session_id": session["session_id"] })).send().await;
        if !answer.is_ok_and(|answer| answer.status().is_success()) {
            break;
        }
        all_paid.fetch_add(1, Ordering::Relaxed);
        paid.push(session["session_id"].as_str().expect("an id").to_owned());
    }
    paid
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_being_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut paid = Vec::new();
    for round in 0..3 {
        let (process, base) = start(folder.path());
        let all_paid = Arc::new(AtomicUsize::new(0));
        let buy = |number| tokio::spawn(buy_until_it_dies(base.clone(), round * 100 + number, all_paid.clone()));
        let customers: Vec<_> = (0..16).map(buy).collect();
        stage::eventually("enough is under way", || (all_paid.load(Ordering::Relaxed) >= 50 + round).then_some(()))
            .await;
        drop(process);
        for customer in customers {
            paid.extend(customer.await.expect("no panic"));
        }
    }
    assert!(paid.len() >= 150);
    let (_process, base) = start(folder.path());
    let http = http_client();
    for session in &paid {
        let answer = http.get(format!("{base}/api/session/{session}")).send().await.expect("an answer");
        let kept: Value = answer.json().await.expect("JSON");
        assert_eq!(kept["status"], "paid", "{session}");
    }
}
