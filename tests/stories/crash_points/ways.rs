//! The ways that are walked with a death at every point: what customers, the provider and operators do, and the end that
//! it must come to.

use common::{
    contracts::refund::{RefundEvent, refund_of},
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::read,
    record::Record,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use stories::Shop;

use super::stage::{Stage, Stock};

/// So many buy at the same time in a burst: enough that their records go out as batches.
const BURST: usize = 30;

/// So many bursts come when nobody is to die: enough that every process has tried both ways of committing.
const UNDISTURBED_BURSTS: usize = 3;

/// So many bursts come at most until the one that is to die at a batch has died. Whether messages meet in one commit unit,
/// and whether that unit goes out as a batch, is measured while running; with a fast disk one burst may have none.
const MOST_BURSTS: usize = 15;

/// So many units come in with a delivery.
const DELIVERY: u32 = 7;

/// What happens to a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Way {
    Paid,
    Declined,
    Cancelled,
    Expired,
    PaidLate,
    RefundedByHand,
    Restocked,
    /// Somebody cancels before the order is known: handed back, and taken later.
    CancelledTooEarly,
    /// Messages that nobody can read.
    Unreadable,
    /// An order whose worker has vanished together with its command.
    Forgotten,
    /// Many at the same time.
    Burst,
}

/// How a way ends, in words that do not come from the system.
pub(super) struct End {
    /// How many checkouts it makes.
    pub(super) checkouts: usize,
    pub(super) status: &'static str,
    pub(super) refund: Value,
    /// What changes in the stock.
    pub(super) stock: Stock,
    /// Charges and refunds of each checkout.
    pub(super) money: (usize, usize),
}

impl Way {
    pub(super) const ALL: [Self; 11] = [
        Self::Paid,
        Self::Declined,
        Self::Cancelled,
        Self::Expired,
        Self::PaidLate,
        Self::RefundedByHand,
        Self::Restocked,
        Self::CancelledTooEarly,
        Self::Unreadable,
        Self::Forgotten,
        Self::Burst,
    ];

    /// How long its customers have to pay.
    pub(super) fn payment_timeout(self) -> &'static str {
        match self {
            // Long enough for a death between the reservation and the payment link.
            Self::Expired | Self::PaidLate => "10s",
            _ => "30m",
        }
    }

    pub(super) fn worker_flags(self) -> &'static [&'static str] {
        match self {
            Self::Forgotten => &["--sweep-interval=300ms", "--forgotten-after=1s"],
            _ => &[],
        }
    }

    /// Whether a point that it reaches is its business: the special ways are there for what no other way reaches, and how
    /// often they reach the rest depends on the moment.
    pub(super) fn is_for(self, point: &str) -> bool {
        match self {
            Self::CancelledTooEarly => point.contains("hand_back"),
            Self::Forgotten => point.contains("sweep"),
            Self::Burst => point.contains("batch"),
            _ => true,
        }
    }

    /// How many times of a point are cases. How often a burst's messages go out as batches is measured while running, and how
    /// often somebody is nudged hangs on the moment: later times need not come.
    pub(super) fn most_times(self) -> usize {
        match self {
            Self::Burst => 8,
            Self::Forgotten => 1,
            _ => usize::MAX,
        }
    }

    /// Whether its events are the same each time; otherwise only its end is.
    pub(super) fn has_one_history(self) -> bool {
        self != Self::CancelledTooEarly
    }

    /// How it ends when it has made so many checkouts.
    pub(super) fn end(self, checkouts: usize) -> End {
        let one = |status, stock, money| End { checkouts: 1, status, refund: Value::Null, stock, money };
        match self {
            Self::Paid | Self::Forgotten => one("paid", (-1, 0, 1), (1, 0)),
            Self::Declined => one("declined", (0, 0, 0), (0, 0)),
            Self::Cancelled | Self::CancelledTooEarly => one("cancelled", (0, 0, 0), (0, 0)),
            Self::Expired => one("expired", (0, 0, 0), (0, 0)),
            Self::PaidLate => End { refund: json!("refunded"), ..one("expired", (0, 0, 0), (1, 1)) },
            Self::RefundedByHand => End { refund: json!("refunded"), ..one("paid", (-1, 0, 1), (1, 1)) },
            Self::Restocked => End { checkouts: 0, ..one("", (i64::from(DELIVERY), 0, 0), (0, 0)) },
            Self::Unreadable => End { checkouts: 0, ..one("", (0, 0, 0), (0, 0)) },
            Self::Burst => {
                let sold = i64::try_from(checkouts).expect("a small number");
                End { checkouts: checkouts.next_multiple_of(BURST).max(BURST), ..one("paid", (-sold, 0, sold), (1, 0)) }
            }
        }
    }

    /// Walk it; the ids of its checkouts, all of which have come to their end.
    pub(super) async fn walk(self, stage: &mut Stage) -> Vec<String> {
        let key = WorkflowId::random().to_string();
        match self {
            Self::Restocked => {
                stage.restock(&key, DELIVERY).await;
                return Vec::new();
            }
            Self::Unreadable => {
                unreadable(stage).await;
                return Vec::new();
            }
            Self::Burst => return bursts(stage, &key).await,
            Self::Forgotten => {
                let id = crate::sweep::store_a_start(&stage.shop).await;
                let checkout = stage.until(&id, "payable", |view| view["status"] == "awaiting_payment").await;
                stage.at_provider("submit_payment", &checkout).await;
                return vec![self.ended(stage, id).await];
            }
            Self::CancelledTooEarly => {
                let id = WorkflowId::from_idempotency_key("", &key.parse().expect("a key")).to_string();
                let cancel = r#"{"type":"cancel","by":"operator"}"#;
                stage.shop.store(&format!("command.checkout.{id}"), cancel).await;
                // Handed back at least once before the start comes.
                stage.until_handed_back().await;
                stage.begin_to_buy(&key).await;
                return vec![self.ended(stage, id).await];
            }
            _ => {}
        }
        let checkout = stage.buy(&key).await;
        let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
        match self {
            Self::Declined => stage.at_provider("decline_payment", &checkout).await,
            Self::Cancelled => stage.ask_shop("cancel", &id, &json!({})).await,
            Self::Expired => {}
            Self::PaidLate => {
                stage.until(&id, "expired", |view| view["status"] == "expired").await;
                stage.pay_late(&checkout).await;
            }
            _ => stage.at_provider("submit_payment", &checkout).await,
        }
        if self == Self::RefundedByHand {
            stage.until(&id, "paid", |view| view["status"] == "paid").await;
            stage.ask_shop("refund", &id, &json!({ "reason": "arrived broken" })).await;
        }
        vec![self.ended(stage, id).await]
    }

    async fn ended(self, stage: &mut Stage, id: String) -> String {
        let End { status, refund, .. } = self.end(1);
        stage.until(&id, status, |view| view["status"] == status && view["refund"] == refund).await;
        id
    }
}

/// Store what neither a worker nor the inventory can read, and wait until both have parked theirs.
async fn unreadable(stage: &mut Stage) {
    let id = WorkflowId::random();
    let subjects = [format!("command.checkout.{id}"), format!("inventory.command.{id}")];
    for subject in &subjects {
        stage.shop.store(subject, "buy me a mug").await;
    }
    stage
        .persist("both are parked", async |shop| {
            let parked = shop.parked().await;
            let is_parked = |subject: &String| parked.iter().any(|one| one.original_subject == *subject);
            subjects.iter().all(is_parked).then_some(())
        })
        .await;
}

/// One burst after the other, until the one that is to die has died.
async fn bursts(stage: &mut Stage, key: &str) -> Vec<String> {
    let most = if stage.waits_for_death().await { MOST_BURSTS } else { UNDISTURBED_BURSTS };
    let mut ids = Vec::new();
    for number in 1..=most {
        ids.extend(burst(stage, &format!("{key}-{number}")).await);
        if most == MOST_BURSTS && !stage.waits_for_death().await {
            break;
        }
    }
    ids
}

/// Many buy and pay at the same time.
async fn burst(stage: &mut Stage, key: &str) -> Vec<String> {
    let items = json!([{ "sku": super::stage::SKU, "quantity": 1 }]);
    let everybody = async |shop: &Shop| {
        let one = async |number: usize| -> Option<Value> {
            let key = format!("{key}-{number}");
            let answer: Value = shop.post_checkout(Some(&key), &items).send().await.ok()?.json().await.ok()?;
            answer["payment"]["session_id"].is_string().then_some(answer)
        };
        join_all((0..BURST).map(one)).await.into_iter().collect::<Option<Vec<Value>>>()
    };
    let checkouts = stage.persist("everybody has a payment link", everybody).await;
    let pay = async |shop: &Shop| {
        let one = async |checkout: &Value| -> Option<()> {
            let body = json!({ "session_id": checkout["payment"]["session_id"] });
            let url = format!("{}/api/submit_payment", shop.payment_url());
            shop.http.post(url).json(&body).send().await.ok()?.status().is_success().then_some(())
        };
        join_all(checkouts.iter().map(one)).await.into_iter().collect::<Option<Vec<()>>>()
    };
    stage.persist("everybody pays", pay).await;
    let mut ids = Vec::new();
    for checkout in &checkouts {
        let id = checkout["workflow_id"].as_str().expect("an id").to_owned();
        ids.push(Way::Burst.ended(stage, id).await);
    }
    ids
}

/// What is left of one checkout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    /// What has happened in it, but for the notes that the provider was away for a while.
    pub(super) events: Vec<String>,
    /// What has happened in its refund by hand.
    pub(super) by_hand: Vec<String>,
    /// Its sessions at the provider: how each ended, how often it was charged and refunded.
    pub(super) sessions: Vec<(String, usize, usize)>,
}

/// What is left of a checkout.
pub(super) async fn left_of(stage: &mut Stage, id: &str) -> Left {
    let checkout: WorkflowId = id.parse().expect("an id");
    let events = stage.shop.event_types(id).await;
    let refund = WorkflowRef { kind: WorkflowKind::Refund, id: refund_of(checkout) };
    let by_hand = read::history(&stage.shop.nats, refund).await.expect("read a history");
    let by_hand = by_hand
        .iter()
        .map(|stored| Record::<RefundEvent>::from_bytes(&stored.payload).expect("a record of a refund").types);
    let is_a_note = |event: &str| {
        ["payment_step_failed", "payment_step_retried", "refund_failed", "refund_retried"].contains(&event)
    };
    Left {
        events: events.into_iter().filter(|event| !is_a_note(event)).map(str::to_owned).collect(),
        by_hand: by_hand.filter(|event| !is_a_note(event)).collect(),
        sessions: stage.shop.books(id).await.iter().map(session).collect(),
    }
}

fn session(session: &Value) -> (String, usize, usize) {
    let count = |what: &str| session[what].as_array().map_or(0, Vec::len);
    (session["status"].as_str().unwrap_or_default().to_owned(), count("charges"), count("refunds"))
}
