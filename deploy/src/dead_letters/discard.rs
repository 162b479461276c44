//! An operator decides that nothing is to be done with a message. The decision stays; the letter goes after a month.

use std::fmt;

use anyhow::Context as _;
use common::{
    contracts::dead_letter::{Settlement, SettlementAct},
    nats::{AppendError, Nats, dead_letters},
};
use serde::Serialize;

use super::letter::{Letter, Settled, settled_by_somebody};

/// What became of one letter.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Discarded {
    letter: u64,
    subject: String,
    /// Somebody had seen to it before, and that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_before: Option<Settled>,
}

impl fmt::Display for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { letter, subject, settled_before } = self;
        match settled_before {
            None => write!(f, "discarded  {letter}  {subject}"),
            Some(settled) => write!(f, "unchanged  {letter}  {subject} was {}", settled.in_words()),
        }
    }
}

pub(super) async fn discard(nats: &Nats, letter: &Letter, by: &str, because: &str) -> anyhow::Result<Discarded> {
    let done = |settled_before| Discarded {
        letter: letter.sequence,
        subject: letter.original_subject.clone(),
        settled_before,
    };
    if letter.settled.is_some() {
        return Ok(done(letter.settled.clone()));
    }
    let settlement = Settlement {
        act: SettlementAct::Discarded,
        by: by.to_owned(),
        because: Some(because.to_owned()),
        original_subject: letter.original_subject.clone(),
        reason: letter.reason.clone(),
    };
    match dead_letters::settle(nats, letter.sequence, &settlement).await {
        Ok(_) => Ok(done(None)),
        Err(AppendError::Conflict { .. }) => Ok(done(Some(settled_by_somebody(nats, letter.sequence).await?))),
        Err(error) => Err(error).with_context(|| format!("discard dead letter {}", letter.sequence)),
    }
}
