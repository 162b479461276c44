//! Webhooks to the shop: each event until it is taken, the events of one session in their order.
//!
//! What has to be delivered is in the database; here are only numbers. A session with something to deliver is in
//! exactly one place: waiting for its time, held back by the fault script, or under way.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use common::{
    crash_point,
    ids::SessionId,
    payment::{WebhookSecrets, sandbox::SIGNATURE_HEADER},
    service::tls::install_tls_provider,
    time,
};
use futures_util::future::join_all;
use reqwest::{Client, Url, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    events::{Attempt, Event, Pending},
    faults::{Fault, Faults},
    store::Store,
};

/// Most deliveries at once: enough for a shop that answers slowly, few enough not to run it over.
const MAX_UNDER_WAY: usize = 128;

/// How long the shop may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept: shorter than the shop keeps it (10 s), so that nothing is sent into a
/// connection that is just being closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(8);

/// The first pause after a failure that may pass (no answer, 5xx), and the longest one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The first and the longest pause after a refusal (4xx): it will hardly pass by itself, but the shop may be
/// repaired, or its secret changed.
const PAUSE_AFTER_REFUSAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// How old a signature is that the fault script wants to be stale: well beyond the tolerance of five minutes.
const STALE_AGE: Duration = Duration::from_secs(600);

/// What one delivery needs.
pub(crate) struct Sender {
    client: Client,
    url: Url,
    secrets: WebhookSecrets,
    store: Store,
    faults: Arc<Faults>,
}

/// What became of one attempt.
enum Outcome {
    Delivered,
    TryAgainAfter(Duration),
}

/// The sessions with something to deliver.
pub(crate) struct Deliveries {
    sender: Arc<Sender>,
    /// The numbers of the events of each session, oldest first; never empty.
    queues: HashMap<SessionId, VecDeque<u64>>,
    waiting: BTreeSet<(Instant, SessionId)>,
    held: Vec<SessionId>,
    under_way: JoinSet<(SessionId, Outcome)>,
}

impl Sender {
    /// A sender of signed webhooks to one URL.
    pub(crate) fn new(url: &str, secrets: WebhookSecrets, store: Store, faults: Arc<Faults>) -> anyhow::Result<Self> {
        let parsed = Url::parse(url).with_context(|| format!("read {url:?} as the URL for webhooks"))?;
        install_tls_provider();
        let mut builder = Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        if parsed.scheme() == "http" {
            // Plain text needs no certificates, and some small machines have none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().context("set up the connections for webhooks")?;
        Ok(Self { client, url: parsed, secrets, store, faults })
    }

    /// Try once, and note in the database how it went.
    async fn deliver(&self, number: u64) -> Outcome {
        let event = match self.store.event(number) {
            Ok(Some(event)) => event,
            Ok(None) => return Outcome::Delivered,
            Err(error) => {
                tracing::error!(event = number, %error, "cannot read a webhook event");
                return Outcome::TryAgainAfter(PAUSE.1);
            }
        };
        crash_point!("sandbox.before_delivery");
        let answer = self.send_with_faults(&event).await;
        crash_point!("sandbox.after_delivery");
        let delivered = answer.as_ref().is_ok_and(|status| status.is_success());
        let refused = answer.as_ref().is_ok_and(|status| status.is_client_error());
        let answer = answer.map_or_else(|error| error, |status| status.to_string());
        let attempt_count = event.attempt_count;
        if delivered {
            tracing::info!(event_id = event.event_id, session_id = %event.session_id, "webhook delivered");
        } else if (attempt_count + 1).is_power_of_two() {
            // Not every time: a shop that is down for an hour must not fill the log.
            tracing::warn!(event_id = event.event_id, session_id = %event.session_id, failures = attempt_count + 1,
                answer, "webhook not delivered; it will be sent again");
        }
        let attempt = Attempt { at: time::now(), delivered, answer };
        if let Err(error) = self.store.write(move |books| books.record_attempt(number, attempt)).await {
            tracing::error!(event_id = event.event_id, %error, "cannot note a delivery");
        }
        if delivered { Outcome::Delivered } else { Outcome::TryAgainAfter(pause(attempt_count, refused)) }
    }

    async fn send_with_faults(&self, event: &Event) -> Result<http::StatusCode, String> {
        let fault = |fault| self.faults.for_webhook(fault, &event.client_reference_id);
        if let Some(delay) = fault(Fault::Delay) {
            tokio::time::sleep(Duration::from_millis(delay.millis.unwrap_or(1000))).await;
        }
        let body = self.body_with_faults(event);
        let stale = fault(Fault::Stale).is_some();
        let signed_at = if stale { time::now() - STALE_AGE } else { time::now() };
        let signature = if fault(Fault::WrongSignature).is_some() {
            format!("t={},v1={}", signed_at.as_second(), "0".repeat(64))
        } else {
            self.secrets.sign(body.as_bytes(), signed_at)
        };
        let copies = fault(Fault::Duplicate).map_or(0, |rule| rule.copies.unwrap_or(1));
        let answers = join_all((0..=copies).map(|_| self.send(&body, &signature))).await;
        answers.into_iter().next().unwrap_or_else(|| Err("nothing was sent".into()))
    }

    fn body_with_faults(&self, event: &Event) -> String {
        let fault = |fault| self.faults.for_webhook(fault, &event.client_reference_id).is_some();
        let (amount, currency, session) =
            (fault(Fault::WrongAmount), fault(Fault::WrongCurrency), fault(Fault::WrongSession));
        let Ok(mut body) = serde_json::from_str::<Value>(&event.body) else { return event.body.clone() };
        if !(amount || currency || session) {
            return event.body.clone();
        }
        if amount {
            body["amount"] = json!(body["amount"].as_i64().unwrap_or_default().saturating_add(1));
        }
        if currency {
            body["currency"] = json!(if body["currency"] == "usd" { "eur" } else { "usd" });
        }
        if session {
            body["session_id"] = json!("cs_of_nobody");
        }
        body.to_string()
    }

    async fn send(&self, body: &str, signature: &str) -> Result<http::StatusCode, String> {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE_HEADER, signature)
            .body(body.to_owned());
        let answer = request.send().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        })?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again; what it says does not matter.
        let _ = answer.bytes().await;
        Ok(status)
    }
}

/// How long to wait after this many failures, with jitter so that many events do not come back at once.
fn pause(failures_before: u32, refused: bool) -> Duration {
    let (first, longest) = if refused { PAUSE_AFTER_REFUSAL } else { PAUSE };
    let steps = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest).without_max_times();
    // After this many the longest pause is reached.
    let index = usize::try_from(failures_before.min(16)).unwrap_or_default();
    steps.with_jitter().build().nth(index).unwrap_or(longest)
}

impl Deliveries {
    /// Nothing to deliver yet.
    pub(crate) fn new(sender: Sender) -> Self {
        Self {
            sender: Arc::new(sender),
            queues: HashMap::new(),
            waiting: BTreeSet::new(),
            held: Vec::new(),
            under_way: JoinSet::new(),
        }
    }

    /// Deliver what comes until asked to stop; what is not delivered by then stays in the database.
    pub(crate) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Pending>, stop: CancellationToken) {
        let mut faults_changed = self.sender.faults.changes();
        loop {
            self.start_what_is_due();
            let next_is_due = self.next_is_due();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(pending) = events.recv() => self.enqueue(pending),
                Some(ended) = self.under_way.join_next() => self.ended(ended),
                Ok(()) = faults_changed.changed() => self.release_held(),
                () = sleep_until(next_is_due) => {}
            }
        }
    }

    fn enqueue(&mut self, pending: Pending) {
        let queue = self.queues.entry(pending.session_id.clone()).or_default();
        queue.push_back(pending.number);
        if queue.len() == 1 {
            self.waiting.insert((Instant::now(), pending.session_id));
        }
    }

    /// When the first waiting session is due; `None` when nothing can be started anyway.
    fn next_is_due(&self) -> Option<Instant> {
        if self.under_way.len() >= MAX_UNDER_WAY {
            return None;
        }
        self.waiting.first().map(|(due, _)| *due)
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        while self.next_is_due().is_some_and(|due| due <= now) {
            let Some((_, session_id)) = self.waiting.pop_first() else { return };
            let Some(number) = self.queues.get(&session_id).and_then(|queue| queue.front().copied()) else { continue };
            if self.is_held(&session_id) {
                self.held.push(session_id);
                continue;
            }
            let sender = self.sender.clone();
            self.under_way.spawn(async move {
                let outcome = sender.deliver(number).await;
                (session_id, outcome)
            });
        }
    }

    fn is_held(&self, session_id: &SessionId) -> bool {
        let faults = &self.sender.faults;
        faults.are_enabled()
            && self
                .sender
                .store
                .session(session_id.as_str())
                .is_ok_and(|session| faults.hold_webhook(&session.order.client_reference_id))
    }

    fn release_held(&mut self) {
        let now = Instant::now();
        self.waiting.extend(self.held.drain(..).map(|session_id| (now, session_id)));
    }

    fn ended(&mut self, ended: Result<(SessionId, Outcome), tokio::task::JoinError>) {
        let (session_id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // The event is still in the database: the next start delivers it.
                tracing::error!(%error, "a delivery has broken off");
                return;
            }
        };
        match outcome {
            Outcome::TryAgainAfter(pause) => {
                self.waiting.insert((Instant::now() + pause, session_id));
            }
            Outcome::Delivered => {
                let Some(queue) = self.queues.get_mut(&session_id) else { return };
                queue.pop_front();
                if queue.is_empty() {
                    self.queues.remove(&session_id);
                } else {
                    self.waiting.insert((Instant::now(), session_id));
                }
            }
        }
    }
}

/// Sleep until a time, or for ever without one.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_refusals_wait_longer() {
        for failures in 0..40 {
            let (soon, later) = (pause(failures, false), pause(failures, true));
            // Jitter adds up to once the pause itself.
            assert!(soon >= PAUSE.0 && soon <= PAUSE.1 * 2, "{failures}: {soon:?}");
            assert!(later >= PAUSE_AFTER_REFUSAL.0 && later <= PAUSE_AFTER_REFUSAL.1 * 2, "{failures}: {later:?}");
        }
        assert!(pause(10, false) >= PAUSE.1);
    }
}
