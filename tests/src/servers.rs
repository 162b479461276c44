//! The nats-servers of a story: one, or three that form a cluster and keep every stream three times.

use std::ops::Deref;

use deploy::nats_server::{NatsServer, NatsServerError, RouteLinks, ServerConfig};
use futures_util::future::try_join_all;

/// How many nodes stories run on that do not say it themselves: 1 or 3.
const NODES_VARIABLE: &str = "CHECKOUT_TEST_NODES";

/// All servers of a story. What is done here is done to all of them, as a power cut or an operator would; one of them
/// is reached by its number. What only makes sense for one (its folder, its monitoring port) is asked of the first.
#[derive(Debug)]
pub struct Servers {
    nodes: Vec<NatsServer>,
    links: Option<RouteLinks>,
}

/// How many nodes `CHECKOUT_TEST_NODES` asks for; one when it is not set.
///
/// # Panics
/// When it is neither 1 nor 3.
#[must_use]
pub fn nodes_from_environment() -> usize {
    match std::env::var(NODES_VARIABLE).as_deref() {
        Err(_) | Ok("1") => 1,
        Ok("3") => 3,
        Ok(other) => panic!("{NODES_VARIABLE}={other} cannot be: stories run on 1 node or on 3"),
    }
}

impl Servers {
    /// One server, or a cluster of three.
    ///
    /// # Panics
    /// When there is no server to be had, or `nodes` is neither 1 nor 3.
    pub async fn start(nodes: usize) -> Self {
        let nodes = match nodes {
            1 => vec![NatsServer::start_for_test().await],
            3 => NatsServer::start_cluster_for_test().await,
            other => panic!("stories run on 1 node or on 3, not on {other}"),
        };
        Self { nodes, links: None }
    }

    /// A cluster of three whose nodes reach each other over links that can misbehave.
    ///
    /// # Panics
    /// When there is no server to be had.
    pub async fn start_linked() -> Self {
        let (nodes, links) = NatsServer::start_linked_cluster_for_test().await;
        Self { nodes, links: Some(links) }
    }

    /// The links between the nodes.
    ///
    /// # Panics
    /// When the shop was not opened with `linked_nodes`.
    #[must_use]
    pub fn links(&self) -> &RouteLinks {
        self.links.as_ref().expect("a shop with linked nodes")
    }

    /// The addresses of all nodes for clients, separated by commas; the same after a restart.
    #[must_use]
    pub fn client_url(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(NatsServer::client_url).collect();
        urls.join(",")
    }

    /// How many times each stream is kept here.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.nodes.len()
    }

    /// Every node.
    #[must_use]
    pub fn nodes(&self) -> &[NatsServer] {
        &self.nodes
    }

    /// One node, to be killed, paused or started alone.
    pub fn node(&mut self, number: usize) -> &mut NatsServer {
        &mut self.nodes[number]
    }

    /// Which node a server's name belongs to.
    #[must_use]
    pub fn position(&self, server_name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.start_options().config.server_name == server_name)
    }

    /// kill -9 of every node.
    ///
    /// # Errors
    /// [`NatsServerError::NotRunning`].
    pub fn kill(&mut self) -> Result<(), NatsServerError> {
        self.nodes.iter_mut().try_for_each(NatsServer::kill)
    }

    /// Stop every node in order.
    ///
    /// # Errors
    /// As [`NatsServer::stop`].
    pub async fn stop(&mut self) -> Result<(), NatsServerError> {
        try_join_all(self.nodes.iter_mut().map(NatsServer::stop)).await.map(drop)
    }

    /// Start every node on the port and data it had; one that still runs is stopped first.
    ///
    /// # Errors
    /// As [`NatsServer::restart`].
    pub async fn restart(&mut self) -> Result<(), NatsServerError> {
        // All at once: none of them is healthy before most of them have met.
        try_join_all(self.nodes.iter_mut().map(NatsServer::restart)).await.map(drop)
    }

    /// Change what every node is told when it starts next.
    pub fn change_config(&mut self, change: impl Fn(&mut ServerConfig)) {
        for node in &mut self.nodes {
            node.change_config(&change);
        }
    }

    /// Freeze every node.
    ///
    /// # Errors
    /// As [`NatsServer::pause`].
    pub fn pause(&self) -> Result<(), NatsServerError> {
        self.nodes.iter().try_for_each(NatsServer::pause)
    }

    /// Let every frozen node go on.
    ///
    /// # Errors
    /// As [`NatsServer::resume`].
    pub fn resume(&self) -> Result<(), NatsServerError> {
        self.nodes.iter().try_for_each(NatsServer::resume)
    }
}

impl From<NatsServer> for Servers {
    /// One server that the story has started in its own way.
    fn from(server: NatsServer) -> Self {
        Self { nodes: vec![server], links: None }
    }
}

impl Deref for Servers {
    type Target = NatsServer;

    fn deref(&self) -> &NatsServer {
        &self.nodes[0]
    }
}
