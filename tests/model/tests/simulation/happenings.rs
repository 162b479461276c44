//! What happens to the system from outside: customers, operators, the provider's customers, and everything that goes wrong.

use common::{
    contracts::{
        checkout::{CancelledBy, CheckoutCommand, Line, RequestFingerprint},
        refund::{RefundCommand, refund_of},
    },
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
};

use crate::{
    clock,
    messages::Body,
    server::{Inner, Without},
};

#[derive(Debug, Clone, Copy)]
/// One thing that happens.
pub enum Happening {
    TurnGoesOn,
    WorkerTakes,
    InventoryGoesOn,
    TimerGoesOff,
    TimePasses,
    MuchTimePasses,
    WorkerDies,
    InventoryDies,
    LatePublishArrives,
    CustomerActs,
    CustomerAsksAgain,
    CustomerCancels,
    OperatorRefunds,
    AckWaitIsOver,
    MessageComesAgain,
    TimersArePurged,
    SomebodyNudges,
    AnotherRequestComesUnderTheKey,
    ForeignSessionIsPaid,
}

/// How often each happens, against the others.
pub const HAPPENINGS: [(usize, Happening); 19] = [
    (400, Happening::TurnGoesOn),
    (120, Happening::WorkerTakes),
    (250, Happening::InventoryGoesOn),
    (50, Happening::TimerGoesOff),
    (40, Happening::TimePasses),
    (10, Happening::MuchTimePasses),
    (8, Happening::WorkerDies),
    (5, Happening::InventoryDies),
    (20, Happening::LatePublishArrives),
    (30, Happening::CustomerActs),
    (4, Happening::CustomerAsksAgain),
    (6, Happening::CustomerCancels),
    (15, Happening::OperatorRefunds),
    (12, Happening::AckWaitIsOver),
    (8, Happening::MessageComesAgain),
    (1, Happening::TimersArePurged),
    (3, Happening::SomebodyNudges),
    (2, Happening::AnotherRequestComesUnderTheKey),
    (1, Happening::ForeignSessionIsPaid),
];

impl Inner {
    /// It happens.
    pub fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::TimerGoesOff => self.timer_goes_off(),
            Happening::LatePublishArrives if !self.late.is_empty() => {
                let which = self.chance.below(self.late.len());
                let (subject, headers, payload) = self.late.swap_remove(which);
                self.tell(|| format!("a late publish on {subject} arrives"));
                self.store(&subject, headers, payload);
            }
            Happening::CustomerActs => self.customer_acts(),
            Happening::CustomerAsksAgain => {
                let customer = self.chance.below(self.starts.len());
                self.ask(customer);
            }
            Happening::CustomerCancels => {
                let customer = self.chance.below(self.starts.len());
                let id = self.starts[customer].0;
                self.command(id, &CheckoutCommand::Cancel { by: CancelledBy::Customer });
            }
            Happening::OperatorRefunds => self.operator_refunds(),
            Happening::SomebodyNudges => {
                let customer = self.chance.below(self.starts.len());
                let id = self.starts[customer].0;
                self.command(id, &CheckoutCommand::Nudge);
            }
            Happening::AnotherRequestComesUnderTheKey => {
                let (customer, cart) = (self.chance.below(self.starts.len()), self.chance.below(3));
                let id = self.starts[customer].0;
                self.command(id, &start(cart));
            }
            Happening::ForeignSessionIsPaid => self.somebody_pays_a_foreign_session(),
            Happening::AckWaitIsOver => {
                self.for_workers.deliver_again(&mut self.chance);
                self.for_inventory.deliver_again(&mut self.chance);
            }
            // What is done stays for years (webhooks), days (calls that became due) or seconds (commands), and is told again.
            Happening::MessageComesAgain => {
                self.for_workers.come_again(&mut self.chance);
                self.for_inventory.come_again(&mut self.chance);
            }
            Happening::TimersArePurged if self.without.is_none() => {
                self.tell(|| "TIMERS is purged".to_owned());
                self.timers.clear();
                self.timers_purged = true;
            }
            _ => {}
        }
    }

    /// The next wake-up call that is due goes off, if there is one.
    pub fn timer_goes_off(&mut self) {
        let now = clock::now();
        let due = self.timers.iter().find(|(_, at)| **at <= now).map(|(workflow, _)| *workflow);
        let Some(workflow) = due else { return };
        self.timers.remove(&workflow);
        if self.without == Some(Without::Timers) {
            return;
        }
        let times = if self.faults && self.chance.percent(5) { 2 } else { 1 };
        for _ in 0..times {
            self.for_workers.put(Body::Due(workflow), now);
        }
    }

    /// The customer sends the order, perhaps again.
    pub fn ask(&mut self, customer: usize) {
        let (id, start) = self.starts[customer].clone();
        self.command(id, &start);
    }

    fn command(&mut self, id: WorkflowId, command: &CheckoutCommand) {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id };
        self.for_workers.put(Body::Command(workflow, json(command)), clock::now());
    }

    /// An operator gives the money of a paid checkout back, perhaps twice.
    fn operator_refunds(&mut self) {
        let paid = self.truth.checkouts.iter().find(|(_, tape)| tape.state.status_word() == "paid");
        let Some((&checkout, _)) = paid else { return };
        let session = self.provider.sessions.values().find(|session| session.reference == checkout);
        let Some(session) = session else { return };
        let command = RefundCommand::Start {
            checkout,
            provider: "sandbox".parse().expect("a name"),
            session_id: session.name.clone(),
            amount: session.amount,
            reason: "it broke".to_owned(),
            by: Some("alice".parse().expect("a name")),
        };
        let workflow = WorkflowRef { kind: WorkflowKind::Refund, id: refund_of(checkout) };
        self.for_workers.put(Body::Command(workflow, json(&command)), clock::now());
    }
}

/// One of two articles.
pub fn sku(article: u128) -> Sku {
    let name = if article == 0 { "TEA" } else { "CUP" };
    name.parse().expect("a sku")
}

/// One of three carts.
pub fn start(cart: usize) -> CheckoutCommand {
    let line =
        |article, quantity| Line { sku: sku(article), name: "goods".to_owned(), quantity, unit_price: Money::eur(500) };
    let lines = match cart {
        0 => vec![line(0, 1)],
        1 => vec![line(0, 1), line(1, 1)],
        _ => vec![line(1, 2)],
    };
    let units: u32 = lines.iter().map(|line| line.quantity).sum();
    let total = Money::eur(500 * i64::from(units));
    CheckoutCommand::Start { lines, total, fingerprint: RequestFingerprint(format!("cart {cart}")) }
}

/// As it is stored.
pub fn json(value: &impl serde::Serialize) -> bytes::Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
