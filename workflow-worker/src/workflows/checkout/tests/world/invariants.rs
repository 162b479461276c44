//! CASES K: what must be true of a world at every moment, and what once it has come to rest.

use common::{
    contracts::{
        TypeName as _,
        checkout::{CheckoutCommand, CheckoutEvent as Event, CheckoutStatus, PaymentStep, RefundStatus},
    },
    nats::read::Stored,
    record::Record,
};

use super::{super::fixtures::total, World, inventory::Goods};
use crate::{
    workflow::{Input, Next, Workflow as _},
    workflows::{
        checkout::{Checkout, state::Phase},
        stories::{id, ways::replayed},
    },
};

pub(super) fn events_of(stored: &Stored) -> Vec<Event> {
    serde_json::from_slice::<Record<Event>>(&stored.payload).expect("a record").events
}

impl World {
    /// True at every moment.
    pub(in super::super) fn check(&self) {
        self.inventory.check();
        self.check_that_replay_gives_the_live_state();
        self.check_that_it_is_decided_once();
        self.check_that_nothing_follows_the_end();
        self.check_the_stock();
        self.check_the_refunds();
        self.check_that_intents_come_first();
    }

    pub(super) fn check_that_telling_it_again_changes_nothing(&self, input: &Input<CheckoutCommand>) {
        if let Ok(events) = self.tape.state.decide(input) {
            assert!(events.is_empty(), "{} told again led to {events:?}", input.told.type_name());
        }
    }

    /// CASES K7.
    fn check_that_replay_gives_the_live_state(&self) {
        assert_eq!(replayed::<Checkout>(&self.tape.stored).state, self.tape.state, "K7");
    }

    /// CASES K2.
    fn check_that_it_is_decided_once(&self) {
        let events = self.events();
        let deciding = |event: &&Event| {
            matches!(
                event,
                Event::PaymentReceived { .. }
                    | Event::WrongAmountReceived { .. }
                    | Event::PaymentSessionClosed {}
                    | Event::PaymentRefused { .. }
                    | Event::StockRefused { .. }
            )
        };
        let ending = |event: &&Event| {
            matches!(
                event,
                Event::StockSold {} | Event::StockReleased {} | Event::StockRefused { .. } | Event::SaleRefused { .. }
            )
        };
        assert!(events.iter().filter(deciding).count() <= 1, "K2: {events:?}");
        assert!(events.iter().filter(ending).count() <= 1, "K2: {events:?}");
    }

    /// CASES K5: after the end only the branch of late money, and the end stays.
    fn check_that_nothing_follows_the_end(&self) {
        let mut end: Option<&str> = None;
        let records: Vec<Record<Event>> =
            self.tape.stored.iter().map(|stored| serde_json::from_slice(&stored.payload).expect("a record")).collect();
        for record in &records {
            if let Some(end) = end {
                assert_eq!(record.status, end, "K5: an end is an end");
                for event in &record.events {
                    assert!(is_about_late_money(event), "K5: {} after the end", event.type_name());
                }
            }
            let status = CheckoutStatus::ALL.into_iter().find(|status| status.as_str() == record.status);
            if status.expect("a public word").is_terminal() {
                end = Some(&record.status);
            }
        }
    }

    /// CASES K3.
    fn check_the_stock(&self) {
        let Checkout::Started(started) = &self.tape.state else {
            return assert_eq!(self.inventory.goods, Goods::NeverAsked, "K3: nothing is held before the start");
        };
        let goods = self.inventory.goods;
        match &started.phase {
            Phase::Reserving => {
                assert!(matches!(goods, Goods::NeverAsked | Goods::Refused | Goods::Held), "K3: {goods:?}")
            }
            Phase::OpeningPayment { .. } | Phase::AwaitingPayment | Phase::ClosingPayment { .. } => {
                assert_eq!(goods, Goods::Held, "K3: undecided");
            }
            Phase::Committing { .. } => assert!(matches!(goods, Goods::Held | Goods::Sold), "K3: {goods:?}"),
            Phase::Releasing { .. } => assert_ne!(goods, Goods::Sold, "K3: not paid"),
            Phase::Ended { .. } if self.tape.state.status() == "paid" => assert_eq!(goods, Goods::Sold, "K3: paid"),
            Phase::Ended { .. } => assert!(matches!(goods, Goods::GivenBack | Goods::Refused), "K3: {goods:?}"),
        }
    }

    /// CASES K4, F2: never two refunds, never one of what is kept.
    fn check_the_refunds(&self) {
        assert!(self.provider.refunds().len() <= 1, "F2: {:?}", self.provider.refunds());
        if self.tape.state.status() == "paid" {
            assert_eq!(self.provider.refunds(), [], "K4: what is sold is paid for");
        }
    }

    /// CASES K6: what was done outside had its reason in the history before.
    fn check_that_intents_come_first(&self) {
        let events = self.events();
        let has = |fits: fn(&Event) -> bool| events.iter().any(fits);
        if self.provider.was_asked_for_a_session() {
            assert!(has(|event| matches!(event, Event::StockReserved { .. })), "K6: no session without stock");
        }
        if !self.provider.refunds().is_empty() {
            let reason = |event: &Event| {
                matches!(
                    event,
                    Event::LatePaymentReceived { .. } | Event::WrongAmountReceived { .. } | Event::SaleRefused { .. }
                )
            };
            assert!(has(reason), "K6: no refund without its reason");
        }
        if matches!(self.inventory.goods, Goods::GivenBack) {
            assert!(!self.provider.can_be_paid(), "C8: nobody can pay for what was given back");
        }
    }

    /// True once everything was delivered and everybody has answered.
    pub(in super::super) fn check_at_rest(&self) {
        self.check();
        assert_eq!(self.tape.state.next(id()), Next::Done, "K2: it comes to an end");
        assert!(!self.provider.can_be_paid(), "C8: nobody can pay after the end");
        self.check_the_money();
        self.check_that_outcomes_are_recorded();
    }

    /// CASES K4: what is paid is kept in full; else nothing is kept, unless a person sees it.
    fn check_the_money(&self) {
        let Checkout::Started(started) = &self.tape.state else { panic!("it was started") };
        let is_paid = self.tape.state.status() == "paid";
        let needs_attention = self.tape.state.refund_status() == Some(RefundStatus::NeedsAttention);
        let kept = self.provider.kept();
        for (session, amount) in &kept {
            let is_its_session = started.session.as_ref() == Some(session);
            let is_seen = if is_its_session { needs_attention } else { self.is_parked(session) };
            assert!(
                is_paid && is_its_session && *amount == total() || is_seen,
                "K4: {amount} of {session} are forgotten"
            );
        }
        let is_kept = kept.iter().any(|(session, _)| started.session.as_ref() == Some(session));
        assert!(!is_paid || is_kept, "K4: a paid checkout has been paid");
    }

    fn is_parked(&self, session: &common::ids::SessionId) -> bool {
        self.parked.iter().any(|notice| notice.session_id == *session)
    }

    /// CASES K6: what was done outside has its outcome in the history after.
    fn check_that_outcomes_are_recorded(&self) {
        let events = self.events();
        if self.provider.was_asked_for_a_session() {
            let outcome = |event: &Event| {
                matches!(
                    event,
                    Event::PaymentSessionOpened { .. }
                        | Event::PaymentRefused { .. }
                        | Event::PaymentSessionClosed {}
                        | Event::PaymentReceived { .. }
                        | Event::WrongAmountReceived { .. }
                )
            };
            assert!(events.iter().any(outcome), "K6: what became of the session is recorded");
        }
        let refunds = events.iter().filter(|event| matches!(event, Event::Refunded { .. })).count();
        let given_up = events.iter().any(|event| matches!(event, Event::RefundNeedsAttention { .. }));
        assert!(refunds == self.provider.refunds().len() || given_up, "K6: what became of the refund is recorded");
    }
}

fn is_about_late_money(event: &Event) -> bool {
    matches!(
        event,
        Event::LatePaymentReceived { .. }
            | Event::PaymentStepFailed { step: PaymentStep::Refund, .. }
            | Event::PaymentStepRetried { step: PaymentStep::Refund, .. }
            | Event::Refunded { .. }
            | Event::RefundNeedsAttention { .. }
    )
}
