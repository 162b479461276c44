//! The provider's books: one charge at most, kept exactly where something was sold, given back exactly where promised.

use std::collections::BTreeMap;

use payment_sandbox::session::Session;

use super::{super::facts::Facts, Violations, histories::Stories};

pub(super) fn check(facts: &Facts, stories: &Stories, violations: &mut Violations) {
    let mut by_reference: BTreeMap<&str, Vec<&Session>> = BTreeMap::new();
    for session in &facts.sessions {
        by_reference.entry(&session.order.client_reference_id).or_default().push(session);
    }
    for (id, story) in &stories.checkouts {
        let sessions = by_reference.remove(id.to_string().as_str()).unwrap_or_default();
        let is_paid = story.status() == "paid";
        let given_back = is_paid && stories.is_refunded_by_hand(*id);
        let price = story.order().map_or(0, |order| order.total.amount);
        let expected = Expected {
            keeps: if is_paid && !given_back { price } else { 0 },
            must_be_charged: is_paid,
            keeps_a_charge: is_paid && !given_back,
        };
        for text in expected.compare(&sessions) {
            violations.add("money", id, format!("{text}; it is {}", story.status()));
        }
    }
    for (reference, sessions) in by_reference {
        if sessions.iter().any(|session| !session.charges.is_empty()) {
            violations.add("money", reference, "somebody was charged for a checkout without a history");
        }
    }
}

/// What the books must say of one checkout.
struct Expected {
    /// Charged less refunded, in minor units.
    keeps: i64,
    must_be_charged: bool,
    /// One charge is not refunded.
    keeps_a_charge: bool,
}

impl Expected {
    fn compare(&self, sessions: &[&Session]) -> Vec<String> {
        let mut wrong = Vec::new();
        let charges: Vec<i64> =
            sessions.iter().flat_map(|session| &session.charges).map(|charge| charge.amount.amount).collect();
        let refunds: Vec<i64> =
            sessions.iter().flat_map(|session| &session.refunds).map(|refund| refund.amount.amount).collect();
        if sessions.len() > 1 {
            wrong.push(format!("{} sessions were opened for it", sessions.len()));
        }
        if charges.len() > 1 {
            wrong.push(format!("the customer was charged {} times", charges.len()));
        }
        if charges.is_empty() && self.must_be_charged {
            wrong.push("nobody was charged".into());
        }
        let promised_refunds = charges.len().saturating_sub(usize::from(self.keeps_a_charge));
        if refunds.len() != promised_refunds {
            wrong.push(format!("{} refunds were made where {promised_refunds} were promised", refunds.len()));
        }
        let kept = charges.iter().sum::<i64>() - refunds.iter().sum::<i64>();
        if kept != self.keeps {
            wrong.push(format!("{kept} minor units are kept where it should be {}", self.keeps));
        }
        wrong
    }
}
