//! What the customers were told: everything that the checker knows from outside.

use common::ids::WorkflowId;
use serde_json::Value;

use super::visits::Way;

/// One visit, as its customer remembers it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) key: String,
    /// The checkout that the key must be.
    pub(super) checkout: WorkflowId,
    pub(super) way: Way,
    /// Every answer that came, in order.
    pub(super) answers: Vec<Answer>,
}

impl Told {
    /// Answers to one question.
    pub(super) fn to(&self, asked: Asked) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| answer.asked == asked)
    }

    /// Whether the shop has accepted the cart.
    pub(super) fn is_accepted(&self) -> bool {
        self.to(Asked::Start).any(Answer::is_success)
    }
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// To start the checkout.
    Start,
    /// To start another cart under the same key.
    OtherCart,
    /// To cancel it.
    Cancel,
    /// To give the money back by hand.
    Refund,
    /// To believe a webhook that was signed by somebody else.
    ForgedWebhook,
}

/// One answer of a gateway. Status 0 is no answer at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) asked: Asked,
    pub(super) status: u16,
    pub(super) workflow_id: Option<String>,
    pub(super) session_id: Option<String>,
    /// In minor units.
    pub(super) amount: Option<i64>,
    /// The stable code of a refusal.
    pub(super) code: Option<String>,
}

impl Answer {
    /// What there is to remember of an answer.
    pub(super) fn read(asked: Asked, status: u16, body: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        Self {
            asked,
            status,
            workflow_id: text(&body["workflow_id"]),
            session_id: text(&body["payment"]["session_id"]),
            amount: body["amount"]["amount"].as_i64(),
            code: text(&body["code"]),
        }
    }

    /// Nobody answered.
    pub(super) fn none(asked: Asked) -> Self {
        Self::read(asked, 0, &Value::Null)
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether asking again may lead to another answer.
    pub(super) fn is_worth_another_try(&self) -> bool {
        matches!(self.status, 0 | 202 | 429 | 500 | 503)
    }
}
