//! Crowds of clients that speak HTTP badly, slowly or not at all, and what they cost a service.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use deploy::service_process::Service;

use crate::shop::Shop;

/// What a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory now, in bytes.
    pub memory: u64,
    /// The most resident memory that it has ever had, in bytes.
    pub peak_memory: u64,
    /// Open files, connections included.
    pub open_files: usize,
}

impl Shop {
    /// What a service takes now, as Linux tells.
    #[must_use]
    pub fn footprint(&self, service: Service) -> Footprint {
        footprint_of(self.pid(service))
    }

    /// A connection of one's own to a gateway.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn connect(&self, gateway: usize) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.gateway_url(gateway).trim_start_matches("http://")).await
    }
}

/// What a process takes now, as Linux tells.
///
/// # Panics
/// When there is no such process, or this is not Linux.
#[must_use]
pub fn footprint_of(pid: u32) -> Footprint {
    let process = format!("/proc/{pid}");
    let status = std::fs::read_to_string(format!("{process}/status")).expect("the status of a process");
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of the status");
        let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kilobytes.expect("a number of kilobytes") * 1024
    };
    let open_files = std::fs::read_dir(format!("{process}/fd")).expect("the open files of a process").count();
    Footprint { memory: bytes("VmRSS:"), peak_memory: bytes("VmHWM:"), open_files }
}

/// Send bytes; the beginning of what comes back, up to the end of the head; `None` when the connection ends without.
pub async fn exchange(connection: &mut TcpStream, request: &str, patience: Duration) -> Option<String> {
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut text = Vec::new();
    let mut part = [0; 1_024];
    timeout(patience, async {
        while !text.windows(4).any(|end| end == b"\r\n\r\n") {
            match connection.read(&mut part).await {
                Ok(count) if count > 0 => text.extend_from_slice(&part[..count]),
                _ => return None,
            }
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    })
    .await
    .ok()?
}

/// Send a little now and then until the other side ends the connection; whether it did within `patience`.
pub async fn dribble(connection: &mut TcpStream, drop: &[u8], every: Duration, patience: Duration) -> bool {
    let (mut reading, mut writing) = connection.split();
    let until_closed = async {
        let mut part = [0; 1_024];
        while reading.read(&mut part).await.is_ok_and(|count| count > 0) {}
    };
    let dribbling = async {
        // When writing fails the reading ends, too.
        while writing.write_all(drop).await.is_ok() {
            tokio::time::sleep(every).await;
        }
        std::future::pending::<()>().await;
    };
    timeout(patience, async {
        tokio::select! {
            () = until_closed => {}
            () = dribbling => {}
        }
    })
    .await
    .is_ok()
}
