//! The inventory: what may be asked of it, what it answers, what its ledger records, what others read.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::TypeName;
use crate::{
    ids::{OperatorName, Sku, WorkflowRef},
    record::RecordHash,
    time::Timestamp,
};

/// How many units of one article a workflow wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLine {
    /// Which article.
    pub sku: Sku,
    /// How many, at least one.
    pub quantity: u32,
}

/// What may be asked of the inventory, on `inventory.command.<id>` (the workflow's id, or the restock's).
///
/// Every command may arrive any number of times: the second time it changes nothing and gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InventoryCommand {
    /// Hold these lines for a workflow: all of them or none.
    Reserve {
        /// Who asks, and where the answer goes.
        workflow: WorkflowRef,
        /// What to hold; each SKU once.
        lines: Vec<StockLine>,
    },
    /// What is held for a workflow is sold.
    Commit {
        /// Who asks, and where the answer goes.
        workflow: WorkflowRef,
    },
    /// What is held for a workflow goes back; a reserve that comes later is refused.
    Release {
        /// Who asks, and where the answer goes.
        workflow: WorkflowRef,
    },
    /// New goods have come in.
    Restock {
        /// Which delivery: the same id is the same delivery.
        restock_id: Uuid,
        /// What came in.
        sku: Sku,
        /// How many, at least one.
        quantity: u32,
        /// Who told of it; nobody did of a catalogue's first deliveries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<OperatorName>,
    },
}

impl InventoryCommand {
    /// Who asks; none for goods that come in.
    #[must_use]
    pub fn workflow(&self) -> Option<WorkflowRef> {
        match self {
            Self::Reserve { workflow, .. } | Self::Commit { workflow } | Self::Release { workflow } => Some(*workflow),
            Self::Restock { .. } => None,
        }
    }
}

/// Several commands in one message, on `inventory.group.<id>` (an id of the message's own): one commit, one delivery and one
/// ack for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryGroup {
    /// Always `group`; stands first so that the stream is legible.
    #[serde(rename = "type")]
    pub group_type: InventoryGroupType,
    /// The commands, in the order in which they were asked.
    pub commands: Vec<InventoryCommand>,
}

/// The only kind of group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InventoryGroupType {
    /// A group of commands.
    Group,
}

impl TypeName for InventoryCommand {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Reserve { .. } => "reserve",
            Self::Commit { .. } => "commit",
            Self::Release { .. } => "release",
            Self::Restock { .. } => "restock",
        }
    }
}

/// An article of which there is too little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Which article.
    pub sku: Sku,
    /// How many were wanted.
    pub requested: u32,
    /// How many there were.
    pub available: u64,
}

/// What the inventory answers a workflow: by the movement in its ledger ([`Movement::answer`]), or, where nothing moved (a
/// repeat, a refusal that follows from the state), as a command of that workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StockAnswer {
    /// All lines are held.
    Reserved {},
    /// Nothing is held: something lacks.
    OutOfStock {
        /// What there is too little of; at least one.
        lacking: Vec<Lacking>,
    },
    /// What was held is sold.
    Committed {},
    /// Nothing is held, and nothing will be held for this workflow again.
    Released {},
    /// The command contradicts what has happened (a commit after a release, a release after a commit, a reserve
    /// after a release, other lines than the first time) or is older than the ledger remembers. Nothing changed.
    Refused {
        /// The command that was refused.
        command: String,
        /// Why, in words.
        reason: String,
    },
}

/// What the inventory answers a restock, on the subject in the `Answer-To` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RestockAnswer {
    /// The goods are booked, now or when the same delivery was first told.
    Restocked {
        /// The article's balance now.
        balance: StockLevel,
    },
    /// The goods are not booked.
    RestockRefused {
        /// Why, in words.
        reason: String,
    },
}

/// How many units of one article there are; initial + restocked = available + reserved + sold at every instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Free to be reserved.
    pub available: u64,
    /// Held for undecided workflows.
    pub reserved: u64,
    /// Gone for good.
    pub sold: u64,
}

/// One change in the ledger. Refusals are recorded too: the answer to a repeat must be the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Movement {
    /// available → reserved.
    Reserved {
        /// For whom.
        workflow: WorkflowRef,
        /// What.
        lines: Vec<StockLine>,
    },
    /// Nothing moved: something lacked.
    ReserveRefused {
        /// For whom.
        workflow: WorkflowRef,
        /// What was wanted.
        lines: Vec<StockLine>,
        /// What lacked.
        lacking: Vec<Lacking>,
    },
    /// reserved → sold.
    Committed {
        /// For whom.
        workflow: WorkflowRef,
        /// What, as it was reserved.
        lines: Vec<StockLine>,
    },
    /// reserved → available; or nothing moved, and a later reserve is refused.
    Released {
        /// For whom.
        workflow: WorkflowRef,
        /// What, as it was reserved; empty when nothing was.
        lines: Vec<StockLine>,
    },
    /// New goods: → available.
    Restocked {
        /// Which delivery.
        restock_id: Uuid,
        /// What.
        line: StockLine,
        /// Who told of it, if anybody did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<OperatorName>,
    },
}

impl Movement {
    /// What it tells the workflow that asked for it; none for goods that came in.
    ///
    /// The entry that holds it is the answer: workers read the ledger, so nothing else has to be stored for them.
    #[must_use]
    pub fn answer(&self) -> Option<(WorkflowRef, StockAnswer)> {
        match self {
            Self::Reserved { workflow, .. } => Some((*workflow, StockAnswer::Reserved {})),
            Self::ReserveRefused { workflow, lacking, .. } => {
                Some((*workflow, StockAnswer::OutOfStock { lacking: lacking.clone() }))
            }
            Self::Committed { workflow, .. } => Some((*workflow, StockAnswer::Committed {})),
            Self::Released { workflow, .. } => Some((*workflow, StockAnswer::Released {})),
            Self::Restocked { .. } => None,
        }
    }
}

/// One message of `inventory.ledger`: everything that one group of commands moved, and what was left. A group that moved
/// nothing (repeats, refusals of what was ended before) has an entry, too, which proves what its answers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Always `movements`; stands first so that the stream is legible.
    #[serde(rename = "type")]
    pub entry_type: LedgerEntryType,
    /// 0, 1, 2, … without a gap.
    pub index: u64,
    /// Hash of the entry before; none for the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<RecordHash>,
    /// The time of the newest command in the group, as the server stamped it.
    pub at: Timestamp,
    /// What moved, in order; nothing when the whole group was of repeats.
    pub movements: Vec<Movement>,
    /// The balance after it of every article that was touched.
    pub balances: Vec<StockLevel>,
}

/// The only kind of entry so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerEntryType {
    /// A group of movements.
    Movements,
}

/// One article's balance, inside a ledger entry and in a restock's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLevel {
    /// Which article.
    pub sku: Sku,
    /// How many.
    #[serde(flatten)]
    pub balance: Balance,
}

/// The last message of `inventory.stock.<sku>`: what gateways and people read. A projection of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockProjection {
    /// Always `stock`; stands first so that the stream is legible.
    #[serde(rename = "type")]
    pub projection_type: StockProjectionType,
    /// Which article, and how many.
    #[serde(flatten)]
    pub level: StockLevel,
    /// The ledger entry (its index) up to which this is true.
    pub ledger_index: u64,
}

/// The only kind of projection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StockProjectionType {
    /// An article's stock.
    Stock,
}
