//! What a run has seen: a table for eyes, or JSON.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Duration};

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL};
use serde::{Serialize, Serializer};

use super::told::{Asked, Told};

/// More violations than this are counted, not printed; JSON has all.
const MOST_PRINTED: usize = 50;

/// Something that was promised and does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which check has failed.
    pub check: &'static str,
    /// What it is about: a checkout, a key, an article, a stream.
    pub subject: String,
    /// What was seen, and what to look at.
    pub text: String,
}

/// What a run has seen.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What it can be repeated with.
    pub seed: u64,
    /// How many nats-servers there were.
    pub nodes: u8,
    /// How long customers came and faults happened, in milliseconds.
    #[serde(rename = "driven_millis", serialize_with = "millis")]
    pub driven: Duration,
    /// How long it took afterwards until nothing was under way, in milliseconds.
    #[serde(rename = "settled_millis", serialize_with = "millis")]
    pub settled: Duration,
    /// Customers that came.
    pub visits: u64,
    /// Those whose cart was accepted.
    pub accepted: u64,
    /// Checkouts by their end.
    pub checkouts: BTreeMap<String, u64>,
    /// Refunds by hand.
    pub refunds_by_hand: u64,
    /// Answers of the gateways by what was asked and their status; 0 is no answer.
    pub answers: BTreeMap<String, u64>,
    /// Faults that were carried out.
    pub faults: BTreeMap<String, u64>,
    /// Services that ended by themselves and were started again.
    pub ended_by_themselves: u64,
    /// Workflows that the sweep had to wake: each is a defect to look into, but breaks no promise.
    pub nudges: u64,
    /// Parked messages; with wrong words from the provider there are some.
    pub dead_letters: u64,
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// Where streams, books and logs are, if they were kept.
    pub kept: Option<PathBuf>,
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

/// Count the answers.
pub(super) fn answers(told: &[Told]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for answer in told.iter().flat_map(|told| &told.answers) {
        let asked = match answer.asked {
            Asked::Start => "start",
            Asked::OtherCart => "other cart",
            Asked::Cancel => "cancel",
            Asked::Refund => "refund",
            Asked::ForgedWebhook => "forged webhook",
        };
        *counts.entry(format!("{asked} {}", answer.status)).or_default() += 1;
    }
    counts
}

impl Outcome {
    /// Whether everything holds.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// The table and the violations.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.table().to_string();
        for Violation { check, subject, text: seen } in self.violations.iter().take(MOST_PRINTED) {
            // Writing to a text cannot fail.
            let _ = write!(text, "\nVIOLATION ({check}) {subject}: {seen}");
        }
        if self.violations.len() > MOST_PRINTED {
            let _ = write!(text, "\n… and {} more: --json shows all", self.violations.len() - MOST_PRINTED);
        }
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("seed", self.seed.to_string());
        row("nats-servers", self.nodes.to_string());
        row("driven for", format!("{} s", self.driven.as_secs()));
        row("settled within", format!("{} ms", self.settled.as_millis()));
        row("customers", format!("{}, {} of them with an accepted cart", self.visits, self.accepted));
        row("checkouts", lines(&self.checkouts));
        row("refunds by hand", self.refunds_by_hand.to_string());
        row("answers", lines(&self.answers));
        row(&format!("faults ({})", self.faults.values().sum::<u64>()), lines(&self.faults));
        row("ended by themselves", self.ended_by_themselves.to_string());
        row("woken by the sweep", self.nudges.to_string());
        row("parked", self.dead_letters.to_string());
        row("violations", self.violations.len().to_string());
        table
    }
}

fn lines(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{count:>6}  {name}")).collect::<Vec<_>>().join("\n")
}
