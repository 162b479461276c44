//! Is the server ready? It tells its ports in a file and its health over HTTP.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A healthy server answers in milliseconds; a paused one never does.
const HTTP_LIMIT: Duration = Duration::from_secs(2);

/// Where a running server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) client: SocketAddr,
    pub(super) monitoring: SocketAddr,
}

/// The file `<program>_<pid>.ports` that the server writes when it listens.
#[derive(Deserialize)]
struct PortsFile {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

/// Removes the ports files of servers that were killed.
pub(super) fn remove_old_ports_files(folder: &Path) {
    for path in files_ending_with(folder, ".ports") {
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "an old ports file stays");
        }
    }
}

/// What the server `pid` has written, `None` until it listens.
pub(super) fn read_endpoints(folder: &Path, pid: u32) -> Option<Endpoints> {
    let path = files_ending_with(folder, &format!("_{pid}.ports")).next()?;
    let ports: PortsFile = serde_json::from_slice(&fs::read(path).ok()?).ok()?; // not ours to read while it is written
    Some(Endpoints { client: address(&ports.nats)?, monitoring: address(&ports.monitoring)? })
}

fn files_ending_with(folder: &Path, ending: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let matching = entries.filter(move |entry| entry.file_name().to_string_lossy().ends_with(ending));
    matching.map(|entry| entry.path())
}

/// The address in the first of `["nats://127.0.0.1:4222", …]`.
fn address(urls: &[String]) -> Option<SocketAddr> {
    urls.first()?.split_once("://")?.1.parse().ok()
}

/// Asks `/healthz`, which is 200 only when every stream and consumer is recovered and, in a cluster, has a leader.
/// The error is what the server answered instead.
pub(super) async fn check(monitoring: SocketAddr) -> Result<(), String> {
    let answer = tokio::time::timeout(HTTP_LIMIT, get(monitoring, "/healthz"))
        .await
        .map_err(|_| format!("no answer from http://{monitoring}/healthz"))?
        .map_err(|error| format!("http://{monitoring}/healthz: {error}"))?;
    let status_line = answer.lines().next().unwrap_or_default();
    if status_line.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(format!("http://{monitoring}/healthz says {}", answer.lines().last().unwrap_or(status_line)))
}

/// HTTP/1.0, so that the end of the answer is the end of the connection.
pub(super) async fn get(server: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(server).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_read_from_the_file_of_that_process_only() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("write");
        write("nats-server_7.ports", r#"{"nats":["nats://127.0.0.1:1"],"monitoring":["http://127.0.0.1:2"]}"#);
        write("other_77.ports", r#"{"nats":["nats://127.0.0.1:36469"],"monitoring":["http://127.0.0.1:34099"]}"#);
        write("nats-server_8.ports", r#"{"nats":["nats://127.0."#);

        let found = read_endpoints(folder.path(), 77).expect("the file of process 77");
        assert_eq!((found.client.port(), found.monitoring.port()), (36469, 34099));
        assert_eq!(read_endpoints(folder.path(), 8), None, "half written");
        assert_eq!(read_endpoints(folder.path(), 9), None, "not there yet");

        remove_old_ports_files(folder.path());
        assert_eq!(read_endpoints(folder.path(), 77), None);
    }
}
