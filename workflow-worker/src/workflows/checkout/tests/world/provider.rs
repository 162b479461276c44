//! A payment provider with the promises of a real one: one session per idempotency key, one refund per key, a session
//! that is closed can be paid only by mistake. Its answers can be lost after it has acted.

use common::{
    contracts::checkout::PaymentStep,
    ids::SessionId,
    money::Money,
    payment::{CloseSession, Closed, CreateSession, OpenSession, RefundRequest},
};

use super::super::fixtures::{SESSION, asked_notice, total};
use crate::workflow::StepEnd;

/// What happened to the order's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    NeverCreated,
    /// It was closed by its reference before it was created: it never will be.
    NeverWillBe,
    Open,
    /// Declined or given up; some providers let the customer try again.
    TurnedAway,
    Closed,
    Paid,
}

/// See the head of this file.
pub(in super::super) struct Provider {
    /// It cannot be reached.
    pub(in super::super) is_down: bool,
    /// So many answers are lost after it has acted.
    pub(in super::super) answers_to_lose: u8,
    /// It opens no new session.
    pub(in super::super) refuses_sessions: bool,
    /// It gives no money back.
    pub(in super::super) refuses_refunds: bool,
    standing: Standing,
    created_by: Option<CreateSession>,
    charged: Option<Money>,
    other_session_is_charged: bool,
    refunds: Vec<RefundRequest>,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            is_down: false,
            answers_to_lose: 0,
            refuses_sessions: false,
            refuses_refunds: false,
            standing: Standing::NeverCreated,
            created_by: None,
            charged: None,
            other_session_is_charged: false,
            refunds: Vec::new(),
        }
    }
}

impl Provider {
    pub(super) fn open(&mut self, request: CreateSession) -> StepEnd {
        self.call(PaymentStep::OpenSession, |provider| provider.opened(request))
    }

    fn opened(&mut self, request: CreateSession) -> StepEnd {
        let first = self.created_by.get_or_insert_with(|| request.clone());
        assert_eq!(*first, request, "C5: the same key comes with the same request");
        match self.standing {
            Standing::NeverWillBe => refused(PaymentStep::OpenSession),
            Standing::NeverCreated if self.refuses_sessions => refused(PaymentStep::OpenSession),
            Standing::NeverCreated => {
                self.standing = Standing::Open;
                opened()
            }
            Standing::Open | Standing::TurnedAway | Standing::Closed | Standing::Paid => opened(),
        }
    }

    pub(super) fn close(&mut self, request: &CloseSession) -> StepEnd {
        assert_eq!(request.created_by.amount, total());
        self.call(PaymentStep::CloseSession, |provider| {
            provider.standing = match provider.standing {
                Standing::Paid => Standing::Paid,
                Standing::NeverCreated | Standing::NeverWillBe => Standing::NeverWillBe,
                Standing::Open | Standing::TurnedAway | Standing::Closed => Standing::Closed,
            };
            let closed = match provider.charged {
                Some(amount) => Closed::AlreadyPaid(asked_notice(amount)),
                None => Closed::NobodyCanPay,
            };
            StepEnd::SessionClosed(closed)
        })
    }

    pub(super) fn refund(&mut self, request: RefundRequest) -> StepEnd {
        self.call(PaymentStep::Refund, |provider| provider.refunded(request))
    }

    fn refunded(&mut self, request: RefundRequest) -> StepEnd {
        let made = self.refunds.iter().find(|made| made.idempotency_key == request.idempotency_key);
        if let Some(made) = made {
            assert_eq!(*made, request, "F4: the same key comes with the same request");
        } else if self.refuses_refunds {
            return refused(PaymentStep::Refund);
        } else {
            self.refunds.push(request);
        }
        StepEnd::Refunded { refund_id: "re_1".to_owned() }
    }

    /// It may be down, and it may act and not be heard.
    fn call(&mut self, step: PaymentStep, act: impl FnOnce(&mut Self) -> StepEnd) -> StepEnd {
        let no_answer = StepEnd::NoAnswer { step, reason: "connection reset".to_owned() };
        if self.is_down {
            return no_answer;
        }
        let answer = act(self);
        if self.answers_to_lose > 0 {
            self.answers_to_lose -= 1;
            return no_answer;
        }
        answer
    }

    /// Whether the customer could pay.
    pub(super) fn charge(&mut self, amount: Money, late: bool) -> bool {
        let possible = match self.standing {
            Standing::Open | Standing::TurnedAway => true,
            Standing::Closed => late,
            Standing::NeverCreated | Standing::NeverWillBe | Standing::Paid => false,
        };
        if possible {
            self.standing = Standing::Paid;
            self.charged = Some(amount);
        }
        possible
    }

    /// Whether the other session could be paid, which is possible once.
    pub(super) fn charge_another_session(&mut self) -> bool {
        !std::mem::replace(&mut self.other_session_is_charged, true)
    }

    /// Whether there was somebody to be turned away.
    pub(super) fn turn_away(&mut self) -> bool {
        let possible = matches!(self.standing, Standing::Open);
        if possible {
            self.standing = Standing::TurnedAway;
        }
        possible
    }

    pub(super) fn recover(&mut self) {
        self.is_down = false;
        self.answers_to_lose = 0;
    }

    /// Whether it was ever asked for the order's session.
    pub(super) fn was_asked_for_a_session(&self) -> bool {
        self.created_by.is_some()
    }

    /// Whether a customer could pay now.
    pub(super) fn can_be_paid(&self) -> bool {
        matches!(self.standing, Standing::Open | Standing::TurnedAway)
    }

    /// What was taken and not given back, by session.
    pub(super) fn kept(&self) -> Vec<(SessionId, Money)> {
        let ours = self.charged.map(|amount| (SESSION, amount));
        let other = self.other_session_is_charged.then(|| ("cs_other", total()));
        let taken = [ours, other].into_iter().flatten();
        let taken = taken.map(|(session, amount)| (session.parse().expect("a session id"), amount));
        taken
            .filter(|(session, amount)| {
                !self.refunds.iter().any(|made| made.session_id == *session && made.amount == *amount)
            })
            .collect()
    }

    /// The refunds that were made.
    pub(super) fn refunds(&self) -> &[RefundRequest] {
        &self.refunds
    }
}

fn opened() -> StepEnd {
    let session_id = SESSION.parse().expect("a session id");
    StepEnd::SessionOpened(OpenSession { session_id, payment_url: "https://pay.example/cs_1".to_owned() })
}

fn refused(step: PaymentStep) -> StepEnd {
    StepEnd::Refused { step, reason: "not possible".to_owned() }
}
