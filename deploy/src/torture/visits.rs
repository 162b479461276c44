//! What customers do: a visit for each checkout, all of them told by the seed.

use common::{
    contracts::catalogue::{Product, ProductType},
    ids::{IdempotencyKey, Sku, WorkflowId},
    money::Money,
};
use serde_json::{Value, json};

use super::{FaultKind, random::Random};
use crate::catalogue::CatalogueLine;

/// Articles of which there is more than anybody buys.
const PLENTY: [&str; 5] = ["PLENTY-1", "PLENTY-2", "PLENTY-3", "PLENTY-4", "PLENTY-5"];
/// More than all carts of the largest run hold.
const PLENTY_STOCK: u32 = 10_000_000;
/// The article that many want and few get.
const HOT: &str = "HOT";
/// The article that nobody gets.
const SOLD_OUT: &str = "SOLD-OUT";

/// What a visit is about, with how many of a hundred visits are so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// The customer pays.
    Paid,
    /// A cart of several lines is paid.
    SeveralLines,
    /// The article that many want; who gets it pays.
    Hot,
    /// The same request several times at once, on all gateways; then it is paid.
    SameKeyAtOnce,
    /// The same key with another cart; the first cart is paid.
    OtherCart,
    /// The payment is declined.
    Declined,
    /// The customer gives up at the provider.
    CancelledAtProvider,
    /// The customer cancels in the shop, at any moment.
    CancelledInShop,
    /// The customer never comes back.
    Left,
    /// One line of the cart cannot be had.
    OutOfStock,
    /// The customer pays after it has ended.
    PaidLate,
    /// Paid, then an operator gives the money back, asking twice.
    RefundedByHand,
    /// Somebody tells the shop of a payment with a forged signature; the customer never comes back.
    Forged,
    /// The provider tells the truth of a payment with wrong words, signed: wrong amount, currency or session.
    LiedAbout,
    /// The provider refuses to open a session.
    Unwanted,
}

impl Way {
    const WEIGHTS: [(Self, u64); 15] = [
        (Self::Paid, 27),
        (Self::SeveralLines, 8),
        (Self::Hot, 13),
        (Self::SameKeyAtOnce, 10),
        (Self::OtherCart, 4),
        (Self::Declined, 6),
        (Self::CancelledAtProvider, 5),
        (Self::CancelledInShop, 6),
        (Self::Left, 4),
        (Self::OutOfStock, 3),
        (Self::PaidLate, 4),
        (Self::RefundedByHand, 5),
        (Self::Forged, 2),
        (Self::LiedAbout, 2),
        (Self::Unwanted, 1),
    ];

    fn choose(random: &mut Random) -> Self {
        let mut left = random.within(0, Self::WEIGHTS.iter().map(|(_, weight)| weight).sum());
        for (way, weight) in Self::WEIGHTS {
            if left < weight {
                return way;
            }
            left -= weight;
        }
        Self::Paid
    }

    /// Whether the customer means to pay while it is possible.
    pub(super) fn pays(self) -> bool {
        matches!(
            self,
            Self::Paid
                | Self::SeveralLines
                | Self::Hot
                | Self::SameKeyAtOnce
                | Self::OtherCart
                | Self::RefundedByHand
                | Self::LiedAbout
        )
    }
}

/// One line of a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) sku: &'static str,
    pub(super) quantity: u32,
}

/// One customer with one cart and one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) number: u32,
    pub(super) key: String,
    pub(super) way: Way,
    pub(super) items: Vec<Item>,
    /// Before the customer does anything at the provider or in the shop.
    pub(super) thinking_millis: u64,
    /// Rules of the sandbox's fault script for this checkout alone.
    pub(super) troubles: Vec<Value>,
}

impl Visit {
    /// The checkout that this key is.
    pub(super) fn checkout(&self) -> anyhow::Result<WorkflowId> {
        Ok(WorkflowId::from_idempotency_key("", &self.key.parse::<IdempotencyKey>()?))
    }

    /// The request's body.
    pub(super) fn body(&self) -> Value {
        let items: Vec<Value> =
            self.items.iter().map(|item| json!({ "sku": item.sku, "quantity": item.quantity })).collect();
        json!({ "items": items })
    }
}

/// All visits of a run.
pub(super) fn visits(seed: u64, count: u32, kinds: &[FaultKind]) -> Vec<Visit> {
    let mut random = Random::new(seed, "visits");
    (0..count)
        .map(|number| {
            let way = Way::choose(&mut random);
            let items = items(way, &mut random);
            let thinking_millis = if random.percent(15) { random.within(0, 4_000) } else { random.within(0, 200) };
            // Drawn whether wanted or not, so that the ways stay the same with other faults.
            let troubles = troubles(way, &mut random);
            let troubles = troubles.into_iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, rule)| rule);
            let key = format!("torture-{seed}-{number}");
            Visit { number, key, way, items, thinking_millis, troubles: troubles.collect() }
        })
        .collect()
}

fn items(way: Way, random: &mut Random) -> Vec<Item> {
    let plenty =
        |random: &mut Random| Item { sku: random.one_of::<&str>(&PLENTY), quantity: u32::from(random.small(1, 4)) };
    match way {
        Way::Hot => vec![Item { sku: HOT, quantity: 1 }],
        Way::OutOfStock => vec![plenty(random), Item { sku: SOLD_OUT, quantity: 1 }],
        Way::SeveralLines => PLENTY[..usize::from(random.small(2, 6))]
            .iter()
            .map(|&sku| Item { sku, quantity: u32::from(random.small(1, 4)) })
            .collect(),
        _ => vec![plenty(random)],
    }
}

/// How calls to the provider go wrong, for one checkout.
fn troubles(way: Way, random: &mut Random) -> Vec<(FaultKind, Value)> {
    let mut troubles = Vec::new();
    if random.percent(12) {
        troubles.push((FaultKind::Provider, call_trouble("create_session", random)));
    }
    if random.percent(12) && !way.pays() {
        troubles.push((FaultKind::Provider, call_trouble("expire_session", random)));
    }
    if random.percent(40) && matches!(way, Way::PaidLate | Way::RefundedByHand) {
        troubles.push((FaultKind::Provider, call_trouble("refund", random)));
    }
    match way {
        Way::Unwanted => {
            troubles.push((FaultKind::Provider, json!({ "call": "create_session", "fault": "refuse_400" })));
        }
        Way::LiedAbout => {
            let fault = *random.one_of(&["wrong_amount", "wrong_currency", "wrong_session"]);
            troubles.push((FaultKind::Webhooks, json!({ "call": "webhook", "fault": fault, "times": 1 })));
        }
        _ => {}
    }
    troubles
}

/// One way in which a call goes wrong a few times.
pub(super) fn call_trouble(call: &str, random: &mut Random) -> Value {
    const FAULTS: [&str; 9] = [
        "error_500",
        "error_500_after",
        "hang",
        "slow",
        "rate_limited",
        "conflict_409",
        "broken_json",
        "lost_answer",
        "down",
    ];
    let fault = *random.one_of(&FAULTS);
    let times = random.within(1, 5);
    match fault {
        // Longer and shorter than a call may take (1 s).
        "hang" | "slow" => {
            json!({ "call": call, "fault": fault, "times": times, "millis": random.within(200, 2_000) })
        }
        _ => json!({ "call": call, "fault": fault, "times": times }),
    }
}

/// What there is to buy: enough, too little, and none.
pub(super) fn articles(checkouts: u32) -> anyhow::Result<Vec<CatalogueLine>> {
    let line = |sku: &str, amount: i64, stock: u32| -> anyhow::Result<CatalogueLine> {
        let product = Product {
            product_type: ProductType::Product,
            sku: sku.parse::<Sku>()?,
            name: format!("Article {sku}"),
            description: "Bought and sold in the torture.".into(),
            price: Money::eur(amount),
            picture: String::new(),
        };
        Ok(CatalogueLine { product, stock })
    };
    let mut lines = Vec::new();
    for (sku, amount) in PLENTY.into_iter().zip([990, 1_490, 2_000, 501, 99]) {
        lines.push(line(sku, amount, PLENTY_STOCK)?);
    }
    // Every thirteenth of a hundred wants one; a third of them gets it.
    lines.push(line(HOT, 4_999, (checkouts / 24).max(1))?);
    lines.push(line(SOLD_OUT, 100, 0)?);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use payment_sandbox::faults::FaultRule;

    use super::*;

    #[test]
    fn the_same_seed_is_the_same_visits_and_every_way_is_taken() {
        let all = visits(42, 1_000, &FaultKind::ALL);
        assert_eq!(all, visits(42, 1_000, &FaultKind::ALL));
        assert_ne!(all, visits(43, 1_000, &FaultKind::ALL));
        let ways: BTreeSet<Way> = all.iter().map(|visit| visit.way).collect();
        assert_eq!(ways.len(), Way::WEIGHTS.len());
        let without = visits(42, 1_000, &[]);
        assert!(without.iter().all(|visit| visit.troubles.is_empty()));
        assert!(all.iter().zip(&without).all(|(one, other)| one.way == other.way && one.items == other.items));
    }

    #[test]
    fn every_rule_can_do_something() {
        for visit in visits(1, 2_000, &FaultKind::ALL) {
            for rule in visit.troubles {
                let rule: FaultRule = serde_json::from_value(rule.clone()).expect("a rule");
                assert_eq!(rule.check(), Ok(()), "{rule:?}");
            }
        }
    }

    #[test]
    fn the_articles_can_be_sold() {
        let lines = articles(5_000).expect("articles");
        assert_eq!(lines.iter().filter(|line| line.stock == 0).count(), 1);
        assert!(
            visits(1, 500, &[])
                .iter()
                .flat_map(|visit| &visit.items)
                .all(|item| { lines.iter().any(|line| line.product.sku.as_str() == item.sku) })
        );
    }
}
