//! A worker's turn, as `workflow-worker/src/advance.rs` takes it: decide on a copy, append behind it, do what is owed, ack.
//!
//! Two places in a turn make a difference to others and are states of their own: before an append, when somebody else may
//! be first, and before a call to the provider, which a worker may make long after its message went to another. All else
//! follows an append at once, unless the worker dies in between. A worker that is late with the rest is a message that
//! comes once more.

use super::{
    bounds::Mechanism,
    provider,
    rules::{Decided, End, Message, Owed, Told},
    state::{State, Worker},
    step::{By, DiesAfter, Gathering, What},
};

/// A turn in which something is decided.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub(super) worker: u8,
    pub(super) checkout: u8,
    pub(super) message: Message,
}

/// What a worker knows of a checkout.
#[derive(Clone, Copy)]
struct Copy {
    revision: u8,
    state: u16,
}

pub(super) fn steps(gathering: &mut Gathering<'_>, worker: u8) {
    match gathering.from.workers[usize::from(worker)] {
        Worker::Idle => (0..gathering.bounds.checkouts).for_each(|checkout| take(gathering, worker, checkout)),
        Worker::Appending { checkout, message, told, revision, events } => {
            append(gathering, Turn { worker, checkout, message }, told, revision, events);
            die(gathering, worker);
        }
        Worker::Acting { checkout, message, revision, state } => {
            provider::call(gathering, Turn { worker, checkout, message }, revision, state);
            die(gathering, worker);
        }
    }
}

fn take(gathering: &mut Gathering<'_>, worker: u8, checkout: u8) {
    let its = gathering.from.checkout(checkout);
    let newest = its.history.length();
    let oldest = if gathering.from.budgets.old_copies > 0 { 0 } else { newest };
    for bit in its.messages.waiting() {
        let message = Message::from_bit(bit);
        for copy in oldest..=newest {
            let mut to = *gathering.from;
            if copy < newest {
                to.budgets.old_copies -= 1;
            }
            if gathering.bounds.without == Some(Mechanism::AckAfterAppend) {
                to.checkout_mut(checkout).messages.ack(bit);
            }
            let by = if copy < newest { By::Outside } else { By::System };
            let what = |dies| What::WorkerTakes { worker, checkout, message, copy, dies };
            let turn = Turn { worker, checkout, message };
            decide(gathering, by, what, to, turn, Told::Message(message), copy);
        }
    }
}

/// Decide on the copy in hand; "nothing happens" and "no" count on the newest one only.
fn decide(
    gathering: &mut Gathering<'_>,
    by: By,
    what: impl Fn(Option<DiesAfter>) -> What,
    mut to: State,
    turn: Turn,
    told: Told,
    copy: u8,
) {
    let Turn { worker, checkout, message } = turn;
    let its = to.checkout_mut(checkout);
    let newest = its.history.length();
    let may_be_old = gathering.bounds.without == Some(Mechanism::NewestStateBeforeAck);
    let mut revision = copy;
    loop {
        let state = its.history.after(revision);
        let now = match gathering.rules.decide(state, told) {
            Decided::Append(events) => Worker::Appending { checkout, message, told, revision, events },
            _ if revision < newest && !may_be_old => {
                revision = newest;
                continue;
            }
            Decided::Nothing => return go_on(gathering, by, what, to, turn, Copy { revision, state }),
            Decided::Later => Worker::Idle,
            decided @ (Decided::No | Decided::Parked) => {
                its.messages.ack(message.bit());
                its.parked |= decided == Decided::Parked;
                Worker::Idle
            }
        };
        to.workers[usize::from(worker)] = now;
        return gathering.can(by, what(None), to);
    }
}

fn append(gathering: &mut Gathering<'_>, turn: Turn, told: Told, revision: u8, events: u16) {
    let Turn { worker, checkout, .. } = turn;
    let what = |dies| What::WorkerAppends { worker, checkout, events, dies };
    let mut to = *gathering.from;
    let history = &mut to.checkout_mut(checkout).history;
    let newest = history.length();
    if revision < newest && gathering.bounds.without != Some(Mechanism::ExpectedSequenceOfHistory) {
        return decide(gathering, By::System, what, to, turn, told, newest);
    }
    // What the worker believes; the same as what is stored, as long as the guard is there.
    let state = gathering.rules.evolve(history.after(revision), events);
    history.push(gathering.rules.evolve(history.newest(), events));
    let revision = history.length();
    go_on(gathering, By::System, what, to, turn, Copy { revision, state });
}

/// Do what is owed and ack; a call to the provider is a step of its own.
fn go_on(
    gathering: &mut Gathering<'_>,
    by: By,
    what: impl Fn(Option<DiesAfter>) -> What,
    mut to: State,
    turn: Turn,
    copy: Copy,
) {
    let Turn { worker, checkout, message } = turn;
    let Copy { revision, state } = copy;
    let owed = gathering.rules.owed(state);
    if matches!(owed, Owed::OpenSession | Owed::CloseSession | Owed::Refund) {
        to.workers[usize::from(worker)] = Worker::Acting { checkout, message, revision, state };
        return gathering.can(by, what(None), to);
    }
    to.workers[usize::from(worker)] = Worker::Idle;
    let mut dead = to;
    let may_die = to.budgets.crashes > 0;
    if may_die {
        dead.budgets.crashes -= 1;
        gathering.can(By::Outside, what(Some(DiesAfter::Append)), dead);
    }
    let its = to.checkout_mut(checkout);
    match owed {
        Owed::Ask(request) => {
            its.requests.publish(request.bit());
            if may_die {
                dead.checkout_mut(checkout).requests.publish_unheard(request.bit());
                gathering.can(By::Outside, what(Some(DiesAfter::UnheardRequest)), dead);
            }
        }
        Owed::WakeAt(_) if gathering.bounds.without == Some(Mechanism::Timer) => {}
        Owed::WakeAt(time) => its.timer = Some(time),
        Owed::Done => its.timer = None,
        Owed::Wait | Owed::OpenSession | Owed::CloseSession | Owed::Refund => {}
    }
    if may_die {
        let mut dead = to;
        dead.budgets.crashes -= 1;
        gathering.can(By::Outside, what(Some(DiesAfter::Step)), dead);
    }
    to.checkout_mut(checkout).messages.ack(message.bit());
    gathering.can(by, what(None), to);
}

/// A call has ended so, and the provider has changed as `to` says: decide on it.
pub(super) fn ended(gathering: &mut Gathering<'_>, by: By, what: What, to: State, turn: Turn, revision: u8, end: End) {
    decide(gathering, by, |_| what, to, turn, Told::Ended(end), revision);
}

fn die(gathering: &mut Gathering<'_>, worker: u8) {
    if gathering.from.budgets.crashes == 0 {
        return;
    }
    let mut to = *gathering.from;
    to.budgets.crashes -= 1;
    let was = std::mem::replace(&mut to.workers[usize::from(worker)], Worker::Idle);
    gathering.can(By::Outside, What::WorkerDies { worker, may_arrive_later: false }, to);
    if let Worker::Appending { checkout, revision, events, .. } = was {
        to.checkout_mut(checkout).late_append = Some((revision, events));
        gathering.can(By::Outside, What::WorkerDies { worker, may_arrive_later: true }, to);
    }
}

/// What a dead worker was appending arrives; the guard decides.
pub(super) fn late_append(gathering: &mut Gathering<'_>, checkout: u8) {
    let Some((revision, events)) = gathering.from.checkout(checkout).late_append else { return };
    let mut to = *gathering.from;
    let its = to.checkout_mut(checkout);
    its.late_append = None;
    let is_guarded = gathering.bounds.without != Some(Mechanism::ExpectedSequenceOfHistory);
    if revision == its.history.length() || !is_guarded {
        its.history.push(gathering.rules.evolve(its.history.newest(), events));
    }
    gathering.can(By::Outside, What::LateAppendArrives { checkout, events }, to);
}
