//! The doctor: reads the streams alone, as they are on the server, and proves or refutes the three promises.
//!
//! 1. Nobody is charged twice for one checkout, or without the goods being theirs.
//! 2. Stock adds up at every instant, and is held exactly while a checkout is undecided.
//! 3. Every accepted checkout reaches exactly one end, by itself.
//!
//! It changes nothing and can run beside a busy shop: it leaves out what moves while it is being read, and says how much.
//!
//! Reading order: `read` (in which order, and why that is one cut) → `history` and `way` (every record of every
//! workflow) → `money`, `stock`, `webhooks`, `progress`, `dead_letters` (what must hold) → `finding`, `report`.

mod dead_letters;
mod finding;
mod history;
mod money;
mod progress;
mod read;
mod report;
#[cfg(test)]
mod samples;
mod spinner;
mod stock;
#[cfg(test)]
mod tests;
mod way;
mod webhooks;

use std::time::Duration;

use common::{nats::Nats, time};

pub use finding::{Finding, Promise, Severity};
pub use money::Sums;
pub use progress::WaitingCounts;
pub use report::{Report, Summary};
pub use webhooks::WebhookCounts;

use finding::Findings;
use progress::Patience;
use read::{Evidence, read};
pub(crate) use read::{standing_of, webhook_readers};
pub(crate) use stock::Standing;

/// How the doctor works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Show on standard error how far it is, when that is a terminal.
    pub progress: bool,
    /// What is later than this is stuck. More than twice as long as the sweep needs to find it.
    pub stuck_after: Duration,
    /// How long the replica that answers may be behind the leader, before what it lacks is called missing.
    pub replica_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { progress: false, stuck_after: Duration::from_secs(5 * 60), replica_patience: Duration::from_secs(10) }
    }
}

/// Read all streams and judge them. Nothing is changed.
///
/// # Errors
/// When a stream or consumer is missing or the server cannot be asked: then nothing is known.
pub async fn examine(nats: &Nats, options: Options) -> anyhow::Result<Report> {
    let examined_at = time::now();
    let mut findings = Findings::default();
    let evidence = read(nats, &options, &mut findings).await?;
    let patience = Patience { now: examined_at, stuck_after: options.stuck_after };
    let summary = judge(&evidence, patience, &mut findings);
    let findings = findings.into_sorted();
    let healthy = findings.iter().all(|finding| finding.severity != Severity::Broken);
    Ok(Report { examined_at, healthy, summary, findings })
}

/// Hold everything that was read against everything else.
fn judge(evidence: &Evidence, patience: Patience, findings: &mut Findings) -> Summary {
    let Evidence { histories, ledger, projections, behind, letters, webhooks, under_way, moved } = evidence;
    histories.finish(findings);
    let money = money::examine(histories, findings);
    stock::compare(histories, ledger, moved, findings);
    stock::compare_projection(ledger, projections, behind, findings);
    progress::examine(histories, under_way, moved, patience, findings);
    letters.examine(findings);
    Summary {
        checkouts: histories.checkouts_by_status(),
        refunds_by_hand: count(histories.refunds.len()),
        history_records: histories.records,
        moved_meanwhile: count(moved.len()),
        money,
        articles: count(ledger.articles.len()),
        ledger_entries: ledger.entries(),
        movements: ledger.movements,
        webhooks: *webhooks,
        dead_letters: letters.count(),
        waiting: under_way.counts,
    }
}

fn count(things: usize) -> u64 {
    u64::try_from(things).unwrap_or(u64::MAX)
}
