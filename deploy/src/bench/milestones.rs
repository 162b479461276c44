//! When each checkout got where: told by the live subjects of the histories, after each record is stored.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use async_nats::Client;
use common::{
    contracts::checkout::CheckoutEvent,
    headers,
    ids::{SessionId, WorkflowId, WorkflowKind, WorkflowRef},
    record::Record,
    subject::Subject,
};
use futures_util::StreamExt as _;
use tokio::{sync::mpsc, time::Instant};

use super::stage::Stage;

/// Where the time of a checkout goes: each stage ends with a record.
pub(super) const STAGES: [&str; 5] =
    ["start recorded", "stock reserved", "session opened", "payment recorded", "sold and settled"];

/// The statuses that the records of those stages lead to.
const STATUSES: [&str; 5] = ["reserving", "opening_payment", "awaiting_payment", "settling", "paid"];

/// When each stage ended.
pub(super) type Reached = [Option<Instant>; STAGES.len()];

/// What a waiting customer is told.
#[derive(Debug)]
pub(super) enum Told {
    Session(SessionId),
    Settled,
    Otherwise(String),
}

#[derive(Debug, Default)]
struct Followed {
    reached: Reached,
    teller: Option<mpsc::UnboundedSender<Told>>,
}

/// What is known of the checkouts that are in flight; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Milestones {
    client: Client,
    followed: Arc<Mutex<HashMap<WorkflowId, Followed>>>,
}

impl Milestones {
    /// Hear of nobody yet.
    pub(super) fn deaf(stage: &Stage) -> Self {
        Self { client: stage.nats.client.clone(), followed: Arc::default() }
    }

    /// Begin to hear of everybody.
    pub(super) async fn listen(stage: &Stage) -> anyhow::Result<Self> {
        let milestones = Self::deaf(stage);
        let mut news = stage.nats.client.subscribe("live.history.>").await.context("listen to the histories")?;
        stage.nats.client.flush().await.context("listen to the histories")?;
        let told = milestones.clone();
        tokio::spawn(async move {
            while let Some(message) = news.next().await {
                told.note(&message);
            }
        });
        Ok(milestones)
    }

    /// Hear of one checkout that is about to start, until it is settled. For those who need not hear of everybody, which took a
    /// sixth of the driver's processor time (`http`, 256 in flight).
    pub(super) async fn hear_of(&self, id: WorkflowId) -> anyhow::Result<()> {
        let subject = Subject::LiveHistory(WorkflowRef { kind: WorkflowKind::Checkout, id }).to_string();
        let mut news = self.client.subscribe(subject).await.context("listen to a history")?;
        news.unsubscribe_after(STAGES.len() as u64).await.context("listen to a history")?;
        let told = self.clone();
        tokio::spawn(async move {
            while let Some(message) = news.next().await {
                told.note(&message);
            }
        });
        Ok(())
    }

    /// Be told what becomes of a checkout that is about to start.
    pub(super) fn follow(&self, id: WorkflowId) -> mpsc::UnboundedReceiver<Told> {
        let (teller, told) = mpsc::unbounded_channel();
        self.lock().insert(id, Followed { teller: Some(teller), ..Followed::default() });
        told
    }

    /// When a checkout got where; it is not followed any more.
    pub(super) fn take(&self, id: WorkflowId) -> Reached {
        self.lock().remove(&id).unwrap_or_default().reached
    }

    fn note(&self, message: &async_nats::Message) {
        let now = Instant::now();
        let Ok(Subject::LiveHistory(workflow)) = message.subject.parse() else { return };
        let Some(status) = message.headers.as_ref().and_then(|all| all.get(headers::STATUS)) else { return };
        let mut all = self.lock();
        let followed = all.entry(workflow.id).or_default();
        let place = STATUSES.iter().position(|known| *known == status.as_str());
        if let Some(reached) = place.and_then(|place| followed.reached.get_mut(place)) {
            *reached = Some(now);
        }
        let Some(teller) = &followed.teller else { return };
        let told = match status.as_str() {
            "reserving" | "opening_payment" | "settling" => return,
            "awaiting_payment" => match session_of(&message.payload) {
                Some(session) => Told::Session(session),
                None => return,
            },
            "paid" => Told::Settled,
            other => Told::Otherwise(other.to_owned()),
        };
        // Nobody waits any more when this fails.
        let _ = teller.send(told);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkflowId, Followed>> {
        // Every change is one call of the map.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn session_of(payload: &[u8]) -> Option<SessionId> {
    let record: Record<CheckoutEvent> = Record::from_bytes(payload).ok()?;
    record.events.into_iter().find_map(|event| match event {
        CheckoutEvent::PaymentSessionOpened { session_id, .. } => Some(session_id),
        _ => None,
    })
}
