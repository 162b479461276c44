//! A TCP connection that misbehaves on demand: between a service and NATS, or between the nodes of a cluster.
//!
//! The torture run and the stories use it, because the kernel cannot delay or lose packets on loopback without modules
//! that most machines lack. Bytes are passed on, late, slowly, never or not at all, each direction by itself.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use deploy::faulty_link::{FaultyLink, Flow};
//!
//! let link = FaultyLink::open("127.0.0.1:4222".parse().expect("an address")).await?;
//! println!("connect to nats://{}", link.address());
//! link.to_client(Flow::Lost); // whatever the server answers is thrown away …
//! link.cut(); // … and the connection breaks
//! link.heal();
//! # Ok(())
//! # }
//! ```

mod flow;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use flow::Flow;

/// A TCP proxy for one address, with faults that can be switched at any time. It closes when it is dropped.
#[derive(Debug)]
pub struct FaultyLink {
    address: SocketAddr,
    controls: Arc<Controls>,
    _accepting: AbortOnDropHandle<()>,
}

/// What a test can change while bytes flow.
#[derive(Debug)]
struct Controls {
    to_server: watch::Sender<Flow>,
    to_client: watch::Sender<Flow>,
    refusing: watch::Sender<bool>,
    cut: broadcast::Sender<()>,
}

impl FaultyLink {
    /// Listen on a free port of 127.0.0.1 and pass everything on to `server`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn open(server: SocketAddr) -> io::Result<Self> {
        Self::open_at("127.0.0.1:0".parse().expect("a literal address"), server).await
    }

    /// Listen on `listen` and pass everything on to `server`, which need not run yet.
    ///
    /// # Errors
    /// When `listen` is taken.
    pub async fn open_at(listen: SocketAddr, server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let controls = Arc::new(Controls {
            to_server: watch::Sender::new(Flow::Open),
            to_client: watch::Sender::new(Flow::Open),
            refusing: watch::Sender::new(false),
            // A connection that misses a cut because of a full channel sees that it lagged and is cut all the same.
            cut: broadcast::Sender::new(1),
        });
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&controls)));
        Ok(Self { address, controls, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How bytes from the clients reach the server from now on.
    pub fn to_server(&self, flow: Flow) {
        self.controls.to_server.send_replace(flow);
    }

    /// How bytes from the server reach the clients from now on.
    pub fn to_client(&self, flow: Flow) {
        self.controls.to_client.send_replace(flow);
    }

    /// How bytes flow in both directions from now on.
    pub fn both_ways(&self, flow: Flow) {
        self.to_server(flow);
        self.to_client(flow);
    }

    /// Refuse new connections, or take them again. Connections that are open stay.
    pub fn refuse(&self, refusing: bool) {
        self.controls.refusing.send_replace(refusing);
    }

    /// Break every open connection at once; both ends see a reset.
    pub fn cut(&self) {
        // No receiver means no connection to cut.
        let _ = self.controls.cut.send(());
    }

    /// Everything flows, new connections are taken. A connection that has lost bytes is cut.
    pub fn heal(&self) {
        self.refuse(false);
        self.both_ways(Flow::Open);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, controls: Arc<Controls>) {
    // Connections end with the link: dropping the set aborts them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of file descriptors, or the client has gone already: the next one may be luckier.
                let Ok((client, _)) = accepted else { continue };
                if *controls.refusing.borrow() {
                    let _ = client.set_zero_linger();
                } else {
                    connections.spawn(connect(client, server, Arc::clone(&controls)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, controls: Arc<Controls>) {
    let mut cut = controls.cut.subscribe();
    // A reset instead of an orderly end, as from a machine that has gone.
    let _ = client.set_zero_linger();
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = server.set_zero_linger();
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Either direction ends the connection: with an end of file, an error, or bytes that are lost for good.
    let broken = CancellationToken::new();
    let there = flow::pass_on(from_client, to_server, controls.to_server.subscribe(), broken.clone());
    let back = flow::pass_on(from_server, to_client, controls.to_client.subscribe(), broken.clone());
    tokio::select! {
        _ = cut.recv() => {}
        () = broken.cancelled() => {}
        ((), ()) = async { tokio::join!(there, back) } => {}
    }
}
