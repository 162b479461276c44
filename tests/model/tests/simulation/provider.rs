//! The payment provider: one session per key, one refund per key; it can be down, act without being heard, refuse, and take
//! money that it should not take any more.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use common::{
    contracts::{
        checkout::{PaymentNotice, PaymentOutcome},
        webhook::WebhookEvent,
    },
    ids::{ProviderName, SessionId, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    payment::{
        CloseSession, Closed, CreateSession, OpenSession, PaymentProvider, ProviderError, RefundRequest, RefundState,
        SessionState, WebhookRefused,
    },
    time::Timestamp,
};
use http::HeaderMap;
use uuid::Uuid;

use crate::{
    clock,
    messages::Body,
    server::{Inner, Server, Without, pause},
};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was closed or refused before it was created: it never will be.
    NeverWillBe,
    /// It can be paid.
    Open,
    /// Nobody can pay any more.
    Closed,
    /// It is paid.
    Paid,
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its name.
    pub name: SessionId,
    /// Whose.
    pub reference: WorkflowId,
    /// What it is to bring.
    pub amount: Money,
    /// Where it stands.
    pub standing: Standing,
    /// What was taken.
    pub charged: Option<Money>,
    /// No checkout has asked for it.
    pub is_foreign: bool,
}

/// The provider's books.
#[derive(Debug, Default)]
pub struct Books {
    /// Every session, by its key.
    pub sessions: BTreeMap<Uuid, Session>,
    /// Every refund that was made.
    pub refunds: Vec<RefundRequest>,
    keyless: u128,
    /// Refunds that were refused: the same key gets the same answer for ever.
    refused_refunds: BTreeSet<Uuid>,
}

impl Books {
    /// What was taken for a checkout, and how much of it went back.
    pub fn taken_and_returned(&self, checkout: WorkflowId) -> (i64, i64) {
        let is_its = |session: &&Session| session.reference == checkout && !session.is_foreign;
        let its = self.sessions.values().filter(is_its);
        let taken = its.filter_map(|session| session.charged).map(|money| money.amount).sum();
        let is_of_its = |refund: &&RefundRequest| {
            self.sessions.values().filter(is_its).any(|session| session.name == refund.session_id)
        };
        let returned = self.refunds.iter().filter(is_of_its);
        (taken, returned.map(|refund| refund.amount.amount).sum())
    }

    /// How many sessions of a checkout were paid.
    pub fn charges(&self, checkout: WorkflowId) -> usize {
        let is_charged =
            |session: &&Session| session.reference == checkout && session.charged.is_some() && !session.is_foreign;
        self.sessions.values().filter(is_charged).count()
    }

    /// Whether somebody could pay for a checkout now.
    pub fn can_be_paid(&self, checkout: WorkflowId) -> bool {
        self.sessions.values().any(|session| session.reference == checkout && session.standing == Standing::Open)
    }

    fn create(&mut self, key: Uuid, request: &CreateSession, standing: Standing) -> &mut Session {
        let name: SessionId = format!("cs_{}", self.sessions.len()).parse().expect("a session id");
        let (reference, amount) = (request.reference, request.amount);
        self.sessions.entry(key).or_insert(Session {
            name,
            reference,
            amount,
            standing,
            charged: None,
            is_foreign: false,
        })
    }

    /// Somebody pays for a session that no checkout has asked for, but that names one.
    fn charge_foreign(&mut self, reference: WorkflowId, amount: Money) -> Session {
        self.keyless += 1;
        let name: SessionId = format!("cs_foreign_{}", self.keyless).parse().expect("a session id");
        let (standing, charged) = (Standing::Paid, Some(amount));
        let session = Session { name, reference, amount, standing, charged, is_foreign: true };
        self.sessions.insert(Uuid::from_u128(self.keyless), session.clone());
        session
    }

    /// Money for sessions that are not ours, which nobody gave back.
    pub fn foreign_money_is_kept(&self) -> bool {
        let is_returned = |name: &SessionId| self.refunds.iter().any(|refund| refund.session_id == *name);
        self.sessions.values().any(|session| session.is_foreign && !is_returned(&session.name))
    }
}

fn unheard<T>() -> Result<T, ProviderError> {
    Err(ProviderError::Unknown { reason: "connection reset".to_owned() })
}

/// The provider as a worker reaches it.
#[derive(Debug, Clone)]
pub struct Provider(pub Server);

impl Provider {
    /// It may not be reached, or act and not be heard.
    async fn call<T: Send>(
        &self,
        act: impl FnOnce(&mut Inner) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        pause().await;
        let answer = {
            let mut world = self.0.lock();
            let (faults, thrown) = (world.faults, world.chance.below(100));
            let unanswered = if faults { world.unanswered_percent } else { 0 };
            if thrown < unanswered / 2 {
                return unheard();
            }
            let answer = act(&mut world);
            if thrown < unanswered { unheard() } else { answer }
        };
        pause().await;
        answer
    }
}

fn open(world: &mut Inner, request: &CreateSession) -> Result<OpenSession, ProviderError> {
    let refused = || Err(ProviderError::Refused { reason: "not possible".to_owned() });
    let mut key = request.idempotency_key;
    if world.without == Some(Without::SessionKey) {
        world.provider.keyless += 1;
        key = Uuid::from_u128(world.provider.keyless);
    }
    let is_new = !world.provider.sessions.contains_key(&key);
    let refuses = is_new && world.faults && world.chance.percent(5);
    let standing = if refuses { Standing::NeverWillBe } else { Standing::Open };
    let session = world.provider.create(key, request, standing).clone();
    if is_new {
        world.check_that_goods_are_held(request.reference);
    }
    world.tell(|| format!("provider: {} of {} is {:?}", session.name, session.reference, session.standing));
    match session.standing {
        Standing::NeverWillBe => refused(),
        Standing::Open | Standing::Closed | Standing::Paid => {
            Ok(OpenSession { payment_url: format!("https://pay.example/{}", session.name), session_id: session.name })
        }
    }
}

fn close(world: &mut Inner, request: &CloseSession) -> Result<Closed, ProviderError> {
    if world.without == Some(Without::CloseBeforeRelease) {
        return Ok(Closed::NobodyCanPay);
    }
    let by_name = |session: &&mut Session| request.session_id.as_ref() == Some(&session.name);
    let key = request.created_by.idempotency_key;
    if !world.provider.sessions.values_mut().any(|session| by_name(&session)) {
        world.provider.create(key, &request.created_by, Standing::NeverWillBe);
    }
    let books = &mut world.provider;
    let found = match &request.session_id {
        Some(_) => books.sessions.values_mut().find(by_name),
        None => books.sessions.get_mut(&key),
    };
    let Some(session) = found else { return Err(ProviderError::Refused { reason: "no such session".to_owned() }) };
    if session.standing == Standing::Open {
        session.standing = Standing::Closed;
    }
    let closed = match session.charged {
        Some(amount) => Closed::AlreadyPaid(PaymentNotice {
            event_id: None,
            session_id: session.name.clone(),
            outcome: PaymentOutcome::Paid,
            amount,
        }),
        None => Closed::NobodyCanPay,
    };
    let words = format!("provider: {} closed: {closed:?}", session.name);
    world.tell(|| words);
    Ok(closed)
}

fn give_back(world: &mut Inner, request: &RefundRequest) -> Result<RefundState, ProviderError> {
    let is_new = !world.provider.refunds.iter().any(|made| made.idempotency_key == request.idempotency_key);
    let is_refused = world.provider.refused_refunds.contains(&request.idempotency_key);
    if is_refused || is_new && world.faults && world.chance.percent(10) {
        world.provider.refused_refunds.insert(request.idempotency_key);
        return Err(ProviderError::Refused { reason: "the account is empty".to_owned() });
    }
    if is_new || world.without == Some(Without::RefundKey) {
        world.provider.refunds.push(request.clone());
        world.check_that_a_refund_is_owed(request.reference);
        world.tell(|| format!("provider: {} goes back to {}", request.amount, request.reference));
        world.check_money(request.reference);
    }
    Ok(RefundState::Refunded { refund_id: "re_1".to_owned() })
}

impl Inner {
    /// Somebody pays for another session that names a checkout.
    pub fn somebody_pays_a_foreign_session(&mut self) {
        let customer = self.chance.below(self.starts.len());
        let checkout = self.starts[customer].0;
        let session = self.provider.charge_foreign(checkout, Money::eur(500));
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: checkout };
        let event_id = format!("evt_{}", session.name).parse().ok();
        let (session_id, amount) = (session.name, session.amount);
        let notice = PaymentNotice { event_id, session_id, outcome: PaymentOutcome::Paid, amount };
        self.for_workers.put(Body::Notice(workflow, notice), clock::now());
    }

    /// The customer does something at the provider, which tells us of it, perhaps.
    pub fn customer_acts(&mut self) {
        let which = self.chance.below(self.provider.sessions.len());
        let (is_late, is_wrong, thrown) = (self.chance.percent(10), self.chance.percent(5), self.chance.below(100));
        let Some(session) = self.provider.sessions.values_mut().nth(which) else { return };
        let is_payable = session.standing == Standing::Open || session.standing == Standing::Closed && is_late;
        let outcome = match thrown {
            _ if !is_payable => return,
            0..60 => PaymentOutcome::Paid,
            60..80 => PaymentOutcome::Declined,
            _ => PaymentOutcome::Cancelled,
        };
        let amount = if is_wrong { Money { amount: 1, ..session.amount } } else { session.amount };
        if outcome == PaymentOutcome::Paid {
            session.standing = Standing::Paid;
            session.charged = Some(amount);
        }
        let (name, checkout) = (session.name.clone(), session.reference);
        self.tell(|| format!("customer: {outcome:?} {amount} for {name} of {checkout}"));
        self.check_money(checkout);
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: checkout };
        let event_id = format!("evt_{which}_{thrown}").parse().ok();
        let notice = PaymentNotice { event_id, session_id: name, outcome, amount };
        // What the provider never tells is found when its session is closed; money that came after that is always told.
        if is_late || self.chance.percent(90) {
            self.for_workers.put(Body::Notice(workflow, notice), clock::now());
        }
    }
}

#[async_trait]
impl PaymentProvider for Provider {
    fn name(&self) -> ProviderName {
        "sandbox".parse().expect("a name")
    }

    async fn create_session(&self, request: &CreateSession) -> Result<OpenSession, ProviderError> {
        self.call(|world| open(world, request)).await
    }

    async fn look_up(&self, _: &SessionId) -> Result<SessionState, ProviderError> {
        unheard()
    }

    async fn close_session(&self, request: &CloseSession) -> Result<Closed, ProviderError> {
        self.call(|world| close(world, request)).await
    }

    async fn refund(&self, request: &RefundRequest) -> Result<RefundState, ProviderError> {
        self.call(|world| give_back(world, request)).await
    }

    fn verify_webhook(&self, _: &HeaderMap, _: &[u8], _: Timestamp) -> Result<WebhookEvent, WebhookRefused> {
        Err(WebhookRefused::NoSignature)
    }

    fn read_webhook(&self, _: &[u8]) -> Result<WebhookEvent, WebhookRefused> {
        Err(WebhookRefused::NotAnEvent { reason: "the simulation tells notices as they are read".to_owned() })
    }
}
