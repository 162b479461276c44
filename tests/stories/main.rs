//! Stories across services, on a real nats-server: one file, one story.

mod bad_input;
mod browser;
mod cancelled;
mod contention;
mod crash_points;
mod declined;
mod expired;
mod history_store;
mod idempotency;
mod inventory_killed;
mod inventory_messages;
mod inventory_oversell;
mod inventory_snapshots;
mod inventory_support;
mod inventory_takeover;
mod killed;
mod live;
mod out_of_stock;
mod paid;
mod paid_late;
mod poison;
mod power_off;
mod provider_trouble;
mod quarantine;
mod refund_by_hand;
mod several_instances;
mod sweep;
mod timers;
mod webhooks;

/// The services as processes.
const SERVICE: &str = env!("CARGO_BIN_EXE_service");
