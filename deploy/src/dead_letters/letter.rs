//! One parked message, as it is read from the stream.

use std::collections::BTreeMap;

use anyhow::Context as _;
use async_nats::HeaderMap;
use bytes::Bytes;
use common::{
    contracts::dead_letter::{Settlement, SettlementAct},
    headers,
    ids::{WorkflowId, WorkflowKind, WorkflowRef},
    nats::{
        Nats,
        read::{self, Stored},
    },
    streams::StreamName,
    subject::{DeadLetterArea, Subject},
    time::Timestamp,
};
use serde::Serialize;

/// As many messages as one request asks for; a letter may be as large as the server allows.
const MESSAGES_PER_READ: usize = 128;

/// One parked message.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    /// Its place in `DEAD_LETTERS`: how operators name it.
    pub sequence: u64,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// What kind of message it was, as in `deadletter.<area>`.
    pub area: String,
    /// Why.
    pub reason: String,
    /// Where it came from.
    pub original_subject: String,
    /// The stream it came from, where that is recorded or follows from the subject.
    pub original_stream: Option<String>,
    /// How often it had been delivered.
    pub deliveries: Option<u64>,
    /// Which workflow it is about, where the subject or the body tells.
    pub workflow: Option<String>,
    /// Whether it was too large to be kept whole.
    pub is_cut: bool,
    /// What an operator did about it.
    pub settled: Option<Settled>,
    /// All of its headers.
    #[serde(skip)]
    pub headers: HeaderMap,
    /// The original body.
    #[serde(skip)]
    pub payload: Bytes,
}

/// What an operator did about a letter, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What, by whom and why.
    #[serde(flatten)]
    pub settlement: Settlement,
}

impl Settled {
    /// In words, such as `discarded by anna`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let act = match self.settlement.act {
            SettlementAct::Redriven => "driven again",
            SettlementAct::Discarded => "discarded",
            SettlementAct::Repaired => "repaired",
        };
        let because = self.settlement.because.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{act} by {} at {}{because}", self.settlement.by, self.at)
    }
}

/// Which letters.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) area: Option<DeadLetterArea>,
    pub(super) reason: Option<String>,
    pub(super) workflow: Option<WorkflowId>,
}

impl Filter {
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let id = self.workflow.map(|id| id.to_string());
        self.area.is_none_or(|area| letter.area == area.as_str())
            && self.reason.as_ref().is_none_or(|text| letter.reason.contains(text.as_str()))
            && id.is_none_or(|id| letter.workflow.as_ref().is_some_and(|workflow| workflow.ends_with(&id)))
    }
}

impl Letter {
    fn read(stored: Stored) -> Self {
        let header = |name: async_nats::HeaderName| stored.headers.get(name).map(|value| value.as_str().to_owned());
        let original_subject = header(headers::ORIGINAL_SUBJECT).unwrap_or_default();
        Self {
            sequence: stored.sequence,
            parked_at: stored.time,
            area: stored.subject.trim_start_matches("deadletter.").to_owned(),
            reason: header(headers::REASON).unwrap_or_else(|| "no reason was recorded".into()),
            original_stream: header(headers::ORIGINAL_STREAM)
                .or_else(|| inbox_of(&original_subject).map(|(stream, _)| stream.as_str().to_owned())),
            deliveries: header(headers::DELIVERIES).and_then(|number| number.parse().ok()),
            workflow: workflow_of(&original_subject, &stored.payload),
            is_cut: stored.headers.get(headers::CUT).is_some(),
            settled: None,
            original_subject,
            headers: stored.headers,
            payload: stored.payload,
        }
    }
}

/// The stream that takes what is sent to a subject, when it is one that messages are taken from: only there can a message be
/// driven again.
pub(super) fn inbox_of(subject: &str) -> Option<(StreamName, Subject)> {
    let subject: Subject = subject.parse().ok()?;
    let stream = match &subject {
        Subject::Command(_) => StreamName::Commands,
        Subject::Webhook(..) => StreamName::Webhooks,
        Subject::Due(_) | Subject::SweepDue => StreamName::Timers,
        Subject::InventoryCommand(_) | Subject::InventoryGroup(_) => StreamName::InventoryCommands,
        _ => return None,
    };
    Some((stream, subject))
}

fn workflow_of(subject: &str, payload: &[u8]) -> Option<String> {
    match subject.parse().ok()? {
        Subject::Command(workflow) | Subject::History(workflow) | Subject::Due(workflow) => Some(workflow.to_string()),
        // Only checkouts ask for stock; a restock's id is shown with the subject.
        Subject::InventoryCommand(id) => Some(checkout(WorkflowId::from(id))),
        Subject::Webhook(provider, _) => {
            let readers = crate::doctor::webhook_readers().ok()?;
            let reader = readers.iter().find(|reader| reader.name() == provider)?;
            reader.read_webhook(payload).ok()?.reference.map(checkout)
        }
        _ => None,
    }
}

fn checkout(id: WorkflowId) -> String {
    WorkflowRef { kind: WorkflowKind::Checkout, id }.to_string()
}

/// Every letter, oldest first, with what was done about it.
pub(crate) async fn read_letters(nats: &Nats) -> anyhow::Result<Vec<Letter>> {
    let (mut letters, mut next) = (BTreeMap::<u64, Letter>::new(), 1);
    loop {
        let batch = read::stretch(nats, StreamName::DeadLetters, next, MESSAGES_PER_READ, "deadletter.>")
            .await
            .context("read the dead letters")?;
        next = batch.messages.last().map_or(next, |last| last.sequence + 1);
        for stored in batch.messages {
            match stored.subject.parse() {
                // A letter stands before what was done about it; one that has grown too old is gone.
                Ok(Subject::LetterSettled(sequence)) => {
                    if let Some(letter) = letters.get_mut(&sequence) {
                        letter.settled = read_settled(&stored);
                    }
                }
                _ => {
                    letters.insert(stored.sequence, Letter::read(stored));
                }
            }
        }
        if !batch.more {
            return Ok(letters.into_values().collect());
        }
    }
}

fn read_settled(stored: &Stored) -> Option<Settled> {
    let settlement = serde_json::from_slice(&stored.payload);
    match settlement {
        Ok(settlement) => Some(Settled { at: stored.time, settlement }),
        Err(error) => {
            tracing::warn!(subject = stored.subject, %error, "this record of an operator's act cannot be read");
            None
        }
    }
}

/// One letter.
///
/// Fails when it does not exist, with what to do.
pub(super) async fn read_letter(nats: &Nats, sequence: u64) -> anyhow::Result<Letter> {
    let found = read::stretch(nats, StreamName::DeadLetters, sequence, 1, "deadletter.*")
        .await
        .with_context(|| format!("read dead letter {sequence}"))?;
    let stored = found.messages.into_iter().find(|stored| stored.sequence == sequence);
    let stored = stored.with_context(|| {
        format!(
            "there is no dead letter {sequence}: it never existed, or it has gone after a month; \
             `dead-letters list` shows those that are there"
        )
    })?;
    let settled = read::last(nats, StreamName::DeadLetters, &Subject::LetterSettled(sequence))
        .await
        .with_context(|| format!("read what was done about dead letter {sequence}"))?;
    Ok(Letter { settled: settled.as_ref().and_then(read_settled), ..Letter::read(stored) })
}

/// What was done about a letter by somebody who was faster: our own record was refused.
pub(super) async fn settled_by_somebody(nats: &Nats, sequence: u64) -> anyhow::Result<Settled> {
    let settled = read_letter(nats, sequence).await?.settled;
    settled
        .with_context(|| format!("dead letter {sequence} was settled by somebody, but how cannot be read; look again"))
}
