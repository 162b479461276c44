//! One case: what is measured.

use std::fmt;

use clap::ValueEnum;
use common::shards::Shards;
use serde::Serialize;

use super::Mode;
use crate::nats_server::SyncPolicy;

/// What a power cut does to what was acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Durable {
    /// Nothing: every write is synced (`sync_interval: always`). The figure that counts.
    Always,
    /// It loses up to two minutes: the server's default.
    Default,
}

impl Durable {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Default => "default",
        }
    }

    pub(super) fn policy(self) -> SyncPolicy {
        match self {
            Self::Always => SyncPolicy::Always,
            Self::Default => SyncPolicy::ServerDefault,
        }
    }
}

/// How checkouts come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Load {
    /// So many are in flight at any time: who is served starts the next one. Shows how much comes through.
    InFlight(u32),
    /// So many start in each second, whether those before are served or not. Shows how long people wait: the time counts from
    /// when one was to start, so a shop that stalls does not hide it.
    PerSecond(u32),
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight(count) => write!(f, "{count} in flight"),
            Self::PerSecond(rate) => write!(f, "{rate} a second"),
        }
    }
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Case {
    pub(super) mode: Mode,
    pub(super) sync: Durable,
    pub(super) workers: u8,
    /// In how many streams histories, and commands, are spread.
    pub(super) shards: Shards,
    /// How many starts may wait at the gateway, when it is not as in production.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_waiting: Option<u32>,
    pub(super) skus: u32,
    /// Whether the server stages atomic batches on disk, as it does when nobody has led it into memory.
    pub(super) batches_on_disk: bool,
    pub(super) load: Load,
}

impl Case {
    /// So many in flight past HTTP, with what counts for everything else.
    pub(super) fn engine(in_flight: u32) -> Self {
        Self {
            mode: Mode::Engine,
            sync: Durable::Always,
            workers: 1,
            shards: Shards::ONE,
            max_waiting: None,
            skus: 100,
            batches_on_disk: false,
            load: Load::InFlight(in_flight),
        }
    }

    /// The whole way under a load.
    pub(super) fn http(load: Load) -> Self {
        Self { mode: Mode::Http, load, ..Self::engine(1) }
    }

    /// The shop that checkouts come to.
    pub(super) fn shop(&self) -> String {
        let plural = |count: u32, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
        let mut shop = format!("{}, {}", plural(self.skus, "SKU"), plural(self.workers.into(), "worker"));
        if self.shards != Shards::ONE {
            shop += &format!(", {} shards", self.shards);
        }
        if self.batches_on_disk {
            shop += ", batches on disk";
        }
        shop
    }

    pub(super) fn mode_word(&self) -> &'static str {
        match self.mode {
            Mode::Engine => "engine",
            Mode::Http => "http",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, sync {}, {}", self.mode_word(), self.load, self.sync.as_str(), self.shop())
    }
}
