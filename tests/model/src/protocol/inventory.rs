//! An instance of the inventory, as `inventory-service/src/keeper.rs` goes on: decide on its copy of the ledger, append
//! behind it, answer, ack. Two of them may believe to be the active one.

use super::{
    bounds::Mechanism,
    rules::{LedgerAnswer, Message, Request},
    state::{Doing, State},
    step::{By, Dies, Gathering, What},
};

pub(super) fn steps(gathering: &mut Gathering<'_>, inventory: u8) {
    match gathering.from.inventories[usize::from(inventory)].doing {
        Doing::Nothing => take(gathering, inventory),
        Doing::Appending { checkout, request } => {
            append(gathering, inventory, checkout, request);
            die(gathering, inventory);
        }
    }
}

fn take(gathering: &mut Gathering<'_>, inventory: u8) {
    for checkout in 0..gathering.bounds.checkouts {
        for bit in gathering.from.checkout(checkout).requests.waiting() {
            let request = Request::from_bit(bit);
            let mut to = *gathering.from;
            if gathering.bounds.without == Some(Mechanism::AckAfterAnswer) {
                to.checkout_mut(checkout).requests.ack(bit);
            }
            match decide(gathering, &mut to, inventory, checkout, request) {
                Some(answer) => finish(gathering, to, inventory, checkout, request, answer),
                None => gathering.can(By::System, What::InventoryTakes { inventory, checkout, request }, to),
            }
        }
    }
}

/// What the ledger that an instance knows says; without its tombstones when they are taken out.
fn ask(gathering: &mut Gathering<'_>, ledger: u16, checkout: u8, request: Request) -> LedgerAnswer {
    let rules = &mut gathering.rules.ledger;
    let said = rules.decide(ledger, checkout, request);
    let is_tombstone = said.movement.is_some_and(|movement| rules.is_tombstone(movement));
    let is_forgotten = is_tombstone && gathering.bounds.without == Some(Mechanism::Tombstone);
    LedgerAnswer { movement: said.movement.filter(|_| !is_forgotten), ..said }
}

/// An answer that moves nothing is given on the newest ledger only: its entry, which changes nothing else, proves that. Taken
/// out, the ledger's leader is asked instead, and it may be a server that has not heard of the new leader yet.
fn decide(
    gathering: &mut Gathering<'_>,
    to: &mut State,
    inventory: u8,
    checkout: u8,
    request: Request,
) -> Option<Message> {
    loop {
        let newest = to.ledger.length();
        let its = &mut to.inventories[usize::from(inventory)];
        let said = ask(gathering, to.ledger.after(its.read_up_to), checkout, request);
        if said.movement.is_some() {
            its.doing = Doing::Appending { checkout, request };
            return None;
        }
        if its.read_up_to == newest || gathering.bounds.without == Some(Mechanism::EntryBeforeAnswer) {
            its.doing = Doing::Nothing;
            return Some(said.answer);
        }
        its.read_up_to = newest;
    }
}

fn append(gathering: &mut Gathering<'_>, inventory: u8, checkout: u8, request: Request) {
    let mut to = *gathering.from;
    let newest = to.ledger.length();
    let its = &mut to.inventories[usize::from(inventory)];
    let said = ask(gathering, to.ledger.after(its.read_up_to), checkout, request);
    let is_first = its.read_up_to == newest;
    its.read_up_to = newest;
    if !is_first && gathering.bounds.without != Some(Mechanism::ExpectedSequenceOfLedger) {
        return match decide(gathering, &mut to, inventory, checkout, request) {
            Some(answer) => finish(gathering, to, inventory, checkout, request, answer),
            None => gathering.can(By::System, What::InventoryLosesTheRace { inventory, checkout, request }, to),
        };
    }
    its.doing = Doing::Nothing;
    if let Some(movement) = said.movement {
        book(gathering, &mut to, movement);
        to.inventories[usize::from(inventory)].read_up_to = to.ledger.length();
    }
    finish(gathering, to, inventory, checkout, request, said.answer);
}

/// The ledger proves the answer: it goes out, then the command is acked. The instance may die before either.
fn finish(
    gathering: &mut Gathering<'_>,
    mut to: State,
    inventory: u8,
    checkout: u8,
    request: Request,
    answer: Message,
) {
    let what = |dies| What::InventoryFinishes { inventory, checkout, answer, dies };
    let mut dead = to;
    to.checkout_mut(checkout).messages.publish(answer.bit());
    if to.budgets.crashes > 0 {
        dead.budgets.crashes -= 1;
        gathering.can(By::Outside, what(Some(Dies::BeforeAnswer)), dead);
        dead.checkout_mut(checkout).messages.publish(answer.bit());
        gathering.can(By::Outside, what(Some(Dies::BeforeAck)), dead);
    }
    to.checkout_mut(checkout).requests.ack(request.bit());
    gathering.can(By::System, what(None), to);
}

fn book(gathering: &mut Gathering<'_>, to: &mut State, movement: u16) {
    match gathering.rules.ledger.book(to.ledger.newest(), movement) {
        Some(booked) => to.ledger.push(booked),
        None => to.ledger_contradicts_itself = true,
    }
}

fn die(gathering: &mut Gathering<'_>, inventory: u8) {
    if gathering.from.budgets.crashes == 0 {
        return;
    }
    let mut to = *gathering.from;
    to.budgets.crashes -= 1;
    let newest = to.ledger.length();
    let its = &mut to.inventories[usize::from(inventory)];
    let (was, read_up_to) = (its.doing, its.read_up_to);
    its.doing = Doing::Nothing;
    its.read_up_to = newest;
    gathering.can(By::Outside, What::InventoryDies { inventory, may_arrive_later: false }, to);
    if let Doing::Appending { checkout, request } = was {
        to.late_entry = Some((read_up_to, checkout, request));
        gathering.can(By::Outside, What::InventoryDies { inventory, may_arrive_later: true }, to);
    }
}

/// What a dead instance was appending arrives; the guard decides.
pub(super) fn late_entry(gathering: &mut Gathering<'_>) {
    let Some((read_up_to, checkout, request)) = gathering.from.late_entry else { return };
    let mut to = *gathering.from;
    to.late_entry = None;
    let said = ask(gathering, to.ledger.after(read_up_to), checkout, request);
    let is_guarded = gathering.bounds.without != Some(Mechanism::ExpectedSequenceOfLedger);
    if let Some(movement) = said.movement
        && (read_up_to == to.ledger.length() || !is_guarded)
    {
        book(gathering, &mut to, movement);
    }
    gathering.can(By::Outside, What::LateEntryArrives { checkout, request }, to);
}
