//! Without HTTP: the driver stores starts and webhooks itself, as a gateway would, and hears of what has happened from the
//! histories' live subjects.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_nats::HeaderMap;
use common::{
    contracts::{
        checkout::{CheckoutCommand, Line, PaymentOutcome, RequestFingerprint},
        webhook::WebhookEvent,
    },
    headers,
    ids::{ProviderEventId, SessionId, WorkflowId, WorkflowKind, WorkflowRef},
    money::Money,
    nats::{Journal, Outgoing},
    streams::StreamName,
    subject::Subject,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use tokio::{sync::mpsc, time::Instant};

use super::{
    case::Case,
    flight::{Flight, Flights},
    milestones::{Milestones, Told},
    provider,
    report::{Measuring, Run},
    stage::Stage,
};

/// How long a publish is tried.
const STORING: Duration = Duration::from_secs(15);

/// Checkouts that are started or paid at a time where many are to wait.
pub(super) const AT_A_TIME: usize = 1_000;

/// Longer than any checkout takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Drive checkouts and measure.
pub(super) async fn drive(stage: &Stage, case: &Case, measuring: Measuring) -> anyhow::Result<Run> {
    let driver = Arc::new(Driver::new(stage).await?);
    super::report::measured(stage, case.load, measuring, move |flights, started| {
        let driver = Arc::clone(&driver);
        async move { driver.fly(&flights, started).await }
    })
    .await
}

/// Somebody who starts checkouts and pays them.
pub(super) struct Driver {
    commands: Journal,
    webhooks: Journal,
    lines: Vec<Line>,
    next: AtomicU64,
    milestones: Milestones,
}

/// A checkout that waits for its payment.
pub(super) struct WaitingCheckout {
    pub(super) id: WorkflowId,
    session: SessionId,
    price: Money,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Driver {
    pub(super) async fn new(stage: &Stage) -> anyhow::Result<Self> {
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
            milestones: Milestones::listen(stage).await?,
        })
    }

    /// One checkout from its start to its end.
    async fn fly(&self, flights: &Flights, started: Instant) -> anyhow::Result<()> {
        let checkout = self.until_waiting().await?;
        let (id, got_session) = (checkout.id, Instant::now());
        self.pay(&checkout).await?;
        Self::until_paid(checkout).await?;
        flights.settled(&Flight { started, got_session, reached: self.milestones.take(id) });
        Ok(())
    }

    /// Start a checkout and wait until it can be paid.
    pub(super) async fn until_waiting(&self) -> anyhow::Result<WaitingCheckout> {
        self.begin().await?.has_session().await
    }

    /// Start so many checkouts, and wait until all of them can be paid.
    pub(super) async fn until_all_wait(&self, count: u32, bar: &ProgressBar) -> anyhow::Result<Vec<WaitingCheckout>> {
        let begin = async |_| {
            let waiting = self.until_waiting().await;
            bar.inc(1);
            waiting
        };
        stream::iter(0..count).map(begin).buffer_unordered(AT_A_TIME).try_collect().await
    }

    /// Start a checkout; it has no session yet.
    pub(super) async fn begin(&self) -> anyhow::Result<BegunCheckout> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(number)? % self.lines.len();
        let line = &self.lines[place];
        let id = WorkflowId::random();
        let told = self.milestones.follow(id);
        self.start(id, line).await?;
        Ok(BegunCheckout { id, price: line.unit_price, told })
    }

    /// Wait until a paid checkout is settled.
    pub(super) async fn until_paid(mut checkout: WaitingCheckout) -> anyhow::Result<()> {
        let id = checkout.id;
        match heard(&mut checkout.told).await.with_context(|| format!("checkout {id} was to be paid"))? {
            Told::Settled => Ok(()),
            Told::Session(_) => bail!("checkout {id} got a second session"),
            Told::Otherwise(status) => bail!("checkout {id} was to be paid, but it is {status}"),
        }
    }

    /// When a checkout got where; it is not followed any more.
    pub(super) fn forget(&self, id: WorkflowId) {
        self.milestones.take(id);
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

    /// The provider says that it is paid.
    pub(super) async fn pay(&self, checkout: &WaitingCheckout) -> anyhow::Result<()> {
        let (id, session_id, amount) = (checkout.id, checkout.session.clone(), checkout.price);
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

/// A checkout that has begun.
pub(super) struct BegunCheckout {
    pub(super) id: WorkflowId,
    price: Money,
    told: mpsc::UnboundedReceiver<Told>,
}

impl BegunCheckout {
    /// Wait until it can be paid.
    pub(super) async fn has_session(mut self) -> anyhow::Result<WaitingCheckout> {
        let id = self.id;
        match heard(&mut self.told).await.with_context(|| format!("checkout {id} was to get a session"))? {
            Told::Session(session) => Ok(WaitingCheckout { id, session, price: self.price, told: self.told }),
            Told::Settled => bail!("checkout {id} is paid before it had a session"),
            Told::Otherwise(status) => bail!("checkout {id} was to get a session, but it is {status}"),
        }
    }
}

async fn heard(told: &mut mpsc::UnboundedReceiver<Told>) -> anyhow::Result<Told> {
    tokio::time::timeout(PATIENCE, told.recv()).await.context("it has not moved for a minute")?.context("nobody tells")
}
