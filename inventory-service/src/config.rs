//! What can be set.

use common::high_water::HighWaterOptions;

/// Settings of the inventory service.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Write a snapshot after so many ledger entries: fewer make a quicker start, more make less to write.
    #[arg(long, env = "INVENTORY_SNAPSHOT_EVERY", default_value_t = Config::default().snapshot_every, value_name = "ENTRIES")]
    pub snapshot_every: u64,
    /// Decide at most so many commands together, in one ledger entry.
    #[arg(long, env = "INVENTORY_GROUP_COMMANDS", default_value_t = Config::default().group_commands, value_name = "COMMANDS")]
    pub group_commands: usize,
    /// Start although the server does not sync every write: for throw-away tests only.
    #[arg(long, env = "CHECKOUT_ALLOW_UNSYNCED")]
    pub allow_unsynced: bool,
    /// Where it is noted how far the ledger is stored.
    #[command(flatten)]
    pub high_water: HighWaterOptions,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // At hundreds of entries a second a snapshot every minute; replaying as many takes about a second.
            snapshot_every: 10_000,
            // What gathers during one commit at the highest load that was measured; more only makes answers later.
            group_commands: 500,
            allow_unsynced: false,
            high_water: HighWaterOptions::default(),
        }
    }
}
