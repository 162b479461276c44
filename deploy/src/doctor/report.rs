//! The doctor's report: a table of the three promises, then what was found, the worst first; or JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL};
use common::{money::Money, time::Timestamp};
use serde::Serialize;

use super::{
    finding::{Finding, Promise, Severity},
    money::Sums,
    progress::WaitingCounts,
    webhooks::WebhookCounts,
};

/// More findings than this of one severity are counted, not printed; JSON has all.
const MOST_PRINTED: usize = 50;

/// What the doctor has seen and found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// When the reading began, by this machine's clock.
    pub examined_at: Timestamp,
    /// Whether nothing is broken.
    pub healthy: bool,
    /// What was looked at.
    pub summary: Summary,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Checkouts by status; `untrusted` are those whose history cannot be believed.
    pub checkouts: BTreeMap<&'static str, u64>,
    /// Refunds by hand.
    pub refunds_by_hand: u64,
    /// Records of all histories.
    pub history_records: u64,
    /// Workflows that moved while they were read, and so were not held against the ledger and the clock.
    pub moved_meanwhile: u64,
    /// The money by currency, in minor units.
    pub money: BTreeMap<String, Sums>,
    /// Articles in the ledger.
    pub articles: u64,
    /// Entries of the ledger.
    pub ledger_entries: u64,
    /// Movements in them.
    pub movements: u64,
    /// Webhooks by fate.
    pub webhooks: WebhookCounts,
    /// Parked messages.
    pub dead_letters: u64,
    /// Messages that wait or are being worked on.
    pub waiting: WaitingCounts,
}

impl Report {
    /// Whether nothing is broken; there may still be something for a person to do.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Findings of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity == severity)
    }

    /// The table and the findings.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.table().to_string();
        for severity in [Severity::Broken, Severity::Attention, Severity::Note] {
            self.write_findings(severity, &mut text);
        }
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["Promise", "Verdict", "Looked at"]);
        for promise in Promise::ALL {
            let words = format!("{}  {}", promise.number(), promise.words());
            table.add_row([words, self.verdict(promise), self.looked_at(promise)]);
        }
        table
    }

    fn verdict(&self, promise: Promise) -> String {
        let count = |severity| self.of(severity).filter(|finding| finding.promise == promise).count();
        match (count(Severity::Broken), count(Severity::Attention)) {
            (0, 0) => "holds".into(),
            (0, attention) => format!("holds; {attention} for you to look at"),
            (broken, _) => format!("BROKEN ({broken})"),
        }
    }

    fn looked_at(&self, promise: Promise) -> String {
        let summary = &self.summary;
        match promise {
            Promise::Charge => {
                let mut lines: Vec<String> =
                    summary.money.iter().map(|(currency, sums)| sums_line(currency, sums)).collect();
                let webhooks = &summary.webhooks;
                lines.push(format!(
                    "{} webhooks ({} waiting, {} parked)",
                    webhooks.stored, webhooks.waiting, webhooks.parked
                ));
                lines.join("\n")
            }
            Promise::Stock => format!(
                "{} articles, {} movements in {} ledger entries",
                summary.articles, summary.movements, summary.ledger_entries
            ),
            Promise::End => {
                let total: u64 = summary.checkouts.values().sum();
                let by_status: Vec<String> =
                    summary.checkouts.iter().map(|(word, count)| format!("{count} {word}")).collect();
                let WaitingCounts { commands, inventory_commands, booked, due } = summary.waiting;
                let mut lines = vec![format!("{total} checkouts, {} refunds by hand", summary.refunds_by_hand)];
                lines.extend((!by_status.is_empty()).then(|| by_status.join(", ")));
                lines.push(format!(
                    "{} messages wait, {} are parked",
                    commands + inventory_commands + booked + due,
                    summary.dead_letters
                ));
                if summary.moved_meanwhile > 0 {
                    lines.push(format!("{} moved while being read", summary.moved_meanwhile));
                }
                lines.join("\n")
            }
        }
    }

    fn write_findings(&self, severity: Severity, text: &mut String) {
        let findings: Vec<&Finding> = self.of(severity).collect();
        for Finding { promise, subject, text: found, .. } in findings.iter().take(MOST_PRINTED) {
            // Writing to a text cannot fail.
            let _ = write!(
                text,
                "\n{} (promise {}) {subject}: {found}",
                severity.as_str().to_uppercase(),
                promise.number()
            );
        }
        if findings.len() > MOST_PRINTED {
            let more = findings.len() - MOST_PRINTED;
            let _ = write!(text, "\n… and {more} more of this kind: --json shows all");
        }
    }
}

fn sums_line(currency: &str, sums: &Sums) -> String {
    let amount = |minor: i128| match (i64::try_from(minor), currency.parse()) {
        (Ok(amount), Ok(currency)) => Money { amount, currency }.to_string(),
        _ => format!("{minor} minor units of {currency}"),
    };
    let mut line = format!("received {}, kept {}", amount(sums.received), amount(sums.kept));
    for (what, minor) in
        [("given back", sums.returned), ("under way", sums.under_way), ("for you to give back", sums.needs_attention)]
    {
        if minor != 0 {
            let _ = write!(line, ", {what} {}", amount(minor));
        }
    }
    line
}

#[cfg(test)]
mod tests;
