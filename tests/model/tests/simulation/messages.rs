//! Messages that wait for a consumer: delivered at least once, in any order, again when nobody acks.

use std::time::Duration;

use bytes::Bytes;
use common::{
    contracts::checkout::PaymentNotice,
    ids::WorkflowRef,
    time::{Timestamp, after},
};

use crate::{chance::Chance, clock};

/// What a message brings.
#[derive(Debug, Clone)]
pub enum Body {
    /// A command to a workflow, as it is stored.
    Command(WorkflowRef, Bytes),
    /// A webhook about a checkout.
    Notice(WorkflowRef, PaymentNotice),
    /// A wake-up call.
    Due(WorkflowRef),
    /// A command to the inventory, as it is stored.
    Inventory(Bytes),
}

impl Body {
    /// Whose it is; none for the inventory's.
    pub fn workflow(&self) -> Option<WorkflowRef> {
        match self {
            Self::Command(workflow, _) | Self::Notice(workflow, _) | Self::Due(workflow) => Some(*workflow),
            Self::Inventory(_) => None,
        }
    }
}

/// A message and how its delivery goes.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its number in the queue.
    pub number: usize,
    /// What it brings.
    pub body: Body,
    /// The server's time of it.
    pub at: Timestamp,
    /// How often it was delivered.
    pub deliveries: i64,
    not_before: Timestamp,
    acked: bool,
}

/// One consumer's messages.
#[derive(Debug, Default)]
pub struct Queue {
    all: Vec<Queued>,
}

impl Queue {
    /// A message is stored.
    pub fn put(&mut self, body: Body, at: Timestamp) {
        let number = self.all.len();
        self.all.push(Queued { number, body, at, deliveries: 0, not_before: at, acked: false });
    }

    /// Deliver one of those that may be delivered now; it comes again when it is not acked in time.
    pub fn deliver(
        &mut self,
        chance: &mut Chance,
        fits: impl Fn(&Queued) -> bool,
        ack_wait: Duration,
    ) -> Option<Queued> {
        let now = clock::now();
        let can = |message: &&mut Queued| !message.acked && message.not_before <= now && fits(message);
        let which = chance.below(self.all.iter_mut().filter(|message| can(message)).count());
        let message = self.all.iter_mut().filter(can).nth(which)?;
        message.deliveries += 1;
        message.not_before = after(now, ack_wait);
        Some(message.clone())
    }

    /// It is used up.
    pub fn ack(&mut self, number: usize) {
        self.all[number].acked = true;
    }

    /// It comes again after a while.
    pub fn hand_back(&mut self, number: usize, wait: Duration) {
        self.all[number].not_before = after(clock::now(), wait);
    }

    /// The ack wait of one is over, although somebody may still hold it.
    pub fn deliver_again(&mut self, chance: &mut Chance) {
        let which = chance.below(self.all.len());
        if let Some(message) = self.all.get_mut(which) {
            message.not_before = clock::now();
        }
    }

    /// An operator resets the consumer, or the same thing is told once more: what is still stored comes again.
    pub fn come_again(&mut self, chance: &mut Chance) {
        let which = chance.below(self.all.len());
        let now = clock::now();
        if let Some(message) = self.all.get_mut(which) {
            message.acked = false;
            message.not_before = now;
        }
    }

    /// When the next one may be delivered; none when all are used up.
    pub fn next(&self) -> Option<Timestamp> {
        self.all.iter().filter(|message| !message.acked).map(|message| message.not_before).min()
    }
}
