//! Waiting, once the faults are over, until everything has come to its end.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use async_nats::jetstream::consumer::pull;
use common::{
    headers,
    ids::WorkflowRef,
    nats::read::stretch,
    streams::{ConsumerName, StreamName},
    subject::Subject,
};
use payment_sandbox::session::PaymentStatus;
use tokio::time::{Instant, sleep};

use super::{
    facts::{events, sessions},
    progress::Progress,
    stage::Stage,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Messages per request.
const BATCH: usize = 500;
/// Names in one sentence.
const MOST_NAMED: usize = 20;

/// Wait until nothing is under way; what still is when the time is over, in words.
pub(super) async fn settle(stage: &Stage, patience: Duration, progress: &Progress) -> Vec<String> {
    let started = Instant::now();
    let mut look = Look::default();
    loop {
        let under_way = match look.again(stage).await {
            Ok(under_way) => under_way,
            Err(error) => vec![format!("it could not be seen: {error:#}")],
        };
        if under_way.is_empty() || started.elapsed() > patience {
            return under_way;
        }
        progress.settling(&under_way[0]);
        sleep(PAUSE).await;
    }
}

/// What was seen so far.
#[derive(Default)]
struct Look {
    /// The sequence to be read next in each part of the histories.
    next: BTreeMap<&'static str, u64>,
    /// Workflows whose newest record says that something is owed, with their status.
    open: BTreeMap<WorkflowRef, String>,
    /// Sessions whose webhooks have all been taken.
    told: HashSet<String>,
}

impl Look {
    async fn again(&mut self, stage: &Stage) -> anyhow::Result<Vec<String>> {
        let mut under_way = Vec::new();
        self.read_histories(stage).await?;
        if !self.open.is_empty() {
            let named: Vec<String> =
                self.open.iter().take(MOST_NAMED).map(|(workflow, status)| format!("{workflow} ({status})")).collect();
            under_way.push(format!("{} workflows are open, among them {}", self.open.len(), named.join(", ")));
        }
        for consumer in stage.nats.shards.all_consumers(&ConsumerName::ALL) {
            let stream = consumer.stream().as_str();
            let found = stage.nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(consumer.as_str(), stream);
            let found = found.await?;
            let info = found.cached_info();
            let waiting = info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
            if waiting > 0 {
                under_way.push(format!("{waiting} messages of {stream} wait or are being worked on"));
            }
        }
        // Many calls, so only when the rest is quiet.
        if under_way.is_empty() {
            let untold = self.untold(stage).await?;
            if untold > 0 {
                under_way.push(format!("the provider has {untold} sessions with webhooks to deliver"));
            }
        }
        Ok(under_way)
    }

    async fn read_histories(&mut self, stage: &Stage) -> anyhow::Result<()> {
        for part in stage.nats.shards.streams(StreamName::History) {
            let next = self.next.entry(part.as_str()).or_insert(1);
            let mut more = true;
            while more {
                let batch = stretch(&stage.nats, part, *next, BATCH, "history.>").await?;
                for stored in &batch.messages {
                    *next = stored.sequence + 1;
                    let Ok(Subject::History(workflow)) = stored.subject.parse() else { continue };
                    let text = |name: async_nats::HeaderName| {
                        stored.headers.get(name).map(ToString::to_string).unwrap_or_default()
                    };
                    if text(headers::NEXT) == "done" {
                        self.open.remove(&workflow);
                    } else {
                        self.open.insert(workflow, text(headers::STATUS));
                    }
                }
                more = batch.more;
            }
        }
        Ok(())
    }

    async fn untold(&mut self, stage: &Stage) -> anyhow::Result<u64> {
        let (mut untold, url) = (0, stage.sandbox_url());
        for session in sessions(&stage.http, &url).await? {
            let id = session.session_id.to_string();
            if session.payment_status == PaymentStatus::Unpaid || self.told.contains(&id) {
                continue;
            }
            let all_taken = events(&stage.http, &url, &session).await?.iter().all(|event| event.delivered_at.is_some());
            if all_taken {
                self.told.insert(id);
            } else {
                untold += 1;
            }
        }
        Ok(untold)
    }
}
