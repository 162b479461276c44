//! Without HTTP: the driver stores starts and webhooks itself, as a gateway would, and hears of what has happened from the
//! histories' live subjects.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_nats::HeaderMap;
use bytes::Bytes;
use common::{
    contracts::{
        checkout::{CheckoutCommand, CheckoutEvent, Line, PaymentOutcome, RequestFingerprint},
        webhook::WebhookEvent,
    },
    headers,
    ids::{ProviderEventId, SessionId, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    nats::{Journal, Outgoing},
    record::Record,
    streams::StreamName,
    subject::Subject,
};
use futures_util::StreamExt as _;
use tokio::{sync::mpsc, time::Instant};

use super::{
    case::Case,
    flight::{Flights, Window},
    provider,
    report::Run,
    stage::Stage,
};

/// How long a publish is tried.
const STORING: Duration = Duration::from_secs(15);

/// Longer than any checkout takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Drive checkouts and measure.
pub(super) async fn drive(stage: &Stage, case: &Case, warm_up: Duration, measure: Duration) -> anyhow::Result<Run> {
    let driver = Arc::new(Driver::new(stage).await?);
    let window = Window::after(warm_up, measure);
    super::report::measured(stage, window, case.in_flight, move |flights| {
        let driver = Arc::clone(&driver);
        async move { driver.fly(&flights).await }
    })
    .await
}

/// What a waiting customer is told.
enum Told {
    Session(SessionId),
    Settled,
    Otherwise(String),
}

struct Driver {
    commands: Journal,
    webhooks: Journal,
    lines: Vec<Line>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
}

type Waiting = Mutex<HashMap<WorkflowId, mpsc::UnboundedSender<Told>>>;

impl Driver {
    async fn new(stage: &Stage) -> anyhow::Result<Self> {
        let waiting = Arc::new(Waiting::default());
        let news = stage.nats.client.subscribe("live.history.checkout.*").await.context("listen to the histories")?;
        stage.nats.client.flush().await.context("listen to the histories")?;
        tokio::spawn(listen(news, Arc::clone(&waiting)));
        let journal = |stream| Journal::start(stage.nats.clone(), stream, STORING);
        let lines = stage.articles.iter().map(|article| Line {
            sku: article.product.sku.clone(),
            name: article.product.name.clone(),
            quantity: 1,
            unit_price: article.product.price,
        });
        Ok(Self {
            commands: journal(StreamName::Commands),
            webhooks: journal(StreamName::Webhooks),
            lines: lines.collect(),
            next: AtomicU64::new(0),
            waiting,
        })
    }

    /// One checkout from its start to its end.
    async fn fly(&self, flights: &Flights) -> anyhow::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(number)? % self.lines.len();
        let line = &self.lines[place];
        let id = WorkflowId::random();
        let (teller, mut told) = mpsc::unbounded_channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, teller);
        let started = Instant::now();
        self.start(id, line).await?;
        let session = match heard(&mut told).await? {
            Told::Session(session) => session,
            Told::Settled => bail!("checkout {id} is paid before it had a session"),
            Told::Otherwise(status) => bail!("checkout {id} was to get a session, but it is {status}"),
        };
        let got_session = Instant::now();
        self.pay(id, session, line.unit_price).await?;
        match heard(&mut told).await? {
            Told::Settled => flights.settled(started, got_session),
            Told::Session(_) => bail!("checkout {id} got a second session"),
            Told::Otherwise(status) => bail!("checkout {id} was to be paid, but it is {status}"),
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }

    async fn start(&self, id: WorkflowId, line: &Line) -> anyhow::Result<()> {
        let command = CheckoutCommand::Start {
            lines: vec![line.clone()],
            total: line.unit_price,
            fingerprint: RequestFingerprint("bench".into()),
        };
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, "start");
        headers.insert(headers::SENDER, "bench");
        let outgoing = Outgoing {
            subject: Subject::Command(WorkflowRef { kind: WorkflowKind::Checkout, id }),
            headers,
            payload: serde_json::to_vec(&command)?.into(),
            expected: None,
        };
        self.commands.append(outgoing).await.context("store a start")?;
        Ok(())
    }

    async fn pay(&self, id: WorkflowId, session_id: SessionId, amount: Money) -> anyhow::Result<()> {
        let event_id: ProviderEventId = format!("evt_{}", id.as_uuid().simple()).parse()?;
        let event = WebhookEvent {
            id: event_id.clone(),
            event_type: "payment_session.paid".into(),
            session_id: Some(session_id),
            reference: Some(id),
            outcome: Some(PaymentOutcome::Paid),
            amount: Some(amount),
        };
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, "payment_session.paid");
        headers.insert(headers::SENDER, "bench");
        let outgoing = Outgoing {
            subject: Subject::Webhook(provider::name(), event_id),
            headers,
            payload: serde_json::to_vec(&event)?.into(),
            expected: Some(0),
        };
        self.webhooks.append(outgoing).await.context("store a webhook")?;
        Ok(())
    }
}

async fn heard(told: &mut mpsc::UnboundedReceiver<Told>) -> anyhow::Result<Told> {
    tokio::time::timeout(PATIENCE, told.recv())
        .await
        .context("a checkout has not moved for a minute")?
        .context("nobody tells")
}

/// Tell whoever waits what has happened.
async fn listen(mut news: async_nats::Subscriber, waiting: Arc<Waiting>) {
    while let Some(message) = news.next().await {
        let Some((id, told)) = read(&message) else { continue };
        if let Some(teller) = waiting.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            // Nobody waits any more when this fails.
            let _ = teller.send(told);
        }
    }
}

fn read(message: &async_nats::Message) -> Option<(WorkflowId, Told)> {
    let Ok(Subject::LiveHistory(workflow)) = message.subject.parse() else { return None };
    let status = message.headers.as_ref()?.get(headers::STATUS)?.as_str();
    let told = match status {
        "reserving" | "opening_payment" | "settling" => return None,
        "awaiting_payment" => Told::Session(session_of(&message.payload)?),
        "paid" => Told::Settled,
        other => Told::Otherwise(other.to_owned()),
    };
    Some((workflow.id, told))
}

fn session_of(payload: &Bytes) -> Option<SessionId> {
    let record: Record<CheckoutEvent> = serde_json::from_slice(payload).ok()?;
    record.events.into_iter().find_map(|event| match event {
        CheckoutEvent::PaymentSessionOpened { session_id, .. } => Some(session_id),
        _ => None,
    })
}
