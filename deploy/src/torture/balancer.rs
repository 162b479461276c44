//! A small load balancer in front of the gateways: what a provider that knows one URL needs when gateways die.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// It closes when it is dropped.
#[derive(Debug)]
pub(super) struct Balancer {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Balancer {
    /// Listen on a free port of 127.0.0.1; each connection goes to the next backend that takes it.
    pub(super) async fn open(backends: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, Arc::new(backends)));
        Ok(Self { address, _accepting: AbortOnDropHandle::new(accepting) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, backends: Arc<Vec<SocketAddr>>) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        // Out of file descriptors, or the client has gone already: the next one may be luckier.
        let Ok((client, _)) = listener.accept().await else { continue };
        let (backends, first) = (Arc::clone(&backends), turn.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(async move {
            let mut client = client;
            for place in 0..backends.len() {
                let backend = backends[first.wrapping_add(place) % backends.len()];
                if let Ok(mut backend) = TcpStream::connect(backend).await {
                    // Either end may break it: that is what it is there for.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
                    return;
                }
            }
        });
    }
}
