#![allow(missing_docs, unreachable_pub, unused, clippy::unwrap_used)]
mod deploy;
mod inventory_killed; mod inventory_messages; mod inventory_oversell; mod inventory_snapshots; mod inventory_support; mod inventory_takeover;
