//! Servers for tests: on free ports, in a folder of their own, gone at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use tokio::sync::OnceCell;

use super::port::free_ports;
use super::{Cluster, FindOptions, NatsServer, NatsServerError, ServerConfig, StartOptions, find_or_install};
use crate::faulty_link::{FaultyLink, Flow};

/// Looked up once per test process: asking a binary for its version costs more than a test server needs to start.
static BINARY: OnceCell<PathBuf> = OnceCell::const_new();

impl NatsServer {
    /// A server as durable as the real one (`sync_interval: always`), for one test. Its data is removed when it is
    /// dropped, or when the test process ends in any other way.
    ///
    /// # Panics
    /// When there is no server to be had: a test that cannot run must not pass. The message says what to install.
    pub async fn start_for_test() -> Self {
        started(Self::try_start_for_test(|_| ()).await)
    }

    /// The same, with a configuration that `change` has changed.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`find_or_install`].
    pub async fn try_start_for_test(change: impl FnOnce(&mut ServerConfig)) -> Result<Self, NatsServerError> {
        let binary = binary_for_tests().await?;
        let scratch = tempfile::Builder::new().prefix("nats-for-test-").tempdir();
        let scratch = scratch.map_err(NatsServerError::folder("create a folder in", &std::env::temp_dir()))?;
        let mut config = ServerConfig::on_any_port(scratch.path(), "test")?;
        change(&mut config);
        Self::start_with_scratch(StartOptions::new(binary, config), Some(scratch)).await
    }

    /// The same in a folder that the test has chosen, a small disk for example, and that stays when it is dropped.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`find_or_install`].
    pub async fn start_for_test_in(folder: &Path) -> Result<Self, NatsServerError> {
        let binary = binary_for_tests().await?;
        Self::start(StartOptions::new(binary, ServerConfig::on_any_port(folder, "test")?)).await
    }

    /// Three servers that form one cluster, for streams with three replicas.
    ///
    /// # Panics
    /// As [`start_for_test`](Self::start_for_test).
    pub async fn start_cluster_for_test() -> Vec<Self> {
        started(try_start_cluster().await)
    }

    /// The same, with a link that can misbehave in front of every node for each of the others.
    ///
    /// # Panics
    /// As [`start_for_test`](Self::start_for_test).
    pub async fn start_linked_cluster_for_test() -> (Vec<Self>, RouteLinks) {
        started(try_start_linked_cluster().await)
    }
}

fn started<T>(result: Result<T, NatsServerError>) -> T {
    match result {
        Ok(server) => server,
        Err(error) => panic!("no nats-server for this test: {:#}", anyhow::Error::from(error)),
    }
}

/// A node's port for the others has to be known before it starts, and somebody may take it meanwhile: then all of them
/// start again on other ports, so often.
const CLUSTER_ATTEMPTS: u32 = 5;

async fn on_free_ports<T>(start: impl AsyncFn([u16; 3]) -> Result<T, NatsServerError>) -> Result<T, NatsServerError> {
    let mut attempt = 1;
    loop {
        match start(free_ports::<3>()?).await {
            Err(NatsServerError::Ended { log_tail, .. })
                if attempt < CLUSTER_ATTEMPTS && log_tail.contains("address already in use") =>
            {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Another cluster may get the port of a node that is down. With names of their own the two refuse each other; with the same
/// ones they would become one, with two servers of each name.
fn cluster_name(ports: [u16; 3]) -> String {
    format!("test-{}", ports[0])
}

async fn try_start_cluster() -> Result<Vec<NatsServer>, NatsServerError> {
    on_free_ports(async |ports| {
        let place = |port| Cluster { name: cluster_name(ports), port, routes: ports.to_vec(), advertise: None };
        start_nodes(ports.map(place)).await
    })
    .await
}

/// All at once: none of them is healthy before most of them have met.
async fn start_nodes(places: [Cluster; 3]) -> Result<Vec<NatsServer>, NatsServerError> {
    let nodes = places.into_iter().zip(1..).map(|(place, number)| {
        NatsServer::try_start_for_test(move |config| {
            config.server_name = format!("{}-{number}", place.name);
            config.cluster = Some(place);
        })
    });
    try_join_all(nodes).await
}

/// Nobody listens there: what a node tells of another one's address leads nowhere, so that nodes only meet over links.
const NOWHERE: u16 = 1;

/// The links over which three nodes reach each other.
#[derive(Debug)]
pub struct RouteLinks {
    /// By the node that connects, the two links to the others, each with the node it leads to.
    links: Vec<Vec<(usize, FaultyLink)>>,
}

impl RouteLinks {
    async fn between(ports: [u16; 3]) -> Result<Self, NatsServerError> {
        let mut links = Vec::with_capacity(3);
        for from in 0..3 {
            let mut of_this_node = Vec::with_capacity(2);
            for (to, port) in ports.into_iter().enumerate().filter(|(to, _)| *to != from) {
                let link = FaultyLink::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
                of_this_node.push((to, link.map_err(NatsServerError::NoPort)?));
            }
            links.push(of_this_node);
        }
        Ok(Self { links })
    }

    fn place(&self, node: usize, ports: [u16; 3]) -> Cluster {
        let routes = self.links[node].iter().map(|(_, link)| link.address().port()).collect();
        Cluster { name: cluster_name(ports), port: ports[node], routes, advertise: Some(NOWHERE) }
    }

    /// Every link between a node and the others, whoever has connected.
    fn around(&self, node: usize) -> impl Iterator<Item = &FaultyLink> {
        let ends = self.links.iter().enumerate().flat_map(|(from, links)| links.iter().map(move |link| (from, link)));
        ends.filter(move |(from, (to, _))| *from == node || *to == node).map(|(_, (_, link))| link)
    }

    /// Part a node from the others: nothing is told, no connection breaks, and what was under way arrives when the
    /// parting heals.
    pub fn hold(&self, node: usize) {
        self.around(node).for_each(|link| link.both_ways(Flow::Held));
    }

    /// Part a node from the others: every connection breaks and none can be made.
    pub fn cut(&self, node: usize) {
        for link in self.around(node) {
            link.refuse(true);
            link.cut();
        }
    }

    /// Let a node be one of the others again.
    pub fn heal(&self, node: usize) {
        self.around(node).for_each(FaultyLink::heal);
    }
}

async fn try_start_linked_cluster() -> Result<(Vec<NatsServer>, RouteLinks), NatsServerError> {
    on_free_ports(async |ports| {
        let links = RouteLinks::between(ports).await?;
        let nodes = start_nodes([0, 1, 2].map(|node| links.place(node, ports))).await?;
        Ok((nodes, links))
    })
    .await
}

async fn binary_for_tests() -> Result<PathBuf, NatsServerError> {
    let find = || async {
        // The build folder is surely ours to write; it is only used when there is no home.
        let target = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
        let options = FindOptions::from_environment(Some(target));
        let found = find_or_install(&options, &|line| eprintln!("{line}")).await?;
        Ok(found.path)
    };
    BINARY.get_or_try_init(find).await.cloned()
}
