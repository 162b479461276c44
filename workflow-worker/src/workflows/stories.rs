//! Given, when, then: what the three functions of a workflow say, told as a story.
//!
//! A single step is told with [`given`]; a whole way from the first command to the end is a [`ways::Way`].

pub mod golden;
pub mod shapes;
pub mod ways;

use std::{fmt::Debug, mem::discriminant, time::Duration};

use common::{
    ids::WorkflowId,
    time::{Timestamp, after},
};

use crate::workflow::{Input, Next, Rejection, Settings, Told, Workflow};

/// The workflow of every story.
pub fn id() -> WorkflowId {
    "0198c0de-0000-7000-8000-00000000000a".parse().expect("a workflow id")
}

/// So many seconds after the beginning of the story.
pub fn at(second: u64) -> Timestamp {
    let beginning = "2026-01-01T12:00:00Z".parse().expect("a time");
    after(beginning, Duration::from_secs(second))
}

/// The settings of every story.
pub fn settings() -> Settings {
    Settings {
        payment_timeout: Duration::from_secs(120),
        provider: "sandbox".parse().expect("a provider's name"),
        retry_wait: Duration::from_secs(2),
    }
}

/// An input under the settings of every story.
pub fn input<C>(at: Timestamp, told: Told<C>) -> Input<C> {
    Input { at, told, settings: settings() }
}

/// A workflow to which this has happened.
pub fn given<W: Workflow>(events: impl IntoIterator<Item = W::Event>) -> Story<W> {
    let state = events.into_iter().fold(W::default(), |state, event| state.evolve(&event));
    Story { state, decision: None }
}

/// A workflow, and its answer to what it was told last; an answer that no `then` asks for fails the story.
pub struct Story<W: Workflow> {
    state: W,
    decision: Option<Result<Vec<W::Event>, Rejection>>,
}

impl<W: Workflow> Story<W>
where
    W::Event: Debug + PartialEq,
{
    /// It is told something; what comes of it must be said with a `then`.
    #[track_caller]
    pub fn when(mut self, told: Told<W::Command>, at: Timestamp) -> Self {
        assert!(self.decision.is_none(), "say what came of the last thing first");
        self.decision = Some(self.state.decide(&input(at, told)));
        self
    }

    /// This happened, and nothing else.
    #[track_caller]
    pub fn then(mut self, events: impl IntoIterator<Item = W::Event>) -> Self {
        let happened = self.take_decision().expect("it was not rejected");
        assert_eq!(happened, events.into_iter().collect::<Vec<_>>());
        self.state = happened.iter().fold(std::mem::take(&mut self.state), W::evolve);
        self
    }

    /// It changed nothing.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// It was refused in this way, such as [`Rejection::NotYet`]; nothing happened.
    #[track_caller]
    pub fn then_rejected(mut self, way: fn(String) -> Rejection) -> Self {
        let rejection = self.take_decision().expect_err("it was accepted");
        assert_eq!(discriminant(&rejection), discriminant(&way(String::new())), "{rejection:?}");
        self
    }

    /// This is owed now.
    #[track_caller]
    pub fn and_next(self, next: Next) -> Self {
        assert_eq!(self.state.next(id()), next);
        self
    }

    /// This is what people are told.
    #[track_caller]
    pub fn and_status(self, status: &str) -> Self {
        assert_eq!(self.state.status(), status);
        self
    }

    /// The state itself, for what only one kind can tell.
    pub fn state(mut self) -> W {
        std::mem::take(&mut self.state)
    }

    #[track_caller]
    fn take_decision(&mut self) -> Result<Vec<W::Event>, Rejection> {
        self.decision.take().expect("nothing was told")
    }
}

impl<W: Workflow> Drop for Story<W> {
    fn drop(&mut self) {
        assert!(self.decision.is_none() || std::thread::panicking(), "what came of the last thing was not said");
    }
}
