//! Everything that there is at one moment. Small and flat: millions of these are compared.

use super::{
    bounds::Bounds,
    rules::{EventsId, LedgerId, Message, Request, StateId, TimeId},
};

/// Most records of one checkout's history. Longer ones do not fit; the checker says so.
pub const MOST_RECORDS: usize = 14;

/// Most entries of the ledger: the delivery, and for each checkout what it holds and what becomes of it.
pub const MOST_ENTRIES: usize = 8;

/// A log that only grows, with the state after each of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Log<const MOST: usize> {
    after: [u16; MOST],
    length: u8,
}

impl<const MOST: usize> Log<MOST> {
    /// A log in which nothing has happened since `beginning`.
    #[must_use]
    pub fn new(beginning: u16) -> Self {
        let mut after = [0; MOST];
        after[0] = beginning;
        Self { after, length: 0 }
    }

    /// How many messages there are.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The state after so many messages.
    #[must_use]
    pub fn after(&self, messages: u8) -> u16 {
        self.after[usize::from(messages)]
    }

    /// The state after all of them.
    #[must_use]
    pub fn newest(&self) -> u16 {
        self.after(self.length)
    }

    /// One more.
    ///
    /// # Panics
    /// When the log is full: the world is larger than this model can hold.
    pub fn push(&mut self, state: u16) {
        self.length += 1;
        assert!(usize::from(self.length) < MOST, "a log of this model holds fewer than {MOST} messages");
        self.after[usize::from(self.length)] = state;
    }
}

/// Messages of one kind that wait, and which were ever published: those may arrive once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Queue {
    waiting: u32,
    ever: u32,
}

impl Queue {
    /// Somebody publishes; it is stored.
    pub fn publish(&mut self, bit: u8) {
        self.waiting |= 1 << bit;
        self.ever |= 1 << bit;
    }

    /// Somebody published and died; it may be stored later.
    pub fn publish_unheard(&mut self, bit: u8) {
        self.ever |= 1 << bit;
    }

    /// It is acked.
    pub fn ack(&mut self, bit: u8) {
        self.waiting &= !(1 << bit);
    }

    /// What waits.
    pub fn waiting(self) -> impl Iterator<Item = u8> {
        bits(self.waiting)
    }

    /// What could arrive once more and does not wait already.
    pub fn could_come_again(self) -> impl Iterator<Item = u8> {
        bits(self.ever & !self.waiting)
    }

    /// Nothing that was acked can come again.
    pub fn forget(&mut self) {
        self.ever = self.waiting;
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.waiting == 0
    }
}

fn bits(mask: u32) -> impl Iterator<Item = u8> {
    (0..32).filter(move |bit| mask & (1 << bit) != 0)
}

/// A session at the payment provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Session {
    /// Nobody has asked for it.
    NeverCreated,
    /// It was closed by its key before it was created: it never will be.
    NeverWillBe,
    /// It can be paid.
    Open,
    /// The customer was turned away; the session can still be paid.
    TurnedAway,
    /// Nobody can pay it any more.
    Closed,
    /// It is paid.
    Paid,
}

/// One checkout with everything that belongs to it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checkout {
    /// Its history.
    pub history: Log<MOST_RECORDS>,
    /// Commands, webhooks and wake-up calls for it.
    pub messages: Queue,
    /// Commands of it to the inventory.
    pub requests: Queue,
    /// Its wake-up call.
    pub timer: Option<TimeId>,
    /// An append of a worker that died, still on its way: after which record, and what.
    pub late_append: Option<(u8, EventsId)>,
    /// Its session at the provider.
    pub session: Session,
    /// Sessions beside it, which only a provider without idempotency keys opens.
    pub more_sessions: u8,
    /// How often the customer was charged.
    pub charges: u8,
    /// How often money went back.
    pub refunds: u8,
    /// Whether something was put aside for a person.
    pub parked: bool,
    /// Whether the customer may still cancel.
    pub may_cancel: bool,
}

/// Where a worker is in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worker {
    /// It has no turn.
    Idle,
    /// It has decided on a revision and is about to append.
    Appending {
        /// Whose turn.
        checkout: u8,
        /// The message that it holds.
        message: Message,
        /// The end of a step, when that is what was decided on.
        told: super::rules::Told,
        /// The revision that was decided on.
        revision: u8,
        /// What is appended.
        events: EventsId,
    },
    /// It knows what is owed and is about to do it.
    Acting {
        /// Whose turn.
        checkout: u8,
        /// The message that it holds.
        message: Message,
        /// The revision of its copy.
        revision: u8,
        /// Its copy.
        state: StateId,
    },
}

/// Where an instance of the inventory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    /// It waits.
    Nothing,
    /// It has decided a command and is about to append.
    Appending {
        /// Whose command.
        checkout: u8,
        /// Which.
        request: Request,
    },
}

/// An instance of the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inventory {
    /// Up to which entry it has read the ledger.
    pub read_up_to: u8,
    /// What it is doing.
    pub doing: Doing,
}

/// What may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budgets {
    /// See [`Bounds::crashes`].
    pub crashes: u8,
    /// See [`Bounds::repeats`].
    pub repeats: u8,
    /// See [`Bounds::unanswered`].
    pub unanswered: u8,
    /// See [`Bounds::provider_faults`].
    pub provider_faults: u8,
    /// See [`Bounds::old_copies`].
    pub old_copies: u8,
}

/// The world at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The checkouts; those beyond [`Bounds::checkouts`] never begin.
    pub checkouts: [Checkout; 2],
    /// The workers; those beyond [`Bounds::workers`] never take a turn.
    pub workers: [Worker; 2],
    /// The instances of the inventory.
    pub inventories: [Inventory; 2],
    /// The ledger.
    pub ledger: Log<MOST_ENTRIES>,
    /// An append of an instance that died, still on its way: after which entry, whose command, and which.
    pub late_entry: Option<(u8, u8, Request)>,
    /// What may still go wrong.
    pub budgets: Budgets,
    /// Whether the ledger was written in a way that its own rules do not allow.
    pub ledger_contradicts_itself: bool,
}

impl State {
    /// The customers have asked for their orders; nothing else has happened.
    #[must_use]
    pub fn beginning(bounds: &Bounds, not_started: StateId, delivered: LedgerId) -> Self {
        let checkout = |number: u8| {
            let mut messages = Queue::default();
            if number < bounds.checkouts {
                messages.publish(Message::Start.bit());
            }
            Checkout {
                history: Log::new(not_started),
                messages,
                requests: Queue::default(),
                timer: None,
                late_append: None,
                session: Session::NeverCreated,
                more_sessions: 0,
                charges: 0,
                refunds: 0,
                parked: false,
                may_cancel: bounds.customers_change_their_minds && number < bounds.checkouts,
            }
        };
        Self {
            checkouts: [checkout(0), checkout(1)],
            workers: [Worker::Idle; 2],
            inventories: [Inventory { read_up_to: 0, doing: Doing::Nothing }; 2],
            ledger: Log::new(delivered),
            late_entry: None,
            budgets: Budgets {
                crashes: bounds.crashes,
                repeats: bounds.repeats,
                unanswered: bounds.unanswered,
                provider_faults: bounds.provider_faults,
                old_copies: bounds.old_copies,
            },
            ledger_contradicts_itself: false,
        }
    }

    /// The same world with interchangeable processes in one order: half as many states.
    #[must_use]
    pub fn in_one_order(mut self, bounds: &Bounds) -> Self {
        self.workers[..usize::from(bounds.workers)].sort_unstable();
        self.inventories[..usize::from(bounds.inventories)].sort_unstable();
        self
    }

    /// One checkout.
    pub fn checkout_mut(&mut self, number: u8) -> &mut Checkout {
        &mut self.checkouts[usize::from(number)]
    }

    /// One checkout.
    #[must_use]
    pub fn checkout(&self, number: u8) -> &Checkout {
        &self.checkouts[usize::from(number)]
    }
}
