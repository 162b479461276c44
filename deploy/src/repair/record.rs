//! Who repaired what, when and why: a letter of the area `history` when it begins, marked when it is done. A repair that was
//! cut short is a letter that waits.

use anyhow::Context as _;
use common::{
    contracts::dead_letter::{Settlement, SettlementAct},
    ids::WorkflowRef,
    nats::{AppendError, Nats, dead_letters},
    subject::{DeadLetterArea, Subject},
};

use super::evidence::Evidence;
use crate::dead_letters::{Letter, read_letters};

/// How the reason of such a letter begins.
const BEGUN: &str = "an operator began to repair it";

/// Park what is begun, unless a letter of an earlier try waits already.
pub(super) async fn begin(
    nats: &Nats,
    workflow: WorkflowRef,
    by: &str,
    because: &str,
    evidence: &Evidence,
) -> anyhow::Result<()> {
    if waiting(nats, workflow).await?.is_empty() {
        let reason = format!("{BEGUN} ({by}: {because}); {}", evidence.fault());
        dead_letters::note(nats, DeadLetterArea::History, &Subject::History(workflow), by, &reason)
            .await
            .context("record that the repair has begun")?;
    }
    Ok(())
}

/// Mark every letter of a repair of this checkout as done.
pub(super) async fn close(nats: &Nats, workflow: WorkflowRef, by: &str, because: &str) -> anyhow::Result<()> {
    for letter in waiting(nats, workflow).await? {
        let settlement = Settlement {
            act: SettlementAct::Repaired,
            by: by.to_owned(),
            because: Some(because.to_owned()),
            original_subject: letter.original_subject,
            reason: letter.reason,
        };
        match dead_letters::settle(nats, letter.sequence, &settlement).await {
            Ok(_) | Err(AppendError::Conflict { .. }) => {}
            Err(error) => return Err(error).context("it is repaired, but that could not be recorded: run it again"),
        }
    }
    Ok(())
}

/// Letters of repairs of this checkout that nobody has seen to the end.
async fn waiting(nats: &Nats, workflow: WorkflowRef) -> anyhow::Result<Vec<Letter>> {
    let mut letters = read_letters(nats).await?;
    let subject = Subject::History(workflow).to_string();
    letters.retain(|letter| {
        letter.settled.is_none() && letter.original_subject == subject && letter.reason.starts_with(BEGUN)
    });
    Ok(letters)
}
