//! What every service does the same way: start, be watched, serve HTTP, stop.

pub mod shutdown;
pub mod telemetry;
