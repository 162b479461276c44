//! Stock: the ledger is replayed by the inventory's own rules and added up a second time by plain sums; then it is held
//! against the histories and against what readers of stock are told.

use std::collections::{BTreeMap, HashMap, HashSet};

use common::{
    contracts::inventory::{Balance, LedgerEntry, Movement, StockLevel, StockLine, StockProjection},
    ids::{Sku, WorkflowKind, WorkflowRef},
    nats::read::Stored,
    record::{BrokenHistory, ChainEnd},
    time::Timestamp,
};
use inventory_service::ledger::{Ledger, movement_name};

use super::{
    finding::{Findings, Promise, look_at},
    history::{CheckoutHistory, Histories},
    way::{Stage, ToGoBack},
};

/// The ledger, read so far.
#[derive(Debug, Default)]
pub(super) struct LedgerRead {
    chain: ChainEnd,
    ledger: Ledger,
    last_at: Timestamp,
    /// The chain is broken: what comes after it is worth nothing. It was reported.
    pub(super) is_broken: bool,
    /// A movement was impossible, so the inventory's own rules cannot go on; the plain sums do.
    rules_have_stopped: bool,
    pub(super) articles: BTreeMap<Sku, Article>,
    pub(super) standings: HashMap<WorkflowRef, Standing>,
    pub(super) movements: u64,
}

/// One article, by the movements alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Article {
    restocked: i128,
    reserved: i128,
    sold: i128,
    /// What the newest entry that names it says.
    pub(super) recorded: Balance,
    /// The index of that entry.
    pub(super) last_index: u64,
    is_reported: bool,
}

/// What the ledger says of one workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Held(Vec<StockLine>),
    Sold(Vec<StockLine>),
    Released,
    Refused,
}

impl Article {
    fn adds_up_to(&self, balance: Balance) -> bool {
        let available = self.restocked - self.reserved - self.sold;
        [available, self.reserved, self.sold].iter().all(|units| *units >= 0)
            && (i128::from(balance.available), i128::from(balance.reserved), i128::from(balance.sold))
                == (available, self.reserved, self.sold)
    }
}

impl LedgerRead {
    /// How many entries were read.
    pub(super) fn entries(&self) -> u64 {
        self.chain.next_index
    }

    /// Read one message of `INVENTORY`.
    pub(super) fn read_on(&mut self, stored: &Stored, findings: &mut Findings) {
        if self.is_broken {
            return;
        }
        let entry = match self.continue_chain(&stored.payload) {
            Ok(entry) => entry,
            Err(broken) => {
                self.is_broken = true;
                findings.broken(
                    Promise::Stock,
                    "stream INVENTORY",
                    format!(
                        "the ledger cannot be trusted from sequence {} on: {broken}. The inventory service will not run on \
                         it: restore INVENTORY from a backup or another replica, or start the newer version that wrote it",
                        stored.sequence
                    ),
                );
                return;
            }
        };
        if entry.at < self.last_at {
            let text = format!(
                "entry {} happened at {}, before the entry before it ({})",
                entry.index, entry.at, self.last_at
            );
            findings.broken(Promise::Stock, "stream INVENTORY", text);
        }
        self.last_at = self.last_at.max(entry.at);
        self.apply_the_rules(&entry, stored.sequence, findings);
        for movement in &entry.movements {
            self.add_up(movement, stored.sequence, findings);
        }
        self.compare_balances(&entry, stored.sequence, findings);
    }

    fn continue_chain(&mut self, stored: &[u8]) -> Result<LedgerEntry, BrokenHistory> {
        let entry: LedgerEntry = serde_json::from_slice(stored)
            .map_err(|error| BrokenHistory::Unreadable { index: self.chain.next_index, reason: error.to_string() })?;
        if entry.index != self.chain.next_index {
            return Err(BrokenHistory::Gap { expected: self.chain.next_index, found: entry.index });
        }
        if entry.previous != self.chain.hash {
            let (named, actual) = (entry.previous, self.chain.hash.clone());
            return Err(BrokenHistory::BrokenChain { index: entry.index, named, actual });
        }
        self.chain.extend(stored);
        Ok(entry)
    }

    fn apply_the_rules(&mut self, entry: &LedgerEntry, sequence: u64, findings: &mut Findings) {
        if self.rules_have_stopped {
            return;
        }
        if let Err(impossible) = self.ledger.apply_entry(entry) {
            self.rules_have_stopped = true;
            findings.broken(
                Promise::Stock,
                "stream INVENTORY",
                format!(
                    "entry {} (sequence {sequence}) is impossible: {impossible}. The inventory service will not run on it; \
                     see `nats stream get INVENTORY {sequence}` and restore the stream",
                    entry.index
                ),
            );
        }
    }

    fn add_up(&mut self, movement: &Movement, sequence: u64, findings: &mut Findings) {
        self.movements += 1;
        match movement {
            Movement::Restocked { line, .. } => self.article(line).restocked += i128::from(line.quantity),
            Movement::Reserved { workflow, lines } => {
                for line in lines {
                    self.article(line).reserved += i128::from(line.quantity);
                }
                self.stand(*workflow, Standing::Held(lines.clone()), movement, sequence, findings);
            }
            Movement::Committed { workflow, lines } => {
                for line in lines {
                    let article = self.article(line);
                    article.reserved -= i128::from(line.quantity);
                    article.sold += i128::from(line.quantity);
                }
                self.stand(*workflow, Standing::Sold(lines.clone()), movement, sequence, findings);
            }
            Movement::Released { workflow, lines } => {
                for line in lines {
                    self.article(line).reserved -= i128::from(line.quantity);
                }
                self.stand(*workflow, Standing::Released, movement, sequence, findings);
            }
            Movement::ReserveRefused { workflow, .. } => {
                self.stand(*workflow, Standing::Refused, movement, sequence, findings);
            }
        }
    }

    fn article(&mut self, line: &StockLine) -> &mut Article {
        self.articles.entry(line.sku.clone()).or_default()
    }

    /// The inventory forgets finished reservations after a week; the doctor does not.
    fn stand(
        &mut self,
        workflow: WorkflowRef,
        now: Standing,
        movement: &Movement,
        sequence: u64,
        findings: &mut Findings,
    ) {
        let before = self.standings.insert(workflow, now);
        let is_possible = match (movement, &before) {
            (Movement::Reserved { .. } | Movement::ReserveRefused { .. }, None) => true,
            (Movement::Committed { lines, .. }, Some(Standing::Held(held))) => held == lines,
            (Movement::Released { lines, .. }, Some(Standing::Held(held))) => held == lines,
            (Movement::Released { lines, .. }, Some(Standing::Refused) | None) => lines.is_empty(),
            _ => false,
        };
        if !is_possible && !self.rules_have_stopped {
            let before = before.map_or("nothing", |standing| standing.word());
            let text = format!(
                "the ledger has `{}` for it (sequence {sequence}) after `{before}`; see `nats stream get INVENTORY {sequence}`",
                movement_name(movement)
            );
            findings.broken(Promise::Stock, workflow, text);
        }
    }

    /// What the entry says is left, against what its movements leave.
    fn compare_balances(&mut self, entry: &LedgerEntry, sequence: u64, findings: &mut Findings) {
        for StockLevel { sku, balance } in &entry.balances {
            let article = self.articles.entry(sku.clone()).or_default();
            article.recorded = *balance;
            article.last_index = entry.index;
            if !article.adds_up_to(*balance) && !article.is_reported {
                article.is_reported = true;
                let text = format!(
                    "the stock does not add up from sequence {sequence} of INVENTORY on: {} came in, and the movements leave \
                     {} reserved and {} sold, but the entry says {} available, {} reserved, {} sold. Count the goods",
                    article.restocked,
                    article.reserved,
                    article.sold,
                    balance.available,
                    balance.reserved,
                    balance.sold
                );
                findings.broken(Promise::Stock, article_name(sku), text);
            }
        }
        let named: HashSet<&Sku> = entry.balances.iter().map(|level| &level.sku).collect();
        let silent = entry.movements.iter().flat_map(moved_lines).find(|line| !named.contains(&line.sku));
        if let Some(StockLine { sku, .. }) = silent {
            let text = format!("entry {} (sequence {sequence}) moves it without saying what is left", entry.index);
            findings.broken(Promise::Stock, article_name(sku), text);
        }
    }
}

fn moved_lines(movement: &Movement) -> &[StockLine] {
    match movement {
        Movement::Reserved { lines, .. } | Movement::Committed { lines, .. } | Movement::Released { lines, .. } => {
            lines
        }
        Movement::Restocked { line, .. } => std::slice::from_ref(line),
        Movement::ReserveRefused { .. } => &[],
    }
}

fn article_name(sku: &Sku) -> String {
    format!("article {sku}")
}

impl Standing {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Sold(_) => "sold",
            Self::Released => "released",
            Self::Refused => "refused",
        }
    }
}

/// Hold histories and ledger against each other, but for the workflows that moved while they were being read.
pub(super) fn compare(
    histories: &Histories,
    ledger: &LedgerRead,
    moved: &HashSet<WorkflowRef>,
    findings: &mut Findings,
) {
    if ledger.is_broken {
        return;
    }
    for (id, checkout) in &histories.checkouts {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: *id };
        if checkout.is_sound()
            && !moved.contains(&workflow)
            && let Some((promise, text)) = contradiction(checkout, ledger.standings.get(&workflow))
        {
            findings.broken(promise, workflow, format!("{text}; {}", look_at(workflow)));
        }
    }
    let strangers = ledger.standings.iter().filter(|(workflow, _)| match workflow.kind {
        WorkflowKind::Checkout => !histories.checkouts.contains_key(&workflow.id),
        WorkflowKind::Refund => true,
    });
    for (workflow, standing) in strangers {
        match standing {
            Standing::Held(_) | Standing::Sold(_) => findings.broken(
                Promise::Stock,
                workflow,
                format!(
                    "stock is {} for it, but there is no such checkout: its history is lost, or it never was one",
                    standing.word()
                ),
            ),
            Standing::Released | Standing::Refused => findings.note(
                Promise::Stock,
                workflow,
                "the ledger has answered it, but there is no such checkout; nothing is held for it",
            ),
        }
    }
}

/// What is wrong between a checkout and what the ledger says of it. The ledger moves before the history says so, and
/// only after the history has said what is owed: each stage allows exactly what can be there while a step is under way.
fn contradiction(checkout: &CheckoutHistory, standing: Option<&Standing>) -> Option<(Promise, String)> {
    use Standing::{Held, Refused, Released, Sold};
    let order = checkout.order.as_ref()?;
    let word = standing.map_or("nothing", Standing::word);
    if let Some(Held(lines) | Sold(lines)) = standing
        && !same_lines(lines, &order.lines)
    {
        return Some((Promise::Stock, "the ledger holds other articles or quantities for it than were bought".into()));
    }
    let wrong = |promise, text: &str| Some((promise, format!("{text} (the ledger says: {word})")));
    match (checkout.stage, standing) {
        (Stage::NotStarted, _)
        | (Stage::Reserving, None | Some(Held(_) | Refused))
        | (Stage::OpeningPayment | Stage::AwaitingPayment | Stage::Closing(_), Some(Held(_)))
        | (Stage::Committing, Some(Held(_) | Sold(_)))
        | (Stage::Releasing(..), None | Some(Held(_) | Released | Refused))
        | (Stage::Paid, Some(Sold(_)))
        | (Stage::Undone(..), None | Some(Released | Refused)) => None,
        (Stage::Paid, _) => wrong(
            Promise::Charge,
            "it is paid, but its goods are not sold to it: the customer has paid for nothing. Give the money back or send the goods",
        ),
        // The ledger had refused the sale, so the money goes back by itself; the stock must still not hang on it.
        (Stage::Undone(_, ToGoBack::Owed | ToGoBack::Settled), Some(Sold(_))) => {
            wrong(Promise::Stock, "its money goes back, but its goods are booked as sold: count the goods")
        }
        (Stage::Undone(..), Some(Sold(_))) => {
            wrong(Promise::Stock, "it ended undone, but its goods are booked as sold: count the goods")
        }
        (Stage::Undone(..), Some(Held(_))) => {
            wrong(Promise::Stock, "it has ended, but its goods are still held: send the inventory a release for it")
        }
        (Stage::Committing, _) => wrong(
            Promise::Charge,
            "it was paid and its sale is owed, but its goods are not held any more: the money will have to go back",
        ),
        (Stage::Reserving, _) => wrong(Promise::Stock, "it is still asking for its goods, but the ledger is past that"),
        (Stage::OpeningPayment | Stage::AwaitingPayment | Stage::Closing(_), _) => wrong(
            Promise::Stock,
            "it is undecided, but its goods are not held: somebody could pay for nothing. Cancel it",
        ),
        (Stage::Releasing(..), _) => wrong(Promise::Stock, "it is being undone, but its goods are booked as sold"),
    }
}

/// The ledger has each article once, sorted.
fn same_lines(of_ledger: &[StockLine], of_order: &[StockLine]) -> bool {
    let sums = |lines: &[StockLine]| {
        lines.iter().fold(BTreeMap::<Sku, u64>::new(), |mut sums, line| {
            *sums.entry(line.sku.clone()).or_default() += u64::from(line.quantity);
            sums
        })
    };
    sums(of_ledger) == sums(of_order)
}

/// What readers of stock are told.
pub(super) type Projections = BTreeMap<Sku, StockProjection>;

/// The articles whose projection is older than the ledger.
pub(super) fn behind(ledger: &LedgerRead, projections: &Projections) -> Vec<Sku> {
    let is_behind = |sku: &Sku, article: &Article| match projections.get(sku) {
        None => true,
        Some(told) => told.level.balance != article.recorded && told.ledger_index < article.last_index,
    };
    ledger.articles.iter().filter(|(sku, article)| is_behind(sku, article)).map(|(sku, _)| sku.clone()).collect()
}

/// Hold the projection against the ledger; `behind` were looked at again and again and stayed so. The projection must have
/// been read before the ledger.
pub(super) fn compare_projection(
    ledger: &LedgerRead,
    projections: &Projections,
    behind: &[Sku],
    findings: &mut Findings,
) {
    if ledger.is_broken {
        return;
    }
    for sku in behind {
        findings.attention(
            Promise::Stock,
            article_name(sku),
            "what readers of stock are told is older than the ledger: is the inventory service running? It compares all \
             articles when it starts",
        );
    }
    for (sku, told) in projections {
        let Some(article) = ledger.articles.get(sku) else {
            let text = "readers are told of stock that the ledger has never had: the ledger has lost entries, or somebody \
                        else has written to STOCK";
            findings.broken(Promise::Stock, article_name(sku), text);
            continue;
        };
        if told.ledger_index >= ledger.entries() {
            let text = format!(
                "readers are told of entry {} of the ledger, but it has only {}: the ledger has lost entries; restore \
                 INVENTORY from a newer backup or another replica",
                told.ledger_index,
                ledger.entries()
            );
            findings.broken(Promise::Stock, article_name(sku), text);
        } else if told.ledger_index >= article.last_index && told.level.balance != article.recorded {
            let text = format!(
                "readers are told {:?} as of entry {}, but the ledger says {:?}: purge stream STOCK and start the inventory \
                 service again, which writes it anew",
                told.level.balance, told.ledger_index, article.recorded
            );
            findings.broken(Promise::Stock, article_name(sku), text);
        }
    }
}

#[cfg(test)]
mod tests;
