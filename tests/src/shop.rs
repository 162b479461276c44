//! The shop that a story happens in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    contracts::checkout::CheckoutEvent,
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{Nats, NatsOptions, connect::connect, read},
    record::Record,
    shards::Shards,
    streams::{ConsumerName, Durability, Placement},
};
use deploy::{
    catalogue::{CatalogueLine, read_catalogue, seed},
    doctor,
    nats_server::NatsServer,
    provision::provision,
    service_process::{Process, Recipe, Service},
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    servers::{Servers, nodes_from_environment},
    users::url_as,
    wait::{eventually, eventually_ok, eventually_within},
};

/// The token of an operator without a name in stories.
pub const OPERATOR_TOKEN: &str = "operator-in-stories";

/// The token of the operator `alice` in stories.
pub const ALICE_TOKEN: &str = "alice-in-stories";

/// Longer than services wait for the leaders of a cluster that was down.
const OPENING_PATIENCE: Duration = Duration::from_secs(90);

/// Room for the streams of one story that does not say it itself.
const STORAGE_BYTES: u64 = 400 * 1024 * 1024;

/// How a shop is set up.
#[derive(Debug, Clone)]
pub struct ShopOptions {
    /// How long customers have to pay.
    pub payment_timeout: &'static str,
    /// How long a failed step waits before its second round.
    pub retry_wait: &'static str,
    /// How long a POST waits for the payment link.
    pub answer_timeout: &'static str,
    /// How long one call to the provider may take.
    pub payment_call_timeout: &'static str,
    /// After how long an unacked message of a dead service goes to another; without it as in production.
    pub ack_wait: Option<Duration>,
    /// How many workers run.
    pub workers: u8,
    /// Whether the first worker is given messages first; else they take turns, so that they meet in every way.
    pub first_worker_first: bool,
    /// How many inventory services run.
    pub inventories: u8,
    /// How many gateways run.
    pub gateways: u8,
    /// The server's users with their permissions; without them anybody may do anything.
    pub permissions: Option<String>,
    /// More flags for the workers, such as `--sweep-interval=1s`.
    pub worker_flags: &'static [&'static str],
    /// More flags for the gateways, such as `--rate-limit=0`.
    pub gateway_flags: &'static [&'static str],
    /// Whether the services note how far the streams are stored; see [`Shop::high_water`].
    pub high_water: bool,
    /// Room for the streams together, in bytes.
    pub storage_bytes: u64,
    /// How many nats-servers run: 1, or 3 that keep every stream three times. Usually what `CHECKOUT_TEST_NODES` says.
    pub nodes: usize,
    /// In how many streams histories, and commands, are spread.
    pub shards: Shards,
    /// Three nodes, however many `nodes` says, that reach each other over links that can misbehave.
    pub linked_nodes: bool,
}

impl Default for ShopOptions {
    fn default() -> Self {
        Self {
            payment_timeout: "10m",
            retry_wait: "100ms",
            answer_timeout: "10s",
            payment_call_timeout: "1s",
            ack_wait: None,
            workers: 1,
            first_worker_first: false,
            inventories: 1,
            gateways: 1,
            permissions: None,
            worker_flags: &[],
            gateway_flags: &[],
            high_water: false,
            storage_bytes: STORAGE_BYTES,
            nodes: nodes_from_environment(),
            shards: Shards::ONE,
            linked_nodes: false,
        }
    }
}

impl ShopOptions {
    /// On one server, whatever `CHECKOUT_TEST_NODES` says: for stories about the files or the limits of a server, which in a
    /// cluster the other nodes make good.
    #[must_use]
    pub fn on_one_server() -> Self {
        Self { nodes: 1, ..Self::default() }
    }
}

/// A whole shop; everything ends with it.
pub struct Shop {
    // Processes end before the server that they talk to.
    processes: BTreeMap<Service, Process>,
    recipes: BTreeMap<Service, Recipe>,
    crashes: BTreeMap<Service, u32>,
    /// The server, or the nodes of the cluster; stories may kill and restart them.
    pub server: Servers,
    /// A connection of the story's own.
    pub nats: Nats,
    /// For talking to the shop as its customers do.
    pub http: Client,
    gateway_ports: Vec<u16>,
    sandbox_port: u16,
    log_dir: PathBuf,
    _dir: TempDir,
}

impl Shop {
    /// Open a shop as most stories need it. `service_binary` is `env!("CARGO_BIN_EXE_service")`.
    pub async fn open(service_binary: &str) -> Self {
        Self::open_with(service_binary, ShopOptions::default()).await
    }

    /// Open a shop.
    ///
    /// # Panics
    /// When a part of it does not start; the services' logs are shown.
    pub async fn open_with(service_binary: &str, options: ShopOptions) -> Self {
        let servers = match options.permissions.clone() {
            // Users are a matter of one server's configuration, which is the same on every node of a cluster.
            Some(users) => {
                NatsServer::try_start_for_test(|config| config.more = users).await.expect("a server with users").into()
            }
            None if options.linked_nodes => Servers::start_linked().await,
            None => Servers::start(options.nodes).await,
        };
        Self::open_on(servers, service_binary, options).await
    }

    /// Open a shop on servers of the story's choice.
    ///
    /// # Panics
    /// When a part of it does not start; the services' logs are shown.
    pub async fn open_on(server: Servers, service_binary: &str, options: ShopOptions) -> Self {
        common::service::tls::install_tls_provider();
        let nats_url = url_for(&server, &options, "break-glass");
        let nats_options = NatsOptions { nats_url, nats_creds: None };
        let nats = connect(&nats_options, "story").await.expect("connect to the story's server");
        let placement = Placement {
            replicas: server.replicas(),
            storage_bytes: options.storage_bytes,
            durability: Durability::SyncAlways,
            shards: options.shards,
        };
        provision(&nats, &placement).await.expect("provision the story's server");
        let nats = nats.with_shards().await.expect("in how many parts the streams are");
        if let Some(ack_wait) = options.ack_wait {
            hurry(&nats, ack_wait).await;
        }
        seed(&nats, &articles()).await.expect("fill the catalogue");

        let dir = tempfile::Builder::new().prefix("story-").tempdir().expect("a folder for the story");
        // Kept after a failure when CHECKOUT_KEEP_LOGS names a folder.
        let log_dir = std::env::var_os("CHECKOUT_KEEP_LOGS").map_or_else(
            || dir.path().to_owned(),
            |keep| {
                let folder = Path::new(&keep).join(dir.path().file_name().expect("a temporary folder has a name"));
                std::fs::create_dir_all(&folder).expect("a folder for the logs");
                folder
            },
        );
        let ports = free_ports(usize::from(options.gateways) + 1);
        let (sandbox_port, gateway_ports) = (ports[0], ports[1..].to_vec());
        let mut shop = Self {
            processes: BTreeMap::new(),
            recipes: BTreeMap::new(),
            crashes: BTreeMap::new(),
            server,
            nats,
            http: Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(70))
                .build()
                .expect("an HTTP client"),
            gateway_ports,
            sandbox_port,
            log_dir,
            _dir: dir,
        };
        shop.write_recipes(service_binary, &options);
        for service in shop.recipes.keys().copied().collect::<Vec<_>>() {
            shop.start(service);
        }
        shop.until_ready().await;
        shop
    }

    fn write_recipes(&mut self, binary: &str, options: &ShopOptions) {
        let nats_as = |user: &str| vec!["--nats-url".into(), url_for(&self.server, options, user)];
        let payment: Vec<String> = vec![
            format!("--payment-url=http://127.0.0.1:{}", self.sandbox_port),
            format!("--payment-call-timeout={}", options.payment_call_timeout),
        ];
        let marks: Vec<String> = options
            .high_water
            .then(|| format!("--high-water-dir={}", self.high_water().display()))
            .into_iter()
            .collect();
        let recipe = |arguments: Vec<String>| Recipe {
            binary: binary.into(),
            before: Vec::new(),
            log_dir: self.log_dir.clone(),
            arguments,
            environment: BTreeMap::from([(
                "RUST_LOG".into(),
                std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()),
            )]),
        };
        let mut recipes = BTreeMap::new();
        for number in 0..options.workers {
            let own = vec![
                format!("--payment-timeout={}", options.payment_timeout),
                format!("--retry-wait={}", options.retry_wait),
                format!("--priority={}", if options.first_worker_first { number } else { 0 }),
            ];
            let more = options.worker_flags.iter().map(ToString::to_string).collect();
            recipes.insert(
                Service::Worker(number),
                recipe([nats_as("workflow-worker"), payment.clone(), marks.clone(), own, more].concat()),
            );
        }
        for number in 0..options.inventories {
            recipes.insert(Service::Inventory(number), recipe([nats_as("inventory-service"), marks.clone()].concat()));
        }
        for (number, port) in (0..options.gateways).zip(&self.gateway_ports) {
            let own = vec![
                format!("--listen=127.0.0.1:{port}"),
                format!("--answer-timeout={}", options.answer_timeout),
                format!("--operator-token={OPERATOR_TOKEN},alice:{ALICE_TOKEN}"),
            ];
            let more = options.gateway_flags.iter().map(ToString::to_string).collect();
            recipes.insert(
                Service::Gateway(number),
                recipe([nats_as("gateway"), payment.clone(), marks.clone(), own, more].concat()),
            );
        }
        let own = vec![
            format!("--payment-listen=127.0.0.1:{}", self.sandbox_port),
            format!("--payment-data-dir={}", self._dir.path().join("sandbox").display()),
            format!("--webhook-url={}/payment_webhook", self.shop_url()),
            format!("--payment-shop-url={}", self.shop_url()),
            "--faults".into(),
        ];
        recipes.insert(Service::Sandbox, recipe(own));
        self.recipes = recipes;
    }

    /// Where the first gateway is.
    #[must_use]
    pub fn shop_url(&self) -> String {
        self.gateway_url(0)
    }

    /// Where a gateway is.
    #[must_use]
    pub fn gateway_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.gateway_ports[number])
    }

    /// Where the services note how far the streams are stored, when [`ShopOptions::high_water`] is set.
    #[must_use]
    pub fn high_water(&self) -> PathBuf {
        self._dir.path().join("high-water")
    }

    /// The process id of a service that runs.
    #[must_use]
    pub fn pid(&self, service: Service) -> u32 {
        self.processes.get(&service).expect("a service that runs").id()
    }

    /// Where the sandbox is.
    #[must_use]
    pub fn payment_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.sandbox_port)
    }

    /// Start a service that is not running.
    pub fn start(&mut self, service: Service) {
        let recipe = self.recipes.get(&service).expect("a service of this shop");
        let process = Process::start(service, recipe).expect("start a service");
        self.processes.insert(service, process);
    }

    /// Start a service that will die when it reaches a crash point; see `common::crash_point`.
    pub fn start_to_crash(&mut self, service: Service, crash_point: &str) {
        self.start_with(service, "CHECKOUT_CRASH_AT", crash_point);
    }

    /// Start a service that writes every crash point that it reaches into a file.
    pub fn start_to_record(&mut self, service: Service, tape: &Path) {
        self.start_with(service, "CHECKOUT_CRASH_RECORD", tape.to_str().expect("a path of plain text"));
    }

    /// Start a service with a variable in its environment.
    pub fn start_with(&mut self, service: Service, variable: &str, value: &str) {
        let mut recipe = self.recipes.get(&service).expect("a service of this shop").clone();
        recipe.environment.insert(variable.into(), value.into());
        let process = Process::start(service, &recipe).expect("start a service");
        self.processes.insert(service, process);
    }

    /// kill -9 of a service, and start it with another address of NATS, which it keeps.
    pub fn move_to(&mut self, service: Service, nats_url: &str) {
        self.kill(service);
        let recipe = self.recipes.get_mut(&service).expect("a service of this shop");
        let flag = recipe.arguments.iter().position(|word| word == "--nats-url").expect("a service that uses NATS");
        nats_url.clone_into(&mut recipe.arguments[flag + 1]);
        self.start(service);
    }

    /// kill -9.
    pub fn kill(&mut self, service: Service) {
        if let Some(mut process) = self.processes.remove(&service) {
            process.kill();
        }
    }

    /// kill -9 of every service, not of the server.
    pub fn kill_all(&mut self) {
        for (_, mut process) in std::mem::take(&mut self.processes) {
            process.kill();
        }
    }

    /// Start every service that is not running.
    pub fn start_all(&mut self) {
        for service in self.recipes.keys().copied().collect::<Vec<_>>() {
            if !self.processes.contains_key(&service) {
                self.start(service);
            }
        }
    }

    /// Send a signal to a service.
    pub fn signal(&self, service: Service, signal: Signal) {
        let process = self.processes.get(&service).expect("a service that runs");
        process.signal(signal).expect("signal a service that runs");
    }

    /// Whether a service has ended; if so it is taken off the list.
    pub fn has_ended(&mut self, service: Service) -> bool {
        let ended = self
            .processes
            .get_mut(&service)
            .is_none_or(|process| process.ended().expect("ask for a service's state").is_some());
        if ended && self.processes.remove(&service).is_some() {
            *self.crashes.entry(service).or_default() += 1;
        }
        ended
    }

    /// How often a service was found to have ended by itself.
    #[must_use]
    pub fn crashes(&self, service: Service) -> u32 {
        self.crashes.get(&service).copied().unwrap_or_default()
    }

    /// Whether a service was started and has not been found ended since.
    #[must_use]
    pub fn is_running(&self, service: Service) -> bool {
        self.processes.contains_key(&service)
    }

    /// How a service that was asked to stop has ended.
    pub async fn exit_status(&mut self, service: Service) -> std::process::ExitStatus {
        let mut process = self.processes.remove(&service).expect("a service that runs");
        eventually_within(Duration::from_secs(20), "a service ends", async || {
            process.ended().expect("ask for a service's state")
        })
        .await
    }

    /// Wait until every gateway says that it is ready and shows the stock.
    pub async fn until_ready(&mut self) {
        for port in self.gateway_ports.clone() {
            let url = format!("http://127.0.0.1:{port}");
            let started = std::time::Instant::now();
            while !self.is_ready(&url).await {
                if started.elapsed() > OPENING_PATIENCE {
                    panic!("the shop did not open:\n{}", self.logs());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn is_ready(&self, url: &str) -> bool {
        let sandbox = self.http.get(format!("{}/livez", self.payment_url())).send().await;
        let ready = self.http.get(format!("{url}/readyz")).send().await;
        let products = self.http.get(format!("{url}/api/products")).send().await;
        let (Ok(_), Ok(ready), Ok(products)) = (sandbox, ready, products) else { return false };
        let products: Value = products.json().await.unwrap_or_default();
        let stocked = products["data"]
            .as_array()
            .is_some_and(|all| all.iter().filter(|one| one["available"].as_u64() > Some(0)).count() >= 3);
        ready.status() == StatusCode::OK && stocked
    }

    /// Everything that a service has logged.
    #[must_use]
    pub fn log_of(&self, service: Service) -> String {
        std::fs::read_to_string(self.log_dir.join(service.log_name())).unwrap_or_default()
    }

    /// The end of every service's log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.last_of_logs(40)
    }

    /// Every service's log, whole.
    #[must_use]
    pub fn whole_logs(&self) -> String {
        self.last_of_logs(usize::MAX)
    }

    fn last_of_logs(&self, most_lines: usize) -> String {
        let mut text = String::new();
        let Ok(entries) = std::fs::read_dir(&self.log_dir) else { return text };
        for path in entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text +=
                &format!("--- {}\n{}\n", path.display(), lines[lines.len().saturating_sub(most_lines)..].join("\n"));
        }
        text
    }

    /// Ask for a checkout.
    pub fn post_checkout(&self, key: Option<&str>, items: &Value) -> RequestBuilder {
        self.post_checkout_at(0, key, items)
    }

    /// Ask one gateway for a checkout.
    pub fn post_checkout_at(&self, gateway: usize, key: Option<&str>, items: &Value) -> RequestBuilder {
        let request = self
            .http
            .post(format!("{}/api/checkout_session", self.gateway_url(gateway)))
            .json(&json!({ "items": items }));
        match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        }
    }

    /// A checkout of one article that has got its payment link: the answer's body.
    pub async fn checkout(&self, sku: &str, quantity: u32) -> Value {
        let answer = self
            .post_checkout(None, &json!([{ "sku": sku, "quantity": quantity }]))
            .send()
            .await
            .expect("the gateway answers");
        expect(answer, StatusCode::CREATED).await
    }

    /// Call the sandbox's API.
    pub async fn sandbox(&self, path: &str, body: &Value) -> Response {
        self.http
            .post(format!("{}/api/{path}", self.payment_url()))
            .json(body)
            .send()
            .await
            .expect("the sandbox answers")
    }

    /// Pay a checkout at the provider.
    pub async fn pay(&self, checkout: &Value) {
        self.at_provider("submit_payment", checkout).await;
    }

    /// Do something with a checkout's session at the provider: `submit_payment`, `decline_payment`, `cancel_payment`.
    pub async fn at_provider(&self, action: &str, checkout: &Value) {
        let answer = self.sandbox(action, &json!({ "session_id": checkout["payment"]["session_id"] })).await;
        assert!(answer.status().is_success(), "{action}: {}", answer.text().await.unwrap_or_default());
    }

    /// Switch a fault on at the provider.
    pub async fn fault(&self, fault: Value) {
        let answer = self.sandbox("faults", &fault).await;
        assert!(answer.status().is_success(), "{fault}: {}", answer.text().await.unwrap_or_default());
    }

    /// Switch all faults off.
    pub async fn no_faults(&self) {
        let answer =
            self.http.delete(format!("{}/api/faults", self.payment_url())).send().await.expect("the sandbox answers");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// The sandbox's own books: every session that was opened for a checkout.
    pub async fn books(&self, reference: &str) -> Vec<Value> {
        self.all_books().await.into_iter().filter(|session| session["client_reference_id"] == reference).collect()
    }

    /// The sandbox's own books: every session.
    pub async fn all_books(&self) -> Vec<Value> {
        let (mut sessions, mut after) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/api/books?limit=1000&after={after}", self.payment_url());
            let page = expect(self.http.get(url).send().await.expect("the sandbox answers"), StatusCode::OK).await;
            sessions.extend(page["data"].as_array().cloned().unwrap_or_default());
            if page["has_more"] != true {
                return sessions;
            }
            after = sessions.last().and_then(|last| last["session_id"].as_str()).expect("a session id").to_owned();
        }
    }

    /// Where a checkout stands.
    pub async fn view(&self, id: &str) -> Value {
        let answer = self
            .http
            .get(format!("{}/api/checkout_session/{id}", self.shop_url()))
            .send()
            .await
            .expect("the gateway answers");
        expect(answer, StatusCode::OK).await
    }

    /// Wait until a checkout has a status.
    pub async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(id, &format!("{id} is {status}"), |view| view["status"] == status).await
    }

    /// Wait until a checkout is as a story wants it.
    pub async fn until(&self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = std::time::Instant::now();
        loop {
            let answer = self.http.get(format!("{}/api/checkout_session/{id}", self.shop_url())).send().await;
            let view: Value = match answer {
                Ok(answer) => answer.json().await.unwrap_or_default(),
                Err(_) => Value::Null,
            };
            if is_so(&view) {
                return view;
            }
            if started.elapsed() > Duration::from_secs(60) {
                panic!("waited 60 s in vain: {what}; it is {view}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One article as the shop shows it.
    pub async fn product(&self, sku: &str) -> Value {
        let answer =
            self.http.get(format!("{}/api/products/{sku}", self.shop_url())).send().await.expect("the gateway answers");
        expect(answer, StatusCode::OK).await
    }

    /// Wait until an article shows these numbers.
    pub async fn until_stock(&self, sku: &str, available: u64, reserved: u64, sold: u64) {
        eventually(&format!("{sku} has {available} available, {reserved} reserved, {sold} sold"), async || {
            // A gateway that has just been started still reads the catalogue.
            let answer = self.http.get(format!("{}/api/products/{sku}", self.shop_url())).send().await.ok()?;
            let product: Value = answer.error_for_status().ok()?.json().await.ok()?;
            let is = (product["available"].as_u64(), product["reserved"].as_u64(), product["sold"].as_u64());
            (is == (Some(available), Some(reserved), Some(sold))).then_some(())
        })
        .await;
    }

    /// Everything that has happened in a checkout.
    pub async fn history(&self, id: &str) -> Vec<CheckoutEvent> {
        let id: WorkflowId = id.parse().expect("a workflow id");
        let stored =
            read::history(&self.nats, WorkflowRef { kind: WorkflowKind::Checkout, id }).await.expect("read a history");
        stored
            .iter()
            .flat_map(|message| Record::<CheckoutEvent>::from_bytes(&message.payload).expect("a record").events)
            .collect()
    }

    /// The types of everything that has happened in a checkout.
    pub async fn event_types(&self, id: &str) -> Vec<&'static str> {
        use common::contracts::TypeName as _;
        self.history(id).await.iter().map(CheckoutEvent::type_name).collect()
    }

    /// How many messages are parked.
    pub async fn dead_letters(&self) -> u64 {
        let mut stream = self.nats.jetstream.get_stream("DEAD_LETTERS").await.expect("the stream of dead letters");
        stream.info().await.expect("its state").state.messages
    }

    /// Nothing is under way any more, and the doctor finds nothing broken.
    ///
    /// # Panics
    /// With the doctor's findings.
    pub async fn is_healthy(&self) {
        eventually_ok("the doctor has nothing to complain of", async || {
            let report = doctor::examine(&self.nats, doctor::Options::default()).await.expect("examine the streams");
            if report.is_healthy() { Ok(()) } else { Err(report.to_text()) }
        })
        .await;
    }

    /// Kill the server as a power cut of the process would, and start it again on the same port and data.
    pub async fn restart_server(&mut self) {
        self.server.kill().expect("kill nats-server");
        self.server.restart().await.expect("start nats-server again");
    }
}

/// Expect a status; the body as JSON.
pub(crate) async fn expect(answer: Response, status: StatusCode) -> Value {
    let is = answer.status();
    let body = answer.text().await.expect("a body");
    assert_eq!(is, status, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// The built-in catalogue; stories count on its numbers.
fn articles() -> Vec<CatalogueLine> {
    read_catalogue(None).expect("the built-in catalogue")
}

/// The server's address for a user; where there are no users it is anybody's.
fn url_for(server: &Servers, options: &ShopOptions, user: &str) -> String {
    let url = server.client_url();
    if options.permissions.is_some() { url_as(&url, user) } else { url }
}

/// Let every consumer hand on what a dead service has left sooner than in production.
async fn hurry(nats: &Nats, ack_wait: Duration) {
    for consumer in nats.shards.all_consumers(&ConsumerName::ALL) {
        let config = async_nats::jetstream::consumer::pull::Config { ack_wait, ..consumer.config() };
        nats.jetstream
            .create_consumer_on_stream(config, consumer.stream().as_str())
            .await
            .expect("change a consumer's ack wait");
    }
}

/// Ports that nobody uses at the moment.
///
/// # Panics
/// When there are none.
pub fn free_ports(count: usize) -> Vec<u16> {
    let some: [u16; 16] = deploy::nats_server::free_ports().expect("free ports");
    assert!(count <= some.len(), "no story needs so many ports");
    some[..count].to_vec()
}
