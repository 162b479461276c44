//! The whole shop on one machine, as `cargo run` starts it, is killed at ten random moments while customers buy, pay,
//! decline, cancel and go away. Every checkout that was accepted comes to its end, and the doctor finds nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::nats::{NatsOptions, connect::connect};
use deploy::doctor;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use stories::eventually_within;

/// Deaths of the whole shop.
const DEATHS: u64 = 10;

#[tokio::test]
async fn ten_deaths_of_the_whole_shop_lose_nothing() {
    common::service::tls::install_tls_provider();
    let seed = jiff::Timestamp::now().as_millisecond().unsigned_abs();
    println!("seed {seed}");
    let mut random = Random(seed);
    let folder = tempfile::Builder::new().prefix("power-off-").tempdir().expect("a folder for the shop");
    let ports = stories::free_ports(3);
    let mut machine = Machine::start(folder.path(), &ports);
    let shop = Customers::of(&ports);
    let mut accepted: BTreeMap<String, Value> = BTreeMap::new();

    for death in 0..DEATHS {
        shop.until_open().await;
        let dies_at = Instant::now() + Duration::from_millis(100 + random.below(1_500));
        for visit in 0.. {
            if Instant::now() >= dies_at {
                break;
            }
            shop.visit(&format!("{death}-{visit}"), random.below(5), &mut accepted).await;
        }
        machine.die();
        machine = Machine::start(folder.path(), &ports);
    }

    shop.until_open().await;
    for id in accepted.keys() {
        shop.until_ended(id).await;
    }
    // How many depends on the machine; that some are is what makes the deaths mean something.
    assert!(accepted.len() >= 5, "only {} checkouts were accepted between ten deaths", accepted.len());
    let options = NatsOptions { nats_url: format!("nats://127.0.0.1:{}", ports[2]), nats_creds: None };
    let nats = connect(&options, "story").await.expect("connect");
    eventually_within(Duration::from_secs(60), "the doctor finds nothing", async || {
        let report = doctor::examine(&nats, doctor::Options::default()).await.expect("examine the streams");
        report.is_healthy().then_some(())
    })
    .await;
    println!("{} checkouts were accepted and ended", accepted.len());
}

/// The machine that the shop runs on.
struct Machine {
    process: Child,
    nats_pid_file: PathBuf,
}

impl Machine {
    fn start(folder: &Path, ports: &[u16]) -> Self {
        use std::os::unix::process::CommandExt as _;
        let log = std::fs::File::options().create(true).append(true).open(folder.join("up.log")).expect("a log");
        let process = Command::new(crate::SERVICE)
            .arg("up")
            .arg(format!("--listen=127.0.0.1:{}", ports[0]))
            .arg(format!("--payment-listen=127.0.0.1:{}", ports[1]))
            .arg(format!("--nats-port={}", ports[2]))
            .arg(format!("--data-dir={}", folder.join("data").display()))
            .arg("--payment-timeout=3s")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            // A group of its own, so that all of it can be killed at once.
            .process_group(0)
            .spawn()
            .expect("start the shop");
        Self { process, nats_pid_file: folder.join("data/nats/nats-server.pid") }
    }

    /// kill -9 of the shop's process group and of its nats-server, which has a group of its own.
    fn die(&mut self) {
        let server = std::fs::read_to_string(&self.nats_pid_file).ok().and_then(|pid| pid.trim().parse().ok());
        for pid in [i32::try_from(self.process.id()).ok(), server].into_iter().flatten().filter_map(Pid::from_raw) {
            // It may have no group of its own or be gone already: then there is nothing to kill.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.die();
    }
}

struct Customers {
    http: reqwest::Client,
    shop: String,
    payments: String,
}

impl Customers {
    fn of(ports: &[u16]) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(15)).build().expect("an HTTP client");
        Self {
            http,
            shop: format!("http://127.0.0.1:{}", ports[0]),
            payments: format!("http://127.0.0.1:{}", ports[1]),
        }
    }

    async fn until_open(&self) {
        eventually_within(Duration::from_secs(60), "the shop opens", async || {
            let ready = self.http.get(format!("{}/readyz", self.shop)).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
    }

    /// One customer, who may meet a shop that dies at any moment.
    async fn visit(&self, key: &str, wish: u64, accepted: &mut BTreeMap<String, Value>) {
        let body = json!({ "items": [{ "sku": "NOTE-01", "quantity": 1 }] });
        let request = self.http.post(format!("{}/api/checkout_session", self.shop)).header("Idempotency-Key", key);
        let Ok(answer) = request.json(&body).send().await else { return };
        if !answer.status().is_success() {
            return;
        }
        let Ok(checkout) = answer.json::<Value>().await else { return };
        let id = checkout["workflow_id"].as_str().expect("an accepted checkout has an id").to_owned();
        let session = json!({ "session_id": checkout["payment"]["session_id"] });
        accepted.insert(id.clone(), checkout);
        let act = match wish {
            0 | 1 => self.http.post(format!("{}/api/submit_payment", self.payments)).json(&session),
            2 => self.http.post(format!("{}/api/decline_payment", self.payments)).json(&session),
            3 => self.http.post(format!("{}/api/checkout_session/{id}/cancel", self.shop)),
            _ => return,
        };
        // Whether it got through or not: the checkout must end either way.
        let _ = act.send().await;
    }

    async fn until_ended(&self, id: &str) {
        let ends = ["paid", "declined", "cancelled", "expired", "out_of_stock", "payment_unavailable"];
        eventually_within(Duration::from_secs(120), &format!("checkout {id} ends"), async || {
            let answer = self.http.get(format!("{}/api/checkout_session/{id}", self.shop)).send().await.ok()?;
            let view: Value = answer.json().await.ok()?;
            view["status"].as_str().filter(|status| ends.contains(status)).map(|_| ())
        })
        .await;
    }
}

/// A small generator, so that a seed tells the whole story (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
