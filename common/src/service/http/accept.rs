//! How a connection is taken: small answers go out at once, and a client that does not take what it is sent is let go.

use std::{
    future::{Ready, ready},
    io,
    time::Duration,
};

use axum_server::accept::Accept;
use tokio::net::TcpStream;

/// Sets up every accepted connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acceptor {
    /// How long a client may not take what it is sent. Without this a client that never reads would hold its connection,
    /// and one of the places that there are, for ever.
    pub(super) write_timeout: Duration,
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = TcpStream;
    type Service = S;
    type Future = Ready<io::Result<(TcpStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let set_up = stream.set_nodelay(true).and_then(|()| bound_writing(&stream, self.write_timeout));
        ready(set_up.map(|()| (stream, service)))
    }
}

/// The operating system ends the connection when sent bytes stay unacknowledged, or the client's window stays closed, for
/// so long; a connection on which nothing is to be sent is not touched.
#[cfg(target_os = "linux")]
fn bound_writing(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds).map_err(Into::into)
}

/// Elsewhere the system's own limit holds, which is some minutes.
#[cfg(not(target_os = "linux"))]
fn bound_writing(_stream: &TcpStream, _timeout: Duration) -> io::Result<()> {
    Ok(())
}
