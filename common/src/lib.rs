//! What the services say to each other: ids, money, subjects, streams, contracts, the history record,
//! the guarded append, and the plumbing that every service shares. No business rule lives here.
//!
//! Reading order: [`ids`], [`money`], [`time`] (strings become types at the door) → [`subject`], [`streams`]
//! (where messages live) → [`contracts`], [`record`], [`headers`] (what they say) → [`nats`] (how they are
//! written and read safely) → [`high_water`] (has a stream become shorter?) → [`payment`] (the provider's side) → [`service`] (start, watch, stop).

pub mod contracts;
pub mod crash_point;
pub mod headers;
pub mod high_water;
pub mod ids;
pub mod money;
pub mod nats;
pub mod panic_point;
pub mod payment;
pub mod record;
pub mod service;
pub mod shards;
pub mod streams;
pub mod subject;
pub mod time;
