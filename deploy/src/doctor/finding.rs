//! What the doctor says about one thing: how bad it is, which promise it is about, and what to do.

use std::fmt;

use common::ids::WorkflowRef;
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A promise is broken, or a record of the truth cannot be trusted.
    Broken,
    /// The promises hold, but a person has to do something.
    Attention,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Attention => "attention",
            Self::Note => "note",
        }
    }
}

/// One of the three things that the system promises whatever crashes, repeats, races or lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// 1: never charged twice for one checkout, never charged without the goods being theirs.
    Charge,
    /// 2: restocked = available + reserved + sold, each at least 0; reserved exactly while undecided.
    Stock,
    /// 3: what was accepted reaches exactly one terminal state, by itself.
    End,
}

impl Promise {
    /// Every promise, in order.
    pub const ALL: [Self; 3] = [Self::Charge, Self::Stock, Self::End];

    /// Its number in the documentation.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Charge => 1,
            Self::Stock => 2,
            Self::End => 3,
        }
    }

    /// The promise in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Charge => "nobody is charged twice, or without getting the goods",
            Self::Stock => "stock adds up, and is held exactly while a checkout is undecided",
            Self::End => "every accepted checkout reaches exactly one end by itself",
        }
    }
}

impl Serialize for Promise {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// One thing that the doctor has found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which promise it is about.
    pub promise: Promise,
    /// What it is about: a workflow (`checkout <id>`), an article (`article <sku>`) or a stream.
    pub subject: String,
    /// What was seen and what to do.
    pub text: String,
}

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn broken(&mut self, promise: Promise, subject: impl fmt::Display, text: impl Into<String>) {
        self.add(Severity::Broken, promise, subject, text);
    }

    pub(super) fn attention(&mut self, promise: Promise, subject: impl fmt::Display, text: impl Into<String>) {
        self.add(Severity::Attention, promise, subject, text);
    }

    pub(super) fn note(&mut self, promise: Promise, subject: impl fmt::Display, text: impl Into<String>) {
        self.add(Severity::Note, promise, subject, text);
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        promise: Promise,
        subject: impl fmt::Display,
        text: impl Into<String>,
    ) {
        self.0.push(Finding { severity, promise, subject: subject.to_string(), text: text.into() });
    }

    /// All of them, the worst first.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0
    }

    #[cfg(test)]
    pub(super) fn broken_texts(&self) -> Vec<String> {
        let broken = self.0.iter().filter(|finding| finding.severity == Severity::Broken);
        broken.map(|finding| format!("{} {}: {}", finding.promise.number(), finding.subject, finding.text)).collect()
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &[Finding] {
        &self.0
    }
}

/// How to look at a workflow's history.
pub(super) fn look_at(workflow: WorkflowRef) -> String {
    format!("see `nats stream view HISTORY --subject history.{}.{}`", workflow.kind, workflow.id)
}
