//! One case: what is measured.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::Mode;
use crate::nats_server::SyncPolicy;

/// What a power cut does to what was acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Durable {
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

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Case {
    pub(super) mode: Mode,
    pub(super) sync: Durable,
    pub(super) workers: u8,
    pub(super) skus: u32,
    pub(super) in_flight: u32,
}

impl Case {
    pub(super) fn mode_word(&self) -> &'static str {
        match self.mode {
            Mode::Engine => "engine",
            Mode::Http => "http",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sync, workers, skus, in_flight, .. } = self;
        let mode = self.mode_word();
        write!(f, "{mode}, {in_flight} in flight, sync {}, {skus} SKUs, {workers} workers", sync.as_str())
    }
}
