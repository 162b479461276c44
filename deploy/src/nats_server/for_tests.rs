//! Servers for tests: on free ports, in a folder of their own, gone at the end.

use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use tokio::sync::OnceCell;

use super::port::free_ports;
use super::{Cluster, FindOptions, NatsServer, NatsServerError, ServerConfig, StartOptions, find_or_install};

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

    /// Three servers that form one cluster, for streams with three replicas.
    ///
    /// # Panics
    /// As [`start_for_test`](Self::start_for_test).
    pub async fn start_cluster_for_test() -> Vec<Self> {
        started(try_start_cluster().await)
    }
}

fn started<T>(result: Result<T, NatsServerError>) -> T {
    match result {
        Ok(server) => server,
        Err(error) => panic!("no nats-server for this test: {:#}", anyhow::Error::from(error)),
    }
}

/// All at once: none of them is healthy before most of them have met.
async fn try_start_cluster() -> Result<Vec<NatsServer>, NatsServerError> {
    let ports = free_ports::<3>()?;
    let nodes = ports.iter().zip(1..).map(|(&port, number)| {
        NatsServer::try_start_for_test(move |config| {
            config.server_name = format!("test-{number}");
            config.cluster = Some(Cluster { name: "test".to_owned(), port, routes: ports.to_vec() });
        })
    });
    try_join_all(nodes).await
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
