//! Stops the server when this process ends without being able to: killed, crashed, or a test's static never dropped.
//!
//! A shell waits on a pipe whose other end only we hold. When we end, however we end, the pipe closes and the shell
//! signals the server. It sits in a process group of its own, so that Ctrl-C or a kill of our group misses it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ask the server to stop in order: the data stays.
const STOP: &str = r#"read -r _; kill -TERM "$1""#;
/// Nobody needs the data ($2): a killed test run leaves nothing behind.
const DISCARD: &str = r#"read -r _; kill -KILL "$1"; sleep 1; rm -rf -- "$2""#;

/// Alive as long as the server is to be stopped with us. Dropping it disarms it.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Watches over the process `server`; with `scratch`, that folder is removed with it.
    pub(super) fn over(server: u32, scratch: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(if scratch.is_some() { DISCARD } else { STOP }).arg("guard-of-nats-server");
        command.arg(server.to_string()).args(scratch);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(Self)
    }
}

impl Drop for Guard {
    /// Killed before its pipe closes, so it cannot act: by then the server's process id may belong to somebody else.
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            tracing::debug!(%error, "the guard of nats-server was gone already");
        }
    }
}
