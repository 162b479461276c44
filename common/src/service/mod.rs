//! What every service does the same way: start, be watched, serve HTTP, stop.

pub mod http;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
