//! A small world in memory: one checkout with its real history bytes, workers that crash and work on old states, a ledger
//! that keeps its rules, a provider that can be down, lose answers and be paid late. Nothing in it decides for the
//! checkout: it only carries what is said to and fro, late, twice, out of order.

mod invariants;
mod inventory;
mod provider;

use common::{
    contracts::checkout::{CheckoutEvent as Event, PaymentNotice, PaymentOutcome},
    money::Money,
    time::Timestamp,
};
use jiff::SignedDuration;

use self::{
    inventory::{Inventory, Request},
    provider::Provider,
};
use super::fixtures::*;
use crate::{
    workflow::{Input, Next, Rejection, Step, Told, Workflow as _},
    workflows::{
        checkout::Checkout,
        stories::{
            at, id, input,
            ways::{Tape, replayed},
        },
    },
};

/// How one delivery goes wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    /// The worker dies at this place of its turn: after an append, after a step, after a timer, before the ack. The
    /// message comes again.
    pub(super) dies_at: Option<u8>,
    /// The worker has not seen the last so many records.
    pub(super) records_behind: usize,
    /// How far the worker's clock is off.
    pub(super) clock_off_by_ms: i64,
}

/// A message that has not been acked.
#[derive(Debug, Clone)]
struct Message {
    at: Timestamp,
    told: Tell,
}

/// Everything there is.
pub(super) struct World {
    now: Timestamp,
    tape: Tape<Checkout>,
    messages: Vec<Message>,
    requests: Vec<Request>,
    timer: Option<Timestamp>,
    /// The payment provider.
    pub(super) provider: Provider,
    inventory: Inventory,
    /// What was put aside for a person.
    parked: Vec<PaymentNotice>,
}

/// The worker has died, or has put the message back: it comes again.
struct ComesAgain;

impl World {
    /// Somebody has asked for the order; so much tea is there.
    pub(super) fn new(tea: u32) -> Self {
        let mut world = Self {
            now: at(0),
            tape: Tape::default(),
            messages: Vec::new(),
            requests: Vec::new(),
            timer: None,
            provider: Provider::default(),
            inventory: Inventory::new(tea),
            parked: Vec::new(),
        };
        world.say(start());
        world
    }

    /// What has happened so far.
    pub(super) fn events(&self) -> Vec<Event> {
        self.tape.stored.iter().flat_map(|stored| invariants::events_of(stored)).collect()
    }

    /// Somebody sends something; the server stamps it.
    pub(super) fn say(&mut self, told: Tell) {
        self.messages.push(Message { at: self.now, told });
    }

    /// Time goes by; what is due goes off.
    pub(super) fn wait(&mut self, span: SignedDuration) {
        self.now += span;
        if self.timer.is_some_and(|timer| timer <= self.now) {
            self.timer = None;
            self.say(Told::TimeHasCome);
        }
    }

    /// The customer pays, perhaps another amount, perhaps when it should not be possible any more.
    pub(super) fn pay(&mut self, amount: Money, late: bool) {
        if self.provider.charge(amount, late) {
            self.say(told_by_webhook(paid_amount(amount)));
        }
    }

    /// Somebody pays for another session that names this checkout.
    pub(super) fn pay_another_session(&mut self) {
        if self.provider.charge_another_session() {
            self.say(told_by_webhook(of_another_session(PaymentOutcome::Paid)));
        }
    }

    /// The customer declines or gives up at the provider, which says so.
    pub(super) fn turn_away(&mut self, outcome: PaymentOutcome) {
        if self.provider.turn_away() {
            self.say(told_by_webhook(notice(outcome)));
        }
    }

    /// The inventory takes one of the waiting requests, not always the oldest, and perhaps not for the last time.
    pub(super) fn answer_a_request(&mut self, which: usize, comes_again: bool) {
        if self.requests.is_empty() {
            return;
        }
        let which = which % self.requests.len();
        let request = if comes_again { self.requests[which] } else { self.requests.remove(which) };
        let answer = self.inventory.answer(request);
        self.say(stock(answer));
    }

    /// A worker takes one of the waiting messages, not always the oldest.
    pub(super) fn deliver(&mut self, which: usize, trouble: &Trouble) {
        if self.messages.is_empty() {
            return;
        }
        let which = which % self.messages.len();
        let message = self.messages[which].clone();
        if self.turn(&message, trouble).is_ok() {
            self.messages.remove(which);
        }
    }

    /// One turn of a worker, as its loop takes it.
    fn turn(&mut self, message: &Message, trouble: &Trouble) -> Result<(), ComesAgain> {
        let mut places = 0..trouble.dies_at.unwrap_or(u8::MAX);
        let mut survive = move || places.next().map(|_| ()).ok_or(ComesAgain);
        let mut known = self.tape.stored.len().saturating_sub(trouble.records_behind);
        let mut input = input(message.at, message.told.clone());
        loop {
            let state = match self.decide_and_append(&mut known, &input) {
                Ok(state) => state,
                Err(rejection) => return self.settle(rejection, message),
            };
            survive()?;
            match state.next(id()) {
                Next::Run(step) => {
                    let end = self.run(step);
                    survive()?;
                    let Some(told) = end else { break };
                    input = Input { at: self.now + SignedDuration::from_millis(trouble.clock_off_by_ms), told, ..input };
                }
                Next::Wait { until: Some(until) } => {
                    self.timer = Some(until);
                    break;
                }
                Next::Wait { until: None } => break,
                Next::Done => {
                    if known == self.tape.stored.len() {
                        self.timer = None;
                    }
                    break;
                }
            }
        }
        survive()
    }

    /// Decide on the records that the worker knows; when there are more, on all of them: an append is refused then, and
    /// without an append the worker has to look, or else it would drop an answer or a wake-up call that is not for the
    /// state in its hand.
    fn decide_and_append(
        &mut self,
        known: &mut usize,
        input: &Input<common::contracts::checkout::CheckoutCommand>,
    ) -> Result<Checkout, Rejection> {
        loop {
            let decision = replayed::<Checkout>(&self.tape.stored[..*known]).state.decide(input);
            if *known < self.tape.stored.len() {
                *known = self.tape.stored.len();
                continue;
            }
            self.tape.append(decision?, input.at);
            *known = self.tape.stored.len();
            self.check_that_telling_it_again_changes_nothing(input);
            return Ok(self.tape.state.clone());
        }
    }

    fn settle(&mut self, rejection: Rejection, message: &Message) -> Result<(), ComesAgain> {
        match (rejection, &message.told) {
            (Rejection::NotYet(_) | Rejection::NotStarted(_), _) => Err(ComesAgain),
            (Rejection::Contradiction(_), Told::PaymentNotice(notice)) => {
                self.parked.push(notice.clone());
                Ok(())
            }
            (Rejection::Contradiction(why), told) => panic!("{} contradicts: {why}", told.type_name()),
            (Rejection::No(_), _) => Ok(()),
        }
    }

    /// Do a step; the end of a local one is told at once.
    fn run(&mut self, step: Step) -> Option<Tell> {
        let request = match step {
            Step::ReserveStock(lines) => {
                assert_eq!(lines, stock_lines());
                Request::Reserve
            }
            Step::CommitStock => Request::Commit,
            Step::ReleaseStock => Request::Release,
            Step::OpenSession(request) => return Some(Told::StepEnded(self.provider.open(request))),
            Step::CloseSession(request) => return Some(Told::StepEnded(self.provider.close(&request))),
            Step::Refund(request) => return Some(Told::StepEnded(self.provider.refund(request))),
        };
        self.requests.push(request);
        None
    }

    /// From now on nothing goes wrong: everything is delivered, everything answers, and time goes by.
    pub(super) fn let_it_run(&mut self) {
        self.provider.recover();
        for _ in 0..200 {
            let before = (self.messages.len(), self.tape.stored.len(), self.requests.len());
            for message in std::mem::take(&mut self.messages) {
                if self.turn(&message, &Trouble::default()).is_err() {
                    self.messages.push(message);
                }
            }
            while !self.requests.is_empty() {
                self.answer_a_request(0, false);
            }
            if before == (self.messages.len(), self.tape.stored.len(), self.requests.len()) {
                match self.timer {
                    Some(timer) => self.wait(timer.max(self.now).duration_since(self.now)),
                    None => return,
                }
            }
        }
        panic!("it does not come to rest: {:?}", self.tape.state);
    }
}
