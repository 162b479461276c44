//! A shop of its own for one run: nats-server, the services as processes, and for `http` gateway and sandbox.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use common::{
    contracts::catalogue::{Product, ProductType},
    money::Money,
    nats::{Nats, NatsOptions, connect::connect},
    streams::{Durability, LOWEST_WORKER_PRIORITY, Placement},
};
use reqwest::Client;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    Mode,
    case::{Case, Durable},
};
use crate::{
    catalogue::{CatalogueLine, seed},
    nats_server::{ClientPort, FindOptions, NatsServer, ServerConfig, StartOptions, find_or_install, free_ports},
    provision::provision,
    service_process::{Launcher, Process, Recipe, Service},
};

/// Room for the streams of one run, which takes some hundred megabytes.
const STORAGE_BYTES: u64 = 20 * 1024 * 1024 * 1024;

/// More than a run sells of one article.
const STOCK: u32 = 100_000_000;

/// Starts that may wait at the gateway: more than there are in any case, so that none is refused.
const MAX_WAITING: u32 = 20_000;

/// From the first process to the first checkout.
const OPENING_PATIENCE: Duration = Duration::from_secs(60);

/// Everything that runs in one run. It ends with it.
pub(super) struct Stage {
    // Services end before the server that they talk to.
    processes: BTreeMap<Service, Process>,
    server: NatsServer,
    /// The driver's own connection.
    pub(super) nats: Nats,
    pub(super) http: Client,
    /// What is sold.
    pub(super) articles: Vec<CatalogueLine>,
    /// Where each process tells what it has counted.
    pub(super) monitors: BTreeMap<Service, SocketAddr>,
    pub(super) gateway: SocketAddr,
    pub(super) sandbox: SocketAddr,
    folder: TempDir,
    case: Case,
    launcher: Launcher,
    services: Vec<Service>,
}

impl Stage {
    /// A shop that is open.
    pub(super) async fn open(case: &Case, launcher: &Launcher) -> anyhow::Result<Self> {
        let mut stage = Self::prepare(case, launcher).await?;
        stage.start_all().await?;
        Ok(stage)
    }

    /// A server with streams and a catalogue; no service runs yet.
    pub(super) async fn prepare(case: &Case, launcher: &Launcher) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir().context("create a folder for the run")?;
        let mut server = start_server(case.sync, folder.path()).await?;
        let nats = connect(&NatsOptions { nats_url: server.client_url(), nats_creds: None }, "bench").await?;
        let durability = match case.sync {
            Durable::Always => Durability::SyncAlways,
            Durable::Default => Durability::SyncSometimes,
        };
        let placement = Placement { replicas: 1, storage_bytes: STORAGE_BYTES, durability, shards: case.shards };
        provision(&nats, &placement).await?;
        let nats = nats.with_shards().await?;
        let articles = articles(case.skus)?;
        seed(&nats, &articles).await?;
        if !case.batches_on_disk {
            server
                .stage_batches_in_memory()
                .await
                .context("lead batches into memory (--batches-on-disk: do without)")?;
        }
        let log_dir = folder.path().join("logs");
        std::fs::create_dir_all(&log_dir).with_context(|| format!("create {}", log_dir.display()))?;

        let ports = free_ports::<20>()?;
        let address = |place: usize| SocketAddr::from(([127, 0, 0, 1], ports[place]));
        let mut services: Vec<Service> = (0..case.workers).map(Service::Worker).collect();
        services.push(Service::Inventory(0));
        let monitors: BTreeMap<Service, SocketAddr> =
            services.iter().enumerate().map(|(place, service)| (*service, address(place + 2))).collect();
        if case.mode == Mode::Http {
            services.extend([Service::Gateway(0), Service::Sandbox]);
        }
        let http = Client::builder().pool_max_idle_per_host(usize::MAX).timeout(Duration::from_secs(60)).build()?;
        let (case, launcher, processes) = (case.clone(), launcher.clone(), BTreeMap::new());
        let (gateway, sandbox) = (address(0), address(1));
        Ok(Self {
            processes,
            server,
            nats,
            http,
            articles,
            monitors,
            gateway,
            sandbox,
            folder,
            case,
            launcher,
            services,
        })
    }

    /// Start every service, and wait until the shop is open.
    pub(super) async fn start_all(&mut self) -> anyhow::Result<()> {
        for service in self.services.clone() {
            self.start(service)?;
        }
        self.until_open(&self.case).await
    }

    /// Start a service, or start it again.
    pub(super) fn start(&mut self, service: Service) -> anyhow::Result<()> {
        let arguments = arguments(
            service,
            &self.case,
            self.folder.path(),
            &self.server,
            self.monitors.get(&service),
            self.gateway,
            self.sandbox,
        );
        let recipe = Recipe {
            binary: self.launcher.binary.clone(),
            before: self.launcher.before.clone(),
            log_dir: self.log_dir(),
            arguments,
            // One line per decision would be measured, too.
            environment: [("RUST_LOG".to_owned(), "warn".to_owned())].into(),
        };
        let process = Process::start(service, &recipe).with_context(|| format!("start {service:?}"))?;
        self.processes.insert(service, process);
        Ok(())
    }

    /// kill -9, all at once.
    pub(super) fn kill_workers_and_inventory(&mut self) {
        for service in self.workers_and_inventory() {
            if let Some(mut process) = self.processes.remove(&service) {
                process.kill();
            }
        }
    }

    /// Ask a service to stop, and wait until it has.
    pub(super) async fn stop(&mut self, service: Service) -> anyhow::Result<()> {
        let Some(mut process) = self.processes.remove(&service) else { return Ok(()) };
        process.signal(rustix::process::Signal::TERM).with_context(|| format!("stop {service:?}"))?;
        let asked = Instant::now();
        while process.ended().with_context(|| format!("wait for {service:?}"))?.is_none() {
            ensure!(asked.elapsed() < OPENING_PATIENCE, "{service:?} does not stop: see {}", self.log_dir().display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// One worker, and the inventory service.
    pub(super) fn start_workers_and_inventory(&mut self) -> anyhow::Result<()> {
        self.workers_and_inventory().into_iter().try_for_each(|service| self.start(service))
    }

    fn workers_and_inventory(&self) -> Vec<Service> {
        let is_one = |service: &&Service| matches!(service, Service::Worker(_) | Service::Inventory(_));
        self.services.iter().filter(is_one).copied().collect()
    }

    /// Whether a service says that it is ready.
    pub(super) async fn is_ready(&self, service: Service) -> bool {
        let Some(address) = self.monitors.get(&service) else { return false };
        let answer = self.http.get(format!("http://{address}/readyz")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Where the server keeps its streams.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("nats")
    }

    async fn until_open(&self, case: &Case) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.is_open(case).await {
            ensure!(started.elapsed() < OPENING_PATIENCE, "the shop did not open: see {}", self.log_dir().display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn is_open(&self, case: &Case) -> bool {
        for service in self.monitors.keys() {
            if !self.is_ready(*service).await {
                return false;
            }
        }
        let is_ok =
            async |url: String| self.http.get(url).send().await.is_ok_and(|answer| answer.status().is_success());
        case.mode == Mode::Engine
            || is_ok(format!("http://{}/readyz", self.gateway)).await
                && is_ok(format!("http://{}/livez", self.sandbox)).await
                && self.shows_stock().await
    }

    async fn shows_stock(&self) -> bool {
        let url = format!("http://{}/api/products/{}", self.gateway, self.articles[0].product.sku);
        let Ok(answer) = self.http.get(url).send().await else { return false };
        answer.json::<serde_json::Value>().await.is_ok_and(|product| product["available"].as_u64() > Some(0))
    }

    /// What runs, by name, with its process id.
    pub(super) fn pids(&self) -> Vec<(&'static str, u32)> {
        let services = self.processes.iter().map(|(service, process)| (service.subcommand(), process.id()));
        let server = self.server.pid().map(|pid| ("nats-server", pid));
        services.chain(server).chain([("driver", std::process::id())]).collect()
    }

    pub(super) fn server_pid(&self) -> Option<u32> {
        self.server.pid()
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    pub(super) async fn close(mut self) {
        self.processes.clear();
        if let Err(error) = self.server.stop().await {
            tracing::warn!(%error, "nats-server did not stop");
        }
    }
}

pub(super) async fn start_server(sync: Durable, folder: &Path) -> anyhow::Result<NatsServer> {
    let found = find_or_install(&FindOptions::from_environment(Some(folder)), &|_| {}).await?;
    let config = ServerConfig::for_one_machine(&folder.join("nats"), ClientPort::Any)?;
    let config = ServerConfig { sync: sync.policy(), ..config };
    Ok(NatsServer::start(StartOptions::new(found.path, config)).await?)
}

fn articles(count: u32) -> anyhow::Result<Vec<CatalogueLine>> {
    (1..=count)
        .map(|number| {
            let product = Product {
                product_type: ProductType::Product,
                sku: format!("SKU-{number}").parse().context("an article's number")?,
                name: format!("Article {number}"),
                description: "Sold fast".into(),
                picture: "mug".into(),
                price: Money { amount: 1_490, currency: common::money::Currency::EUR },
            };
            Ok(CatalogueLine { product, stock: STOCK })
        })
        .collect()
}

fn arguments(
    service: Service,
    case: &Case,
    folder: &Path,
    server: &NatsServer,
    monitor: Option<&SocketAddr>,
    gateway: SocketAddr,
    sandbox: SocketAddr,
) -> Vec<String> {
    let nats = format!("--nats-url={}", server.client_url());
    let marks = format!("--high-water-dir={}", folder.join("high-water").display());
    let payment_url = format!("--payment-url=http://{sandbox}");
    let mut arguments = match service {
        // Numbers that are drawn would be the same now and then, and no two runs alike.
        Service::Worker(number) => {
            let provider = if case.mode == Mode::Engine { "--instant-provider".into() } else { payment_url };
            vec![nats, marks, provider, format!("--priority={}", number.min(LOWEST_WORKER_PRIORITY))]
        }
        Service::Inventory(_) => vec![nats, marks],
        Service::Gateway(_) => vec![
            nats,
            marks,
            payment_url,
            format!("--listen={gateway}"),
            "--rate-limit=0".into(),
            "--answer-timeout=60s".into(),
            format!("--max-waiting={}", case.max_waiting.unwrap_or(MAX_WAITING)),
        ],
        Service::Sandbox => vec![
            format!("--payment-listen={sandbox}"),
            format!("--webhook-url=http://{gateway}/payment_webhook"),
            format!("--payment-data-dir={}", folder.join("sandbox").display()),
        ],
    };
    if let Some(monitor) = monitor {
        arguments.push(format!("--monitor-listen={monitor}"));
    }
    if case.sync == Durable::Default && !matches!(service, Service::Sandbox) {
        arguments.push("--allow-unsynced".into());
    }
    arguments
}
