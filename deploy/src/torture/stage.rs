//! Everything that is tortured: nats-servers, services as processes, and the links between them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::pull;
use common::{
    nats::{Nats, NatsOptions, connect::connect},
    streams::{ConsumerName, Durability, Placement},
};
use futures_util::future::try_join_all;
use reqwest::Client;
use tokio::{sync::Mutex, time::Instant};

use super::{TortureArgs, balancer::Balancer, visits::articles};
use crate::{
    catalogue::seed,
    faulty_link::FaultyLink,
    nats_server::{
        ClientPort, Cluster, FindOptions, NatsServer, ServerConfig, StartOptions, find_or_install, free_ports,
    },
    provision::provision,
    service_process::{Launcher, Process, Recipe, Service},
};

/// Instances of each service.
const GATEWAYS: u8 = 2;
const WORKERS: u8 = 3;
const INVENTORIES: u8 = 2;

/// Room for all streams of a run; 5,000 checkouts take a hundredth of it.
const STORAGE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// The token that restocks and refunds by hand show.
pub(super) const OPERATOR_TOKEN: &str = "operator-of-the-torture";

/// From the first process to the first checkout, on a busy machine.
const OPENING_PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at something that is expected soon.
const PAUSE: Duration = Duration::from_millis(100);

/// One service: how it is started, and its process while it runs. Whoever does something to it holds the lock.
pub(super) struct Slot {
    pub(super) recipe: Recipe,
    pub(super) process: Mutex<Option<Process>>,
}

impl Slot {
    /// Start it if it does not run.
    pub(super) fn start(&self, service: Service, process: &mut Option<Process>) -> anyhow::Result<()> {
        if process.is_none() {
            *process = Some(Process::start(service, &self.recipe).with_context(|| format!("start {service:?}"))?);
        }
        Ok(())
    }
}

/// Everything that is tortured.
pub(super) struct Stage {
    // Services end before the servers that they talk to.
    pub(super) slots: BTreeMap<Service, Slot>,
    pub(super) links: BTreeMap<Service, Vec<FaultyLink>>,
    pub(super) servers: Vec<Mutex<NatsServer>>,
    /// A connection past the links.
    pub(super) nats: Nats,
    pub(super) http: Client,
    pub(super) gateways: Vec<SocketAddr>,
    pub(super) sandbox: SocketAddr,
    pub(super) folder: PathBuf,
    /// How often a service ended by itself and was started again, as a supervisor does.
    pub(super) ended_by_themselves: AtomicU64,
    _balancer: Balancer,
}

impl Stage {
    /// Start everything and wait until it can be bought from.
    pub(super) async fn open(args: &TortureArgs, launcher: &Launcher, folder: &Path) -> anyhow::Result<Self> {
        common::service::tls::install_tls_provider();
        let mut servers = start_servers(args.nodes, folder).await?;
        let urls: Vec<String> = servers.iter().map(NatsServer::client_url).collect();
        let nats = connect(&NatsOptions { nats_url: urls.join(","), nats_creds: None }, "torture").await?;
        let placement = Placement {
            replicas: args.nodes.into(),
            storage_bytes: STORAGE_BYTES,
            durability: Durability::SyncAlways,
            shards: args.shards,
        };
        provision(&nats, &placement).await?;
        // The nodes of a cluster do that by themselves.
        if let ([server], false) = (&mut servers[..], args.batches_on_disk) {
            server
                .stage_batches_in_memory()
                .await
                .context("lead batches into memory (--batches-on-disk: do without)")?;
        }
        let nats = nats.with_shards().await?;
        if let Some(ack_wait) = args.ack_wait {
            shorten_ack_wait(&nats, ack_wait).await?;
        }
        seed(&nats, &articles(args.checkouts)?).await?;

        let [first, second, sandbox] = free_ports::<3>()?.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let gateways = vec![first, second];
        ensure!(gateways.len() == usize::from(GATEWAYS), "there is a port for each gateway");
        let balancer = Balancer::open(gateways.clone()).await.context("open the load balancer")?;
        let links = open_links(&servers).await?;
        let log_dir = folder.join("logs");
        std::fs::create_dir_all(&log_dir).with_context(|| format!("create {}", log_dir.display()))?;
        let kitchen = Kitchen { args, launcher, links: &links, log_dir, sandbox };
        let slots = kitchen.slots(folder, &gateways, balancer.address());
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .context("set up the customers' connections")?;
        let stage = Self {
            slots,
            links,
            servers: servers.into_iter().map(Mutex::new).collect(),
            nats,
            http,
            gateways,
            sandbox,
            folder: folder.to_owned(),
            ended_by_themselves: AtomicU64::new(0),
            _balancer: balancer,
        };
        for (service, slot) in &stage.slots {
            slot.start(*service, &mut *slot.process.lock().await)?;
        }
        stage.until_open().await?;
        Ok(stage)
    }

    /// All services of this run.
    pub(super) fn services(&self) -> Vec<Service> {
        self.slots.keys().copied().collect()
    }

    /// One of the gateways.
    pub(super) fn gateway_url(&self, number: usize) -> String {
        format!("http://{}", self.gateways[number % self.gateways.len()])
    }

    /// Where the sandbox is.
    pub(super) fn sandbox_url(&self) -> String {
        format!("http://{}", self.sandbox)
    }

    /// Wait until the sandbox and every gateway answer, with stock.
    pub(super) async fn until_open(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.is_open().await {
            ensure!(
                started.elapsed() < OPENING_PATIENCE,
                "the shop did not open within {} s: see the logs in {}",
                OPENING_PATIENCE.as_secs(),
                self.folder.join("logs").display()
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn is_open(&self) -> bool {
        let is_ok =
            async |url: String| self.http.get(url).send().await.is_ok_and(|answer| answer.status().is_success());
        for number in 0..self.gateways.len() {
            let url = self.gateway_url(number);
            if !is_ok(format!("{url}/readyz")).await || !self.shows_stock(&url).await {
                return false;
            }
        }
        is_ok(format!("{}/livez", self.sandbox_url())).await
    }

    async fn shows_stock(&self, url: &str) -> bool {
        let Ok(answer) = self.http.get(format!("{url}/api/products")).send().await else { return false };
        let Ok(products) = answer.json::<serde_json::Value>().await else { return false };
        let stocked = |product: &&serde_json::Value| product["available"].as_u64() > Some(0);
        products["data"].as_array().is_some_and(|all| all.iter().filter(stocked).count() >= 5)
    }

    /// Start again what has ended by itself, as a supervisor does, for as long as this is polled.
    pub(super) async fn supervise(&self) {
        loop {
            tokio::time::sleep(PAUSE * 3).await;
            for (service, slot) in &self.slots {
                // Somebody is doing something to it at the moment.
                let Ok(mut process) = slot.process.try_lock() else { continue };
                let has_ended = process.as_mut().is_none_or(|running| !matches!(running.ended(), Ok(None)));
                if has_ended {
                    self.ended_by_themselves.fetch_add(1, Ordering::Relaxed);
                    *process = None;
                    if let Err(error) = slot.start(*service, &mut process) {
                        tracing::error!(?service, error = format!("{error:#}"), "cannot be started again");
                    }
                }
            }
        }
    }

    /// Stop everything; what is stored stays in the folder.
    pub(super) async fn close(self) {
        for slot in self.slots.values() {
            *slot.process.lock().await = None;
        }
        for server in self.servers {
            if let Err(error) = server.into_inner().stop().await {
                tracing::warn!(%error, "a nats-server did not stop");
            }
        }
    }
}

async fn start_servers(nodes: u8, folder: &Path) -> anyhow::Result<Vec<NatsServer>> {
    let found = find_or_install(&FindOptions::from_environment(Some(folder)), &|line| eprintln!("… {line}")).await?;
    let ports = free_ports::<3>()?;
    let starting = (0..nodes).map(|number| {
        let (binary, dir) = (found.path.clone(), folder.join(format!("nats-{number}")));
        async move {
            let config = ServerConfig::for_one_machine(&dir, ClientPort::Any)?;
            let cluster = (nodes > 1).then(|| Cluster {
                // Of its own: another torture may get the port of a node that is down.
                name: format!("torture-{}", ports[0]),
                port: ports[usize::from(number)],
                routes: ports.to_vec(),
                advertise: None,
            });
            let config = ServerConfig { server_name: format!("torture-{}-{number}", ports[0]), cluster, ..config };
            NatsServer::start(StartOptions::new(binary, config)).await
        }
    });
    // All at once: none of them is healthy before most of them have met.
    Ok(try_join_all(starting).await?)
}

/// A link of its own from every service to every server. In a cluster a client learns the servers' own addresses too, so
/// that a connection that is made again may go past its link.
async fn open_links(servers: &[NatsServer]) -> anyhow::Result<BTreeMap<Service, Vec<FaultyLink>>> {
    let connected = (0..GATEWAYS)
        .map(Service::Gateway)
        .chain((0..WORKERS).map(Service::Worker))
        .chain((0..INVENTORIES).map(Service::Inventory));
    let mut links = BTreeMap::new();
    for service in connected {
        let opening = servers.iter().map(|server| FaultyLink::open(server.client_address()));
        links.insert(service, try_join_all(opening).await.context("open the links to NATS")?);
    }
    Ok(links)
}

/// Let every consumer hand on what a dead service has left sooner than in production.
async fn shorten_ack_wait(nats: &Nats, ack_wait: Duration) -> anyhow::Result<()> {
    for consumer in nats.shards.all_consumers(&ConsumerName::ALL) {
        let config = pull::Config { ack_wait, ..consumer.config() };
        let stream = consumer.stream().as_str();
        nats.jetstream
            .create_consumer_on_stream(config, stream)
            .await
            .with_context(|| format!("change the ack wait of the consumer of {stream}"))?;
    }
    Ok(())
}

/// Where recipes are written.
struct Kitchen<'a> {
    args: &'a TortureArgs,
    launcher: &'a Launcher,
    links: &'a BTreeMap<Service, Vec<FaultyLink>>,
    log_dir: PathBuf,
    sandbox: SocketAddr,
}

impl Kitchen<'_> {
    fn slots(&self, folder: &Path, gateways: &[SocketAddr], balancer: SocketAddr) -> BTreeMap<Service, Slot> {
        let payment = [
            format!("--payment-url=http://{}", self.sandbox),
            // Shorter than in production, so that a provider that hangs is tried again within the run.
            "--payment-call-timeout=1s".into(),
        ];
        let mut slots = BTreeMap::new();
        for number in 0..WORKERS {
            let own = [
                format!("--payment-timeout={}s", self.args.payment_timeout.as_secs().max(1)),
                "--retry-wait=200ms".into(),
                // Two take turns, so that they meet on the same checkout; the others are there when those have no room.
                format!("--priority={}", number / 2),
            ];
            self.add(&mut slots, Service::Worker(number), [payment.to_vec(), own.to_vec()].concat());
        }
        for number in 0..INVENTORIES {
            self.add(&mut slots, Service::Inventory(number), Vec::new());
        }
        for (number, address) in (0..GATEWAYS).zip(gateways) {
            let own = [
                format!("--listen={address}"),
                "--answer-timeout=5s".into(),
                format!("--operator-token={OPERATOR_TOKEN}"),
            ];
            self.add(&mut slots, Service::Gateway(number), [payment.to_vec(), own.to_vec()].concat());
        }
        let sandbox = vec![
            format!("--payment-listen={}", self.sandbox),
            format!("--payment-data-dir={}", folder.join("sandbox").display()),
            format!("--webhook-url=http://{balancer}/payment_webhook"),
            "--faults".into(),
        ];
        self.add(&mut slots, Service::Sandbox, sandbox);
        slots
    }

    fn add(&self, slots: &mut BTreeMap<Service, Slot>, service: Service, mut arguments: Vec<String>) {
        if let Some(links) = self.links.get(&service) {
            let urls: Vec<String> = links.iter().map(|link| format!("nats://{}", link.address())).collect();
            arguments.push(format!("--nats-url={}", urls.join(",")));
        }
        let log_level = std::env::var("RUST_LOG").unwrap_or_else(|_| "info,async_nats=warn".into());
        let recipe = Recipe {
            binary: self.launcher.binary.clone(),
            before: self.launcher.before.clone(),
            log_dir: self.log_dir.clone(),
            arguments,
            environment: BTreeMap::from([("RUST_LOG".to_owned(), log_level)]),
        };
        slots.insert(service, Slot { recipe, process: Mutex::new(None) });
    }
}
