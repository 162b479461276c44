//! A way: everything that one workflow is told from its first command to its end, what comes of each, and what is owed
//! then. The same ways are played, cut at every prefix, told twice and compared with the recorded histories.

use common::{
    ids::{WorkflowKind, WorkflowRef},
    nats::read::Stored,
    record::{ChainEnd, Record, joined_types},
    subject::Subject,
    time::Timestamp,
};

use super::{at, id, input};
use crate::{
    history::{Replayed, replay},
    workflow::{Input, Next, Rejection, Told, Workflow},
};

/// One way of a workflow.
pub struct Way<W: Workflow> {
    /// What it is called, also as a file of a recorded history.
    pub name: &'static str,
    /// What is told, in order.
    pub turns: Vec<Turn<W::Command>>,
}

/// One thing that is told.
pub struct Turn<C> {
    /// What, and when.
    pub input: Input<C>,
    /// The type of what happens then; empty when nothing does; `not_yet`, `not_started`, `contradiction` or `no` in
    /// brackets when it is refused.
    pub then: &'static str,
    /// What is owed then, in the words of [`owed`].
    pub owed: &'static str,
}

/// Tell a way step by step.
pub fn way<W: Workflow>(
    name: &'static str,
    turns: impl IntoIterator<Item = (u64, Told<W::Command>, &'static str, &'static str)>,
) -> Way<W> {
    let turn = |(second, told, then, owed)| Turn { input: input(at(second), told), then, owed };
    Way { name, turns: turns.into_iter().map(turn).collect() }
}

/// What is owed, in words: a step's name, `wait`, `wait until 121`, `done`.
pub fn owed(next: &Next) -> String {
    match next {
        Next::Run(step) => step.type_name().to_owned(),
        Next::Wait { until: None } => "wait".to_owned(),
        Next::Wait { until: Some(until) } => format!("wait until {}", until.duration_since(at(0)).as_secs()),
        Next::Done => "done".to_owned(),
    }
}

/// Play a way; the result is its history as it is stored.
///
/// # Panics
/// When a turn leads to something else than the way says.
pub fn play<W: Workflow>(way: &Way<W>) -> Vec<Stored> {
    let mut story = Tape::<W>::default();
    for (number, turn) in way.turns.iter().enumerate() {
        let place = format!("{}, turn {number}: {}", way.name, turn.input.told.type_name());
        let then = match story.state.decide(&turn.input) {
            Ok(events) => {
                let types = joined_types(&events);
                story.append(events, turn.input.at);
                types
            }
            Err(rejection) => in_brackets(&rejection).to_owned(),
        };
        assert_eq!(then, turn.then, "{place}");
        assert_eq!(owed(&story.state.next(id())), turn.owed, "{place}");
    }
    story.stored
}

/// A workflow from its stored bytes alone.
///
/// # Panics
/// When the history is not one.
pub fn replayed<W: Workflow>(stored: &[Stored]) -> Replayed<W> {
    replay(id(), stored).expect("what was recorded can be replayed")
}

fn in_brackets(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::No(_) => "(no)",
        Rejection::NotStarted(_) => "(not_started)",
        Rejection::NotYet(_) => "(not_yet)",
        Rejection::Contradiction(_) => "(contradiction)",
    }
}

/// A history in memory, of the same bytes as in the stream.
pub struct Tape<W> {
    /// The state after the last record.
    pub state: W,
    /// The records.
    pub stored: Vec<Stored>,
    chain: ChainEnd,
    last_at: Timestamp,
}

impl<W: Workflow> Default for Tape<W> {
    fn default() -> Self {
        Self { state: W::default(), stored: Vec::new(), chain: ChainEnd::default(), last_at: Timestamp::UNIX_EPOCH }
    }
}

impl<W: Workflow> Tape<W> {
    /// Add the events of one decision as one record.
    ///
    /// # Panics
    /// When an event cannot be written as JSON.
    pub fn append(&mut self, events: Vec<W::Event>, at: Timestamp) {
        if events.is_empty() {
            return;
        }
        self.state = events.iter().fold(std::mem::take(&mut self.state), W::evolve);
        self.last_at = self.last_at.max(at);
        let record = Record {
            types: joined_types(&events),
            index: self.chain.next_index,
            status: self.state.status().to_owned(),
            at: self.last_at,
            events,
            previous: self.chain.hash.take(),
        };
        let payload = record.to_bytes().expect("events can be written as JSON");
        self.chain.extend(&payload);
        self.stored.push(stored(W::KIND, record.index, record.at, payload));
    }
}

/// A record as the server would hand it out.
pub fn stored(kind: WorkflowKind, index: u64, time: Timestamp, payload: Vec<u8>) -> Stored {
    Stored {
        sequence: index + 1,
        subject: Subject::History(WorkflowRef { kind, id: id() }).to_string(),
        time,
        headers: async_nats::HeaderMap::new(),
        payload: payload.into(),
    }
}

/// Tell every turn of a way twice: the second telling changes nothing, and the history is the same.
///
/// # Panics
/// When a second telling changes something.
pub fn tell_everything_twice<W: Workflow>(way: &Way<W>) {
    let mut story = Tape::<W>::default();
    for turn in &way.turns {
        if let Ok(events) = story.state.decide(&turn.input) {
            story.append(events, turn.input.at);
        }
        if let Ok(events) = story.state.decide(&turn.input) {
            let (told, at) = (turn.input.told.type_name(), turn.input.at);
            assert_eq!(joined_types(&events), "", "{}: {told} of {at} was told twice", way.name);
        }
    }
    let once: Vec<_> = play(way).into_iter().map(|record| record.payload).collect();
    let twice: Vec<_> = story.stored.into_iter().map(|record| record.payload).collect();
    assert_eq!(once, twice, "{}", way.name);
}

/// A history that is cut after any record is continued as if it had not been cut: the same step is owed on every
/// replay, and nothing is `done` before the workflow has come to an end.
///
/// # Panics
/// When a replay owes something else than the live workflow did, or is done too early.
pub fn cut_at_every_record<W: Workflow>(way: &Way<W>, has_ended: fn(&W) -> bool) {
    let recorded = play(way);
    let mut live = recorded_turns(way);
    live.insert(0, (owed(&W::default().next(id())), W::default().status()));
    assert_eq!(live.len(), recorded.len() + 1, "{}", way.name);
    for (records, (owed_live, status_live)) in live.iter().enumerate() {
        let cut = replayed::<W>(&recorded[..records]);
        let again = replayed::<W>(&recorded[..records]);
        assert_eq!(owed(&cut.state.next(id())), *owed_live, "{} after {records} records", way.name);
        assert_eq!(cut.state.status(), *status_live, "{} after {records} records", way.name);
        assert_eq!(cut.state.next(id()), again.state.next(id()), "{} after {records} records", way.name);
        let is_done = cut.state.next(id()) == Next::Done;
        assert!(!is_done || has_ended(&cut.state), "{} is done after {records} records", way.name);
        assert!(!is_done || records > 0, "{} is done before it began", way.name);
    }
    let (last, _) = live.last().expect("a way has a beginning");
    assert_eq!(last, "done", "{} has an end", way.name);
}

/// What the live workflow owed and was called after each turn that was recorded.
fn recorded_turns<W: Workflow>(way: &Way<W>) -> Vec<(String, &'static str)> {
    let mut state = W::default();
    let mut turns = Vec::new();
    for turn in &way.turns {
        let Ok(events) = state.decide(&turn.input) else { continue };
        if !events.is_empty() {
            state = events.iter().fold(state, W::evolve);
            turns.push((owed(&state.next(id())), state.status()));
        }
    }
    turns
}
