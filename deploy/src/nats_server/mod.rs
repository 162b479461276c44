//! Finds or installs nats-server, and runs it: for `cargo run` and for every test.
//!
//! In reading order: where the server comes from ([`NatsSource`], [`find_or_install`]), what it is told
//! ([`ServerConfig`]), and the running process ([`NatsServer`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use deploy::nats_server::{ClientPort, FindOptions, NatsServer, ServerConfig, StartOptions, find_or_install};
//!
//! let data_dir = std::path::Path::new(".local/nats");
//! let found = find_or_install(&FindOptions::from_environment(Some(data_dir)), &|line| eprintln!("{line}")).await?;
//! let config = ServerConfig::for_one_machine(data_dir, ClientPort::Preferably(4222))?;
//! let mut server = NatsServer::start(StartOptions::new(found.path, config)).await?;
//! println!("nats-server listens on {}", server.client_url());
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```

mod command;
mod config;
mod data_dir;
mod disk;
mod error;
mod find;
mod for_tests;
mod guard;
mod health;
mod install;
mod port;
mod process;
mod source;
mod staging;
#[cfg(test)]
mod tests;
mod version;

pub use config::{ClientPort, Cluster, ServerConfig, SyncPolicy};
pub use data_dir::stop_leftover;
pub use error::NatsServerError;
pub use find::{FindOptions, Found, find_or_install};
pub use for_tests::RouteLinks;
pub use port::free_ports;
pub use process::{NatsServer, StartOptions};
pub use source::NatsSource;
pub use staging::{Staging, stage_batches_in};
pub use version::{LEAST_VERSION, PINNED_VERSION, Version, require_recent};

/// Receives one line for people at every step that takes time or makes a choice.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);
