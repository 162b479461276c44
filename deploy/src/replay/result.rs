//! What came of a replay: how many, the hash of all, where this build differs.

use common::ids::WorkflowKind;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;

use super::{check::replay, history::StoredHistory};

/// Divergences that are kept and shown; the rest is counted. A build that diverges so often diverges in one way.
const MOST_KEPT: usize = 100;

/// A place where this build makes something else of a history than the build that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Whose history, such as `checkout <id>`.
    pub workflow: String,
    /// Which record, counted from 0.
    pub index: u64,
    /// Its sequence in stream HISTORY.
    pub sequence: u64,
    /// What differs: `record`, `type`, `status` or `owed next`.
    pub what: &'static str,
    /// What stands there.
    pub recorded: String,
    /// What this build says.
    pub replayed: String,
}

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayResult {
    /// Whether this build makes of every history what was recorded, and of all what was expected.
    pub as_it_was: bool,
    /// Histories by kind.
    pub histories: BTreeMap<&'static str, u64>,
    /// Records of all histories.
    pub records: u64,
    /// Hash over what this build makes of all histories, whatever their order; hex.
    pub hash: String,
    /// The hash that was to come of it, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_hash: Option<String>,
    /// How many histories diverge.
    pub diverging: u64,
    /// The first of them.
    pub divergences: Vec<Divergence>,
}

/// Counts while histories are replayed one after the other; takes the same room however many there are.
pub(super) struct Tally {
    histories: BTreeMap<&'static str, u64>,
    records: u64,
    /// The histories' hashes, combined bit by bit (exclusive or), so that their order does not matter. Each workflow
    /// stands in its own hash and is there once, so no two can cancel each other.
    hash: [u8; 32],
    diverging: u64,
    divergences: Vec<Divergence>,
    bar: ProgressBar,
}

impl Tally {
    /// Nothing replayed yet.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::no_length();
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} replaying [{bar:40}] {pos} of {len} histories, {per_sec}")
        {
            bar.set_style(style);
        }
        let histories = WorkflowKind::ALL.iter().map(|kind| (kind.as_str(), 0)).collect();
        Self { histories, records: 0, hash: [0; 32], diverging: 0, divergences: Vec::new(), bar }
    }

    /// So many histories are to come.
    pub(super) fn expect_histories(&self, histories: u64) {
        self.bar.set_length(histories);
    }

    /// Replay one more.
    pub(super) fn take(&mut self, history: &StoredHistory) {
        let replayed = replay(history);
        *self.histories.entry(history.workflow.kind.as_str()).or_default() += 1;
        self.records += history.records.len() as u64;
        self.hash.iter_mut().zip(replayed.hash).for_each(|(all, one)| *all ^= one);
        if let Some(divergence) = replayed.divergence {
            self.diverging += 1;
            if self.divergences.len() < MOST_KEPT {
                self.divergences.push(divergence);
            }
        }
        self.bar.inc(1);
    }

    /// Everything is replayed.
    pub(super) fn finish(mut self, expected_hash: Option<String>) -> ReplayResult {
        self.bar.finish_and_clear();
        self.divergences.sort_by(|left, right| left.workflow.cmp(&right.workflow));
        let hash = hex::encode(self.hash);
        let is_expected = expected_hash.as_ref().is_none_or(|expected| expected.eq_ignore_ascii_case(&hash));
        ReplayResult {
            as_it_was: self.diverging == 0 && is_expected,
            histories: self.histories,
            records: self.records,
            hash,
            expected_hash,
            diverging: self.diverging,
            divergences: self.divergences,
        }
    }
}

impl ReplayResult {
    /// Whether this build makes of every history what was recorded, and of all what was expected.
    #[must_use]
    pub fn is_as_it_was(&self) -> bool {
        self.as_it_was
    }

    pub(super) fn to_text(&self) -> String {
        let kinds: Vec<String> = self.histories.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
        let mut text = format!(
            "replayed {} histories ({}), {} records\nresult   {}\n",
            self.histories.values().sum::<u64>(),
            kinds.join(", "),
            self.records,
            self.hash
        );
        for Divergence { workflow, index, sequence, what, recorded, replayed } in &self.divergences {
            text += &format!(
                "DIVERGED {workflow} at record {index} (sequence {sequence}): {what} was recorded as {recorded:?}, this \
                 build says {replayed:?}\n"
            );
        }
        if let Some(expected) =
            self.expected_hash.as_ref().filter(|expected| !expected.eq_ignore_ascii_case(&self.hash))
        {
            text += &format!("DIVERGED the result was to be {expected}\n");
        }
        text += &self.verdict();
        text
    }

    fn verdict(&self) -> String {
        match (self.as_it_was, self.diverging) {
            (true, _) => "this build makes of every history what was recorded\n".into(),
            (false, 0) => "this build makes something else of the histories than the one that printed the expected \
                           result, or they are not the same histories\n"
                .into(),
            (false, diverging) => {
                let more = diverging.saturating_sub(self.divergences.len() as u64);
                let more = if more > 0 { format!(" ({more} of them are not shown)") } else { String::new() };
                format!(
                    "{diverging} histories diverge{more}: do not deploy this build; keep what older events mean, or raise \
                     the version of the events and bring older ones up to date (CONTRIBUTING.md)\n"
                )
            }
        }
    }
}
