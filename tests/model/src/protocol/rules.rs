//! The real rules, asked once for each question: the checkout's `decide`, `evolve` and `next`, and the inventory's ledger.
//!
//! The real states are large and the model compares millions of worlds, so every real state gets a number, and what the
//! real code answered is looked up when the same question comes again. Time stands still but for wake-up calls, which
//! bring the time that they were set for, or one long after everything.

mod catalogue;
mod interner;
mod ledger;
mod words;

use std::{collections::HashMap, time::Duration};

use common::{
    contracts::checkout::CheckoutEvent,
    ids::WorkflowId,
    time::{Timestamp, after},
};
use workflow_worker::{
    workflow::{Input, Next, Rejection, Settings, Step, Workflow as _},
    workflows::checkout::Checkout,
};

use interner::Interner;
pub use ledger::{LedgerAnswer, LedgerRules};
pub use words::{End, Message, Request, Told};

/// The number of a checkout's state.
pub type StateId = u16;
/// The number of a list of events.
pub type EventsId = u16;
/// The number of a ledger's state.
pub type LedgerId = u16;
/// The number of a moment.
pub type TimeId = u8;

/// When everything happens that has no time of its own.
const ALWAYS: &str = "2026-01-01T12:00:00Z";

/// Long after every deadline: when a server that was away tells what became due meanwhile.
const LONG_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The number of `LONG_AFTER`.
pub const LATE: TimeId = 0;

/// What came of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// This is to be appended.
    Append(EventsId),
    /// Nothing happens, or the answer is no: the message is used up.
    Nothing,
    /// The answer is no, and nothing further is done in this turn.
    No,
    /// It is told again later.
    Later,
    /// It is put aside for a person.
    Parked,
}

/// What a state owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// A command to the inventory.
    Ask(Request),
    /// A session at the provider.
    OpenSession,
    /// The end of that session.
    CloseSession,
    /// Money back.
    Refund,
    /// A wake-up call, and nothing before it.
    WakeAt(TimeId),
    /// Nothing before a message.
    Wait,
    /// Nothing ever again.
    Done,
}

/// The real rules with what they have answered so far.
pub struct Rules {
    id: WorkflowId,
    settings: Settings,
    states: Interner<Checkout>,
    events: Interner<Vec<CheckoutEvent>>,
    times: Interner<Timestamp>,
    decisions: HashMap<(StateId, Told), Decided>,
    evolutions: HashMap<(StateId, EventsId), StateId>,
    owed: HashMap<StateId, Owed>,
    /// The inventory's.
    pub ledger: LedgerRules,
}

impl Rules {
    /// Nothing was asked yet.
    ///
    /// # Panics
    /// Never: the constants are sound.
    #[must_use]
    pub fn new(stock: u8) -> Self {
        let mut times = Interner::default();
        let late = times.number(after(beginning(), LONG_AFTER));
        assert_eq!(late, u16::from(LATE), "the first moment that is numbered");
        let mut states = Interner::default();
        states.number(Checkout::default());
        Self {
            id: catalogue::workflow(0).id,
            settings: Settings {
                payment_timeout: Duration::from_secs(120),
                provider: "sandbox".parse().expect("a provider's name"),
                retry_wait: Duration::from_secs(2),
            },
            states,
            events: Interner::default(),
            times,
            decisions: HashMap::new(),
            evolutions: HashMap::new(),
            owed: HashMap::new(),
            ledger: LedgerRules::new(stock),
        }
    }

    /// The number of the state in which nothing has happened.
    #[must_use]
    pub fn not_started(&self) -> StateId {
        0
    }

    /// What a state is told, and what it decides.
    pub fn decide(&mut self, state: StateId, told: Told) -> Decided {
        if let Some(known) = self.decisions.get(&(state, told)) {
            return *known;
        }
        let at = match told {
            Told::Message(Message::Due(time)) => *self.times.get(time.into()),
            _ => beginning(),
        };
        let input = Input { at, told: catalogue::told(told), settings: self.settings.clone() };
        let decided = match self.states.get(state).decide(&input) {
            Ok(events) if events.is_empty() => Decided::Nothing,
            Ok(events) => Decided::Append(self.events.number(events)),
            Err(Rejection::No(_)) => Decided::No,
            Err(Rejection::NotYet(_) | Rejection::NotStarted(_)) => Decided::Later,
            Err(Rejection::Contradiction(_)) => Decided::Parked,
        };
        self.decisions.insert((state, told), decided);
        decided
    }

    /// What these events lead to.
    pub fn evolve(&mut self, state: StateId, events: EventsId) -> StateId {
        if let Some(known) = self.evolutions.get(&(state, events)) {
            return *known;
        }
        let before = self.states.get(state).clone();
        let evolved = self.states.number(self.events.get(events).iter().fold(before, Checkout::evolve));
        self.evolutions.insert((state, events), evolved);
        evolved
    }

    /// What a state owes.
    ///
    /// # Panics
    /// When there are more moments than the model can number.
    pub fn owed(&mut self, state: StateId) -> Owed {
        if let Some(known) = self.owed.get(&state) {
            return *known;
        }
        let owed = match self.states.get(state).next(self.id) {
            Next::Run(Step::ReserveStock(_)) => Owed::Ask(Request::Reserve),
            Next::Run(Step::CommitStock) => Owed::Ask(Request::Commit),
            Next::Run(Step::ReleaseStock) => Owed::Ask(Request::Release),
            Next::Run(Step::OpenSession(_)) => Owed::OpenSession,
            Next::Run(Step::CloseSession(_)) => Owed::CloseSession,
            Next::Run(Step::Refund(_)) => Owed::Refund,
            Next::Wait { until: Some(until) } => {
                let number = TimeId::try_from(self.times.number(until)).expect("a handful of moments");
                assert!(number < Message::MOST_TIMES, "the model numbers {} moments", Message::MOST_TIMES);
                Owed::WakeAt(number)
            }
            Next::Wait { until: None } => Owed::Wait,
            Next::Done => Owed::Done,
        };
        self.owed.insert(state, owed);
        owed
    }

    /// The real state.
    #[must_use]
    pub fn checkout(&self, state: StateId) -> &Checkout {
        self.states.get(state)
    }

    /// The types of some events, for traces.
    #[must_use]
    pub fn events(&self, events: EventsId) -> String {
        common::record::joined_types(self.events.get(events))
    }

    /// Every real state that was met.
    pub fn met(&self) -> impl Iterator<Item = &Checkout> {
        self.states.all()
    }
}

fn beginning() -> Timestamp {
    ALWAYS.parse().expect("a time")
}
