//! The configuration file of a nats-server that we start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::data_dir::DataDir;
use super::{NatsServerError, disk};

/// When the server calls fsync for what JetStream has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before every acknowledgement: what was acked survives a power cut. Anything else breaks the shop's promises.
    Always,
    /// The server's own default (every two minutes): only to measure what durability costs, on data nobody needs.
    ServerDefault,
}

/// The port on 127.0.0.1 that clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPort {
    /// Whichever is free: for tests.
    Any,
    /// This one, else another free one: the `nats` tool works without flags on 4222, but a shop on another port is
    /// better than none. Whoever starts the server tells people when it became another one.
    Preferably(u16),
    /// This one or none: somebody asked for it.
    Exactly(u16),
}

/// One node's place in a cluster of servers on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The same for all nodes.
    pub name: String,
    /// The port on 127.0.0.1 where this node listens to the others.
    pub port: u16,
    /// Those ports of all nodes; this node's own may be among them.
    pub routes: Vec<u16>,
    /// Under which port on 127.0.0.1 the others tell each other to find this node; without one it is `port`.
    pub advertise: Option<u16>,
}

/// What a nats-server on 127.0.0.1 is told. Monitoring is on, on a free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Everything of this server: configuration, log, process id, and the streams in `jetstream/`.
    pub data_dir: PathBuf,
    /// Shown by `nats server ls`; in a cluster each node needs its own.
    pub server_name: String,
    /// Where clients connect.
    pub client_port: ClientPort,
    /// The most that file streams may hold, in bytes. Keep it below the free disk: a full disk freezes the server.
    pub max_file_store: u64,
    /// The most that memory streams may hold, in bytes.
    pub max_memory_store: u64,
    /// [`SyncPolicy::Always`] unless for a measurement.
    pub sync: SyncPolicy,
    /// Only for more than one server.
    pub cluster: Option<Cluster>,
    /// More of the configuration, as it is, such as users and their permissions; empty: anybody on this machine may do
    /// anything.
    pub more: String,
}

/// No stream of the shop is in memory; atomic batches on replicated streams are staged there, 1,000 messages each.
const MAX_MEMORY_STORE: u64 = 256 * 1024 * 1024;

impl ServerConfig {
    /// The server of a shop on one machine: clients on `client_port`, limits by the disk of `data_dir`, which is
    /// created when it does not exist.
    ///
    /// # Errors
    /// [`NatsServerError::Folder`] when the folder cannot be created, [`NatsServerError::DiskTooFull`].
    pub fn for_one_machine(data_dir: &Path, client_port: ClientPort) -> Result<Self, NatsServerError> {
        Self::on_any_port(data_dir, "shop").map(|config| Self { client_port, ..config })
    }

    pub(super) fn on_any_port(data_dir: &Path, server_name: &str) -> Result<Self, NatsServerError> {
        let data_dir = DataDir::create(data_dir)?;
        Ok(Self {
            max_file_store: disk::file_store_limit(data_dir.path())?,
            data_dir: data_dir.path().to_owned(),
            server_name: server_name.to_owned(),
            client_port: ClientPort::Any,
            max_memory_store: MAX_MEMORY_STORE,
            sync: SyncPolicy::Always,
            cluster: None,
            more: String::new(),
        })
    }

    /// The text of the configuration file, for the files in `data_dir`.
    pub(super) fn render(&self, data_dir: &DataDir) -> Result<String, NatsServerError> {
        let client_port = match self.client_port {
            ClientPort::Any => -1, // the server's word for it
            ClientPort::Preferably(port) | ClientPort::Exactly(port) => i32::from(port),
        };
        let sync = match self.sync {
            SyncPolicy::Always => "  # fsync before every acknowledgement.\n  sync_interval: always\n",
            SyncPolicy::ServerDefault => {
                "  # sync_interval is the server's default: a power cut loses acknowledged data.\n"
            }
        };
        Ok(format!(
            "# Written at every start of the shop: changes made here are lost.\n\
             server_name: {name}\n\
             listen: \"127.0.0.1:{client_port}\"\n\
             http: \"127.0.0.1:-1\"\n\
             ports_file_dir: {folder}\n\
             pid_file: {pid_file}\n\
             log_file: {log_file}\n\
             logfile_size_limit: 10MB\n\
             logfile_max_num: 5\n\
             # A client that reads too slowly is cut off at 64 MB or after 10 s, and connects again.\n\
             max_pending: 64MB\n\
             write_deadline: \"10s\"\n\
             jetstream {{\n  \
               store_dir: {folder}\n\
               {sync}  \
               # Below the free disk: a limit refuses clearly, a full disk freezes every stream.\n  \
               max_file_store: {max_file_store}\n  \
               max_memory_store: {max_memory_store}\n\
             {BATCH_LIMITS}\
             }}\n\
             {cluster}{more}",
            more = self.more,
            name = quoted(&self.server_name),
            folder = quoted_path(data_dir.path())?,
            pid_file = quoted_path(&data_dir.pid_file())?,
            log_file = quoted_path(&data_dir.log_file())?,
            max_file_store = self.max_file_store,
            max_memory_store = self.max_memory_store,
            cluster = self.cluster.as_ref().map(render_cluster).unwrap_or_default(),
        ))
    }
}

/// The server's own defaults, written down because the group commit of the journals is built on them.
const BATCH_LIMITS: &str = "  limits {\n    \
    batch { max_inflight_per_stream: 50, max_inflight_total: 1000, max_msgs: 1000, timeout: \"10s\" }\n  }\n";

/// A node that retires moves its leaders and clients away first: quickly, since on this machine few are connected, and
/// within the shortest time that the server allows.
const LAME_DUCK: &str = "lame_duck_grace_period: \"2s\"\nlame_duck_duration: \"30s\"\n";

fn render_cluster(cluster: &Cluster) -> String {
    let mut text = format!(
        "cluster {{\n  name: {}\n  listen: \"127.0.0.1:{}\"\n  routes: [\n",
        quoted(&cluster.name),
        cluster.port
    );
    for port in &cluster.routes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    \"nats-route://127.0.0.1:{port}\"");
    }
    text += "  ]\n";
    if let Some(port) = cluster.advertise {
        let _ = writeln!(text, "  cluster_advertise: \"127.0.0.1:{port}\"");
    }
    text + "}\n" + LAME_DUCK
}

fn quoted_path(path: &Path) -> Result<String, NatsServerError> {
    path.to_str().map(quoted).ok_or_else(|| NatsServerError::PathNotText { path: path.to_owned() })
}

/// A string of the configuration format: in double quotes, with backslash escapes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}
