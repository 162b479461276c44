//! What can happen next.

use super::{
    bounds::Bounds,
    inventory, provider,
    rules::{End, EventsId, Message, Request, Rules, TimeId},
    state::State,
    worker,
};

/// One thing that can happen; the checkout is given by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the same in all of them: whose, what, by whom")]
pub enum What {
    /// A worker takes a message and decides on its copy of the history.
    WorkerTakes { worker: u8, checkout: u8, message: Message, copy: u8, dies: Option<DiesAfter> },
    /// It appends what it has decided, does what is owed and acks; or it finds that somebody was first and decides again.
    WorkerAppends { worker: u8, checkout: u8, events: EventsId, dies: Option<DiesAfter> },
    /// It asks the provider, which answers.
    ProviderAnswers { worker: u8, checkout: u8, end: End },
    /// It asks the provider and hears nothing; perhaps the provider has acted.
    ProviderIsNotHeard { worker: u8, checkout: u8, end: End, has_acted: bool },
    /// It dies; what it was publishing may arrive later.
    WorkerDies { worker: u8, may_arrive_later: bool },
    /// What a dead worker was appending arrives.
    LateAppendArrives { checkout: u8, events: EventsId },
    /// A wake-up call goes off, at its time or long after.
    TimerGoesOff { checkout: u8, time: TimeId, late: bool },
    /// An instance of the inventory takes a command and decides on its copy of the ledger.
    InventoryTakes { inventory: u8, checkout: u8, request: Request },
    /// It finds that somebody was first, and decides again.
    InventoryLosesTheRace { inventory: u8, checkout: u8, request: Request },
    /// It appends if anything moves, answers and acks, if it lives so long.
    InventoryFinishes { inventory: u8, checkout: u8, answer: Message, dies: Option<Dies> },
    /// It dies and is started again; what it was appending may arrive later.
    InventoryDies { inventory: u8, may_arrive_later: bool },
    /// What a dead instance was appending arrives.
    LateEntryArrives { checkout: u8, request: Request },
    /// The customer pays, and the provider tells of it, or does not.
    CustomerPays { checkout: u8, is_told: bool, session_was_closed: bool },
    /// The customer pays for another session of the same checkout.
    CustomerPaysAnotherSession { checkout: u8 },
    /// The customer is turned away at the provider.
    CustomerIsDeclined { checkout: u8 },
    /// The customer cancels.
    CustomerCancels { checkout: u8 },
    /// A message arrives that was there before.
    ArrivesAgain { checkout: u8, message: Message },
    /// A command to the inventory arrives that was there before.
    RequestArrivesAgain { checkout: u8, request: Request },
}

/// What a worker does last, when it dies in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiesAfter {
    /// It appends; what is owed is not done.
    Append,
    /// It publishes what is owed, and nobody knows whether that arrives.
    UnheardRequest,
    /// It does what is owed; the message is not acked.
    Step,
}

/// Where an instance of the inventory dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// It has appended and not answered.
    BeforeAnswer,
    /// It has answered and not acked.
    BeforeAck,
}

/// Whether the system does it by itself. The rest is done to it: by customers, by faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// It goes on by itself.
    System,
    /// Somebody or something from outside.
    Outside,
}

/// One thing that can happen, and the world after it.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What.
    pub what: What,
    /// By whom.
    pub by: By,
    /// The world then.
    pub to: State,
}

/// Where the steps of one state are gathered.
pub(super) struct Gathering<'a> {
    pub(super) from: &'a State,
    pub(super) rules: &'a mut Rules,
    pub(super) bounds: &'a Bounds,
    pub(super) steps: &'a mut Vec<Step>,
}

impl Gathering<'_> {
    pub(super) fn can(&mut self, by: By, what: What, to: State) {
        if to != *self.from {
            self.steps.push(Step { what, by, to });
        }
    }
}

/// Everything that can happen next.
pub fn steps(from: &State, rules: &mut Rules, bounds: &Bounds, steps: &mut Vec<Step>) {
    steps.clear();
    let mut gathering = Gathering { from, rules, bounds, steps };
    for worker in 0..bounds.workers {
        worker::steps(&mut gathering, worker);
    }
    for inventory in 0..bounds.inventories {
        inventory::steps(&mut gathering, inventory);
    }
    inventory::late_entry(&mut gathering);
    for checkout in 0..bounds.checkouts {
        worker::late_append(&mut gathering, checkout);
        timer(&mut gathering, checkout);
        provider::customer(&mut gathering, checkout);
        repeats(&mut gathering, checkout);
    }
    for step in gathering.steps.iter_mut() {
        step.to = normal(step.to, bounds);
    }
}

fn timer(gathering: &mut Gathering<'_>, checkout: u8) {
    let Some(time) = gathering.from.checkout(checkout).timer else { return };
    // Only a checkout that is being opened tells a late call from one in time, and it waits only after a call unanswered.
    let late_calls = if gathering.bounds.unanswered > 0 { &[false, true][..] } else { &[false] };
    for &late in late_calls {
        let mut to = *gathering.from;
        let its = to.checkout_mut(checkout);
        its.timer = None;
        its.messages.publish(Message::Due(if late { super::rules::LATE } else { time }).bit());
        gathering.can(By::System, What::TimerGoesOff { checkout, time, late }, to);
    }
}

fn repeats(gathering: &mut Gathering<'_>, checkout: u8) {
    let from = gathering.from;
    if from.budgets.repeats == 0 {
        return;
    }
    let nudge = Message::Nudge.bit();
    let its = from.checkout(checkout);
    for bit in its.messages.could_come_again().filter(|bit| *bit != nudge).chain([nudge]) {
        let mut to = *from;
        to.budgets.repeats -= 1;
        to.checkout_mut(checkout).messages.publish(bit);
        gathering.can(By::Outside, What::ArrivesAgain { checkout, message: Message::from_bit(bit) }, to);
    }
    for bit in its.requests.could_come_again() {
        let mut to = *from;
        to.budgets.repeats -= 1;
        to.checkout_mut(checkout).requests.publish(bit);
        gathering.can(By::Outside, What::RequestArrivesAgain { checkout, request: Request::from_bit(bit) }, to);
    }
}

/// What can make no difference any more is not told apart.
fn normal(mut state: State, bounds: &Bounds) -> State {
    for checkout in &mut state.checkouts {
        // The guard will refuse it.
        if checkout.late_append.is_some_and(|(revision, _)| revision < checkout.history.length())
            && bounds.without != Some(super::bounds::Mechanism::ExpectedSequenceOfHistory)
        {
            checkout.late_append = None;
        }
        if state.budgets.repeats == 0 {
            checkout.messages.forget();
            checkout.requests.forget();
        }
    }
    if state.late_entry.is_some_and(|(read_up_to, ..)| read_up_to < state.ledger.length())
        && bounds.without != Some(super::bounds::Mechanism::ExpectedSequenceOfLedger)
    {
        state.late_entry = None;
    }
    state.in_one_order(bounds)
}
