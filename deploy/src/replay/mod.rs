//! Replay: every stored history through the code of this build, before it is deployed. Nothing is written and nobody is
//! called.
//!
//! For each record it demands what the build that wrote it recorded: the same place in the chain, the same types, the
//! same status, the same thing owed next. A change that would take a running workflow elsewhere is named with its place
//! before it can do anything. The result is one hash over all histories, in whatever order they are read, so that two
//! builds can be compared: the same histories give the same hash, or the builds differ.
//!
//! What it does not do: decide again. A record tells what was decided, not what was told; decisions are facts that a new
//! build keeps, and only what follows from them is its own.
//!
//! Reading order: `history` (one history, from a stream or a file) → `check` (through this build) → `result` (what came of
//! it) → `source` (where histories come from).

mod check;
mod history;
mod result;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use common::{
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{Nats, NatsOptions, connect::connect},
};

use crate::output::{print_json, print_text};
use result::Tally;
use source::{Export, from_file, from_stream};

pub use result::{Divergence, ReplayResult};

/// Which histories to replay, and what to compare the result with.
#[derive(Debug, Clone, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    nats: NatsOptions,
    /// Replay every stored history.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Replay the histories of these workflows, such as ca47a060-17e6-5fed-99d0-5760d8ddcdb4.
    #[arg(value_name = "ID", required_unless_present_any = ["all", "from_file"])]
    ids: Vec<WorkflowId>,
    /// Replay histories from a file that `--export` wrote, without a server: so CI of a new version can replay
    /// production's histories.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "ids", "export"])]
    from_file: Option<PathBuf>,
    /// Write the histories that are replayed to this file, byte for byte, one record on each line.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Fail unless the result has this hash, which another build has printed for the same histories.
    #[arg(long, value_name = "HASH")]
    expect: Option<String>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Replay and report; `false` when a history diverges or the result is not the expected one.
///
/// # Errors
/// When the histories cannot be read, the export cannot be written, or a workflow that was asked for has no history.
pub async fn run_replay(args: &ReplayArgs) -> anyhow::Result<bool> {
    let mut tally = Tally::new();
    if let Some(file) = &args.from_file {
        from_file(file, &mut tally)?;
    } else {
        let nats = connect(&args.nats, "replay").await?.with_shards().await?;
        let mut export = args.export.as_deref().map(Export::create).transpose()?;
        if args.all {
            from_stream(&nats, &mut tally, export.as_mut()).await?;
        } else {
            replay_these(&nats, &args.ids, &mut tally, export.as_mut()).await?;
        }
        export.map(Export::finish).transpose()?;
    }
    let result = tally.finish(args.expect.clone());
    if args.json {
        print_json(&result).context("print the result")?
    } else {
        print_text(result.to_text().trim_end())
    }
    Ok(result.is_as_it_was())
}

/// The histories of some workflows; an id names a workflow of any kind.
async fn replay_these(
    nats: &Nats,
    ids: &[WorkflowId],
    tally: &mut Tally,
    mut export: Option<&mut Export>,
) -> anyhow::Result<()> {
    for id in ids {
        let mut found = false;
        for kind in WorkflowKind::ALL {
            let history = source::read(nats, WorkflowRef { kind, id: *id }).await?;
            found |= !history.records.is_empty();
            source::take(history, tally, export.as_deref_mut())?;
        }
        ensure!(found, "workflow {id} has no history in stream HISTORY: is it the right server?");
    }
    Ok(())
}
