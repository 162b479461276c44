//! What operators do about parked messages: the record that stays.

use serde::{Deserialize, Serialize};

use super::TypeName;

/// What an operator did about one dead letter, on `deadletter.settled.<sequence>`: one record for each letter, for ever.
/// When it was done is the server's time of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// What was done; stands first so that the stream is legible.
    #[serde(rename = "type")]
    pub act: SettlementAct,
    /// Who did it, as they called themselves.
    pub by: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub because: Option<String>,
    /// The subject that the message came from; the letter itself is kept for a month only.
    pub original_subject: String,
    /// Why the message had been parked.
    pub reason: String,
}

/// What can be done about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlementAct {
    /// The message was sent to where it came from once more.
    Redriven,
    /// It was decided that nothing is to be done with it.
    Discarded,
    /// The checkout that it is about was brought to its end by hand.
    Repaired,
}

impl TypeName for SettlementAct {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
            Self::Repaired => "repaired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stored_as_people_read_it() {
        let settlement = Settlement {
            act: SettlementAct::Discarded,
            by: "anna".into(),
            because: Some("a test of the provider's".into()),
            original_subject: "webhook.sandbox.evt_1".into(),
            reason: "not JSON".into(),
        };
        let json = serde_json::to_string(&settlement).expect("writable");
        assert_eq!(
            json,
            r#"{"type":"discarded","by":"anna","because":"a test of the provider's","original_subject":"webhook.sandbox.evt_1","reason":"not JSON"}"#
        );
        assert_eq!(serde_json::from_str::<Settlement>(&json).expect("readable"), settlement);
    }
}
