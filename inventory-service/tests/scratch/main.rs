#![allow(missing_docs, unreachable_pub, unused, clippy::unwrap_used)]
mod deploy;
mod inventory_support; mod latency; const SERVICE: &str = "x";
