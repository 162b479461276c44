//! A small world in memory: one checkout with its real history bytes, workers that die or go on too late, a ledger that
//! keeps its rules, a provider that can be down, lose answers and be paid late. Nothing in it decides for the checkout:
//! it only carries what is said to and fro, late, twice, out of order.
//!
//! A turn is taken as the worker's loop takes it, on the newest history: where a decision appends something, the guarded
//! append sees to that; where it appends nothing, the loop must look.

mod invariants;
mod inventory;
mod provider;

use common::{
    contracts::checkout::{CheckoutCommand, CheckoutEvent as Event, PaymentNotice, PaymentOutcome},
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
    /// The worker stops at this place of its turn: after a decision, after a step, before the ack. The message comes
    /// again, to another worker.
    pub(super) stops_at: Option<u8>,
    /// The worker has not died: it goes on later, when others have moved the checkout.
    pub(super) goes_on_later: bool,
    /// How far the worker's clock is off.
    pub(super) clock_off_by_ms: i64,
}

/// What a worker that was stopped does when it goes on.
#[derive(Debug)]
enum Unfinished {
    Step(Step),
    Telling(Tell),
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
    /// What stopped workers are in the middle of.
    unfinished: Vec<Unfinished>,
    /// The payment provider.
    pub(super) provider: Provider,
    inventory: Inventory,
    /// What was put aside for a person.
    parked: Vec<PaymentNotice>,
}

/// The worker has stopped, or has put the message back: it comes again.
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
            unfinished: Vec::new(),
            provider: Provider::default(),
            inventory: Inventory::new(tea),
            parked: Vec::new(),
        };
        world.say(start());
        world
    }

    /// What has happened so far.
    pub(super) fn events(&self) -> Vec<Event> {
        self.tape.stored.iter().flat_map(invariants::events_of).collect()
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

    /// A worker that was stopped in the middle of a turn goes on with it.
    pub(super) fn go_on(&mut self, which: usize) {
        if self.unfinished.is_empty() {
            return;
        }
        let told = match self.unfinished.remove(which % self.unfinished.len()) {
            Unfinished::Telling(told) => Some(told),
            Unfinished::Step(step) => self.run(step),
        };
        if let Some(told) = told {
            // Its message is another worker's by now: nobody waits for what becomes of this.
            let _ = self.turn(&Message { at: self.now, told }, &Trouble::default());
        }
    }

    /// One turn of a worker, as its loop takes it.
    fn turn(&mut self, message: &Message, trouble: &Trouble) -> Result<(), ComesAgain> {
        let mut places = 0..trouble.stops_at.unwrap_or(u8::MAX);
        let mut stops_here = move || places.next().is_none();
        let mut input = input(message.at, message.told.clone());
        loop {
            if let Err(rejection) = self.decide_and_append(&input) {
                return self.settle(rejection, message);
            }
            match self.tape.state.next(id()) {
                Next::Run(step) if stops_here() => return self.stop(trouble, Unfinished::Step(step)),
                Next::Run(step) => match self.run(step) {
                    Some(told) if stops_here() => return self.stop(trouble, Unfinished::Telling(told)),
                    Some(told) => {
                        let at = self.now + SignedDuration::from_millis(trouble.clock_off_by_ms);
                        input = Input { at, told, ..input };
                    }
                    None => break,
                },
                Next::Wait { until: Some(_) } if stops_here() => return Err(ComesAgain),
                Next::Wait { until: Some(until) } => {
                    self.timer = Some(until);
                    break;
                }
                Next::Wait { until: None } => break,
                Next::Done => {
                    self.timer = None;
                    break;
                }
            }
        }
        if stops_here() { Err(ComesAgain) } else { Ok(()) }
    }

    fn stop(&mut self, trouble: &Trouble, unfinished: Unfinished) -> Result<(), ComesAgain> {
        if trouble.goes_on_later {
            self.unfinished.push(unfinished);
        }
        Err(ComesAgain)
    }

    fn decide_and_append(&mut self, input: &Input<CheckoutCommand>) -> Result<(), Rejection> {
        let events = replayed::<Checkout>(&self.tape.stored).state.decide(input)?;
        self.tape.append(events, input.at);
        self.check_that_telling_it_again_changes_nothing(input);
        Ok(())
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
        while !self.unfinished.is_empty() {
            self.go_on(0);
        }
        for _ in 0..200 {
            let mut has_moved = false;
            for message in std::mem::take(&mut self.messages) {
                match self.turn(&message, &Trouble::default()) {
                    Ok(()) => has_moved = true,
                    Err(ComesAgain) => self.messages.push(message),
                }
            }
            while !self.requests.is_empty() {
                self.answer_a_request(0, false);
                has_moved = true;
            }
            match self.timer {
                _ if has_moved => {}
                Some(timer) => self.wait(timer.max(self.now).duration_since(self.now)),
                None => return,
            }
        }
        panic!("it does not come to rest: {:?}", self.tape.state);
    }
}
