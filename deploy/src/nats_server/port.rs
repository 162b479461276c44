//! Ports on 127.0.0.1 that are free.
//!
//! Nothing holds a port until the server takes it: when somebody is faster, the start fails and says so.

use std::net::{Ipv4Addr, TcpListener};

use super::{ClientPort, NatsServerError};

/// Turns a wish into a port that was free a moment ago.
pub(super) fn settle(wish: ClientPort) -> Result<ClientPort, NatsServerError> {
    let ClientPort::Preferably(preferred) = wish else { return Ok(wish) };
    if TcpListener::bind((Ipv4Addr::LOCALHOST, preferred)).is_ok() {
        return Ok(ClientPort::Exactly(preferred));
    }
    tracing::warn!(preferred, "the port for NATS clients is taken by another program; another one is chosen");
    Ok(ClientPort::Any)
}

/// Below the ports that Linux and the IANA give to outgoing connections (from 32768 and 49152 on): any of those may be taken
/// by somebody's connection just while a server is down. Above the ones that programs are known by.
const PORTS: std::ops::Range<u16> = 16_384..32_768;

/// Ports that are tried before there are taken to be none.
const MOST_TRIES: usize = 1_000;

/// Different ports that were free a moment ago.
///
/// # Errors
/// [`NatsServerError::NoPort`] when none can be found.
pub fn free_ports<const N: usize>() -> Result<[u16; N], NatsServerError> {
    // All are held until the last is chosen, or one could be given twice.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = free_port()?;
        *port = listener.local_addr().map_err(NatsServerError::NoPort)?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn free_port() -> Result<TcpListener, NatsServerError> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS)));
    let mut last = listen();
    for _ in 0..MOST_TRIES {
        if last.is_ok() {
            break;
        }
        last = listen();
    }
    last.map_err(NatsServerError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_port_is_kept_when_it_is_free_and_replaced_when_it_is_taken() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("its address").port();
        assert_eq!(settle(ClientPort::Preferably(port)).expect("a port"), ClientPort::Any);
        drop(taken);
        assert_eq!(settle(ClientPort::Preferably(port)).expect("a port"), ClientPort::Exactly(port));
    }

    #[test]
    fn a_port_that_somebody_asked_for_is_never_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("its address").port();
        assert_eq!(settle(ClientPort::Exactly(port)).expect("no other port"), ClientPort::Exactly(port));
    }
}
