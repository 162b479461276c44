//! A letter's message goes back to where it came from; only when it is stored there is the letter marked.
//!
//! Killed in between, the message is there and the letter is not marked, so the next redrive finds the message (where it
//! still waits) or sends it once more: at least once, and whoever takes it recognises what it has had before.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use common::{
    contracts::dead_letter::{Settlement, SettlementAct},
    crash_point, headers,
    nats::{AppendError, Nats, Outgoing, append::append, dead_letters, read::newest},
    streams::StreamName,
    subject::Subject,
};
use serde::Serialize;

use super::letter::{Letter, Settled, inbox_of};

/// A leader change takes 5 to 6 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// Others write to the same subject now and then; more meetings than this in a row are a defect.
const MOST_CONFLICTS: u32 = 20;

/// What became of one letter.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Redriven {
    pub(super) letter: u64,
    pub(super) subject: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It is stored where it came from.
    Stored { stream: String, sequence: u64 },
    /// Somebody has seen to it before: nothing was done.
    SettledBefore { settled: Settled },
    /// It cannot be driven again, or not now.
    Failed { reason: String },
}

impl fmt::Display for Redriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { letter, subject, .. } = self;
        match &self.outcome {
            Outcome::Stored { stream, sequence } => {
                write!(f, "redriven   {letter}  {subject} → {stream} {sequence}")
            }
            Outcome::SettledBefore { settled } => {
                write!(f, "unchanged  {letter}  {subject} was {}", settled.in_words())
            }
            Outcome::Failed { reason } => write!(f, "FAILED     {letter}  {subject}: {reason}"),
        }
    }
}

pub(super) async fn redrive(nats: &Nats, letter: &Letter, by: &str, because: Option<&str>) -> Outcome {
    match try_redrive(nats, letter, by, because).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed { reason: format!("{error:#}") },
    }
}

async fn try_redrive(nats: &Nats, letter: &Letter, by: &str, because: Option<&str>) -> anyhow::Result<Outcome> {
    if let Some(settled) = letter.settled.clone() {
        return Ok(Outcome::SettledBefore { settled });
    }
    anyhow::ensure!(
        !letter.is_cut,
        "it was too large to be kept whole, so it cannot be driven again: have its sender send it anew, then discard it"
    );
    let (stream, subject) = inbox_of(&letter.original_subject).context(
        "no service of this version takes messages from this subject, it would only be parked again: deploy a version that \
         does, or discard it",
    )?;
    let sequence = send(nats, letter, stream, subject).await?;
    crash_point!("operator.redrive.after_send");
    let settlement = Settlement {
        act: SettlementAct::Redriven,
        by: by.to_owned(),
        because: because.map(ToOwned::to_owned),
        original_subject: letter.original_subject.clone(),
        reason: letter.reason.clone(),
    };
    match dead_letters::settle(nats, letter.sequence, &settlement).await {
        // Another operator was faster: the message went out all the same, and does no harm.
        Ok(_) | Err(AppendError::Conflict { .. }) => {
            Ok(Outcome::Stored { stream: stream.as_str().to_owned(), sequence })
        }
        Err(error) => Err(error).with_context(|| {
            format!("it is stored in {} {sequence}, but the letter could not be marked: run it again", stream.as_str())
        }),
    }
}

/// Store the message at the end of its subject, unless that is where it stands already.
async fn send(nats: &Nats, letter: &Letter, stream: StreamName, subject: Subject) -> anyhow::Result<u64> {
    let mut headers = dead_letters::original_headers(&letter.headers);
    headers.insert(headers::REDRIVEN_FROM, letter.sequence.to_string());
    for _ in 0..MOST_CONFLICTS {
        let last = newest(nats, stream, &subject)
            .await
            .with_context(|| format!("look for the message in {}", stream.as_str()))?;
        if let Some(last) = &last
            && last.redriven_from == Some(letter.sequence)
        {
            return Ok(last.sequence);
        }
        let outgoing = Outgoing {
            subject: subject.clone(),
            headers: headers.clone(),
            payload: letter.payload.clone(),
            expected: Some(last.map_or(0, |last| last.sequence)),
        };
        match append(nats, stream, outgoing, PATIENCE).await {
            Ok(sequence) => return Ok(sequence),
            Err(AppendError::Conflict { .. }) => {}
            Err(error) => return Err(error).context("send the message again"),
        }
    }
    anyhow::bail!("others write to {subject} all the time; try again when it is quieter")
}
