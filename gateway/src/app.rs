//! What all routes share: connections, what is known of the shop, and the few things that all of them do.

use std::{sync::Arc, time::Duration};

use async_nats::HeaderMap as NatsHeaders;
use bytes::Bytes;
use common::{
    contracts::TypeName,
    headers,
    ids::{OperatorName, ProviderName, WorkflowId, WorkflowKind, WorkflowRef},
    nats::{
        AppendError, Journal, Nats, Outgoing, check,
        permissions::{Needs, check_in},
    },
    payment::PaymentProvider,
    service::http::{ClientAddress, Problem},
    streams::StreamName,
    subject::Subject,
};
use http::{HeaderMap, header};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    catalogue::{Article, Catalogue},
    checkout_view::CheckoutView,
    config::Config,
    follow::{self, FollowError, Follower},
    limiter::Limiter,
    live::Live,
    operators::Operators,
    refund_view::RefundView,
    room::Room,
    storing::Storing,
};

/// The streams that the gateway writes to or reads.
const STREAMS: [StreamName; 6] = [
    StreamName::Commands,
    StreamName::History,
    StreamName::Webhooks,
    StreamName::InventoryCommands,
    StreamName::Catalogue,
    StreamName::Stock,
];

/// How long a journal tries to store one message: longer than an unclean change of a stream's leader (6 s).
const APPEND_PATIENCE: Duration = Duration::from_secs(10);

/// How long the server may take to say whether it is ready.
const READY_PATIENCE: Duration = Duration::from_secs(2);

/// The gateway's shared state.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) nats: Nats,
    pub(crate) provider: Arc<dyn PaymentProvider>,
    pub(crate) catalogue: Catalogue,
    /// Cancelled when the gateway stops: waits and streams end then.
    pub(crate) stop: CancellationToken,
    live: Live,
    room: Room,
    storing: Storing,
    commands: Journal,
    inventory_commands: Journal,
    webhooks: Journal,
    limiter: Limiter,
    operators: Operators,
    waiting: Arc<Semaphore>,
}

/// What a route knows of a request besides its path and its body.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The request's headers.
    pub(crate) headers: HeaderMap,
    /// Who asks; unknown only where no server stands in between (tests).
    pub(crate) client: Option<ClientAddress>,
    /// What stands behind the `?`, as it is.
    pub(crate) query: String,
}

impl App {
    /// Connect everything; nothing is served yet.
    ///
    /// # Errors
    /// When a stream is missing or not as it must be, or a setting cannot be used.
    pub(crate) async fn start(
        config: Config,
        nats: Nats,
        provider: Arc<dyn PaymentProvider>,
        stop: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let nats = check_in(nats, "gateway", &needs(&provider.name())).await?;
        // Listening comes before the check: what it asks proves that the server knows of it.
        let live = Live::start(nats.clone(), stop.clone()).await?;
        check::check(&nats, &STREAMS, config.allow_unsynced).await?;
        let catalogue = Catalogue::start(&nats, &stop);
        let app = Arc::new(Self::of_parts(config, nats, provider, live, catalogue, stop.clone())?);
        app.room.look(&app.nats, &app.live).await;
        let quiet = app.clone();
        let quiet_stop = stop.clone();
        tokio::spawn(async move { quiet.limiter.forget_quiet_clients(quiet_stop).await });
        tokio::spawn(app.room.clone().keep_looking(app.nats.clone(), app.live.clone(), stop));
        Ok(app)
    }

    /// Put everything together; nothing is asked of the server.
    pub(crate) fn of_parts(
        config: Config,
        nats: Nats,
        provider: Arc<dyn PaymentProvider>,
        live: Live,
        catalogue: Catalogue,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let journal = |stream| Journal::start(nats.clone(), stream, APPEND_PATIENCE);
        Ok(Self {
            provider,
            catalogue,
            live,
            room: Room::default(),
            storing: Storing::default(),
            commands: journal(StreamName::Commands),
            inventory_commands: journal(StreamName::InventoryCommands),
            webhooks: journal(StreamName::Webhooks),
            limiter: Limiter::new(config.rate_limit),
            operators: config.operators()?,
            waiting: Arc::new(Semaphore::new(config.max_waiting.clamp(1, Semaphore::MAX_PERMITS))),
            nats,
            config,
            stop,
        })
    }

    /// Count the request of a client, which may have asked too much already.
    pub(crate) fn admit(&self, asked: &Asked) -> Result<(), Problem> {
        self.limiter.check(asked.client)
    }

    /// A place among those who wait for a payment link.
    pub(crate) fn place_to_wait(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.waiting.clone().try_acquire_owned().map_err(|_| {
            metrics::counter!("gateway_shed_total").increment(1);
            Problem::unavailable("Too many checkouts are being started; try again in a moment.")
        })
    }

    /// Refuse at once while there is no connection, instead of letting a client wait for it.
    pub(crate) fn must_be_connected(&self) -> Result<(), Problem> {
        if self.nats.is_connected() { Ok(()) } else { Err(not_now()) }
    }

    /// Refuse new checkouts at once while what they need cannot be stored, or while the room that is left is for those that
    /// run already.
    pub(crate) fn must_take_new(&self) -> Result<(), Problem> {
        self.room.must_have_room()?;
        self.storing.must_work()
    }

    /// A client was not kept waiting any longer for its command to be stored.
    pub(crate) fn storing_is_overdue(&self, waited: Duration) {
        self.storing.overdue(waited);
    }

    /// Refuse whoever does not bring an operator's token; whose it is.
    pub(crate) fn must_be_operator(&self, asked: &Asked) -> Result<&OperatorName, Problem> {
        if self.operators.is_empty() {
            return Err(Problem::unauthorized("No operator token is set here, so nobody can do this."));
        }
        self.operators.who_has(bearer(&asked.headers).unwrap_or_default()).ok_or_else(|| {
            metrics::counter!("gateway_operator_refused_total").increment(1);
            Problem::unauthorized("This needs the operator's token as `Authorization: Bearer <token>`.")
        })
    }

    /// Follow a checkout that cannot have a history yet.
    pub(crate) fn follow_new(&self, id: WorkflowId) -> Follower {
        Follower::of_new(&self.nats, &self.live, id)
    }

    /// Follow a checkout from what is known of it on: from all that was heard, or else from what is stored.
    pub(crate) async fn follow(&self, id: WorkflowId) -> Result<Follower, FollowError> {
        Follower::of_known(&self.nats, &self.live, id).await
    }

    /// Follow a checkout that may have a history; whether it has one.
    pub(crate) async fn follow_if_any(&self, id: WorkflowId) -> Result<(Follower, bool), FollowError> {
        Follower::if_any(&self.nats, &self.live, id).await
    }

    /// Be told when a checkout's refund by hand goes on.
    pub(crate) fn watch_refund(&self, checkout: WorkflowId) -> crate::live::Watch {
        self.live.watch(follow::refund_ref(checkout))
    }

    /// One checkout as it stands, also when it is accepted and no worker has taken it yet; `None` when it is unknown.
    pub(crate) async fn checkout(&self, id: WorkflowId) -> Result<Option<CheckoutView>, FollowError> {
        match follow::stored_checkout(&self.nats, id).await? {
            Some(view) => Ok(Some(view)),
            None => follow::waiting_start(&self.nats, id).await,
        }
    }

    /// The refund by hand of a checkout; `None` when nobody has asked for one.
    pub(crate) async fn refund(&self, checkout: WorkflowId) -> Result<Option<RefundView>, FollowError> {
        follow::stored_refund(&self.nats, checkout).await
    }

    /// The same, without reading it where everything that has happened to the checkout was heard.
    pub(crate) async fn known_refund(&self, checkout: WorkflowId) -> Result<Option<RefundView>, FollowError> {
        follow::known_refund(&self.nats, &self.live, checkout).await
    }

    /// Every article with its stock, in the order of the SKUs.
    pub(crate) fn articles(&self) -> Vec<Article> {
        self.catalogue.all()
    }

    /// Ask something of a workflow; it is stored when this returns.
    pub(crate) async fn command<C: Serialize + TypeName>(
        &self,
        subject: Subject,
        command: &C,
        asked: &Asked,
    ) -> Result<u64, Problem> {
        let outgoing = message(subject, command, asked)?;
        self.storing.noted(self.commands.append(outgoing).await).map_err(not_stored)
    }

    /// Ask something of a workflow, unless a command for it waits already; whether it is stored when this returns.
    pub(crate) async fn first_command<C: Serialize + TypeName>(
        &self,
        subject: Subject,
        command: &C,
        asked: &Asked,
    ) -> Result<bool, Problem> {
        let outgoing = Outgoing { expected: Some(0), ..message(subject, command, asked)? };
        match self.storing.noted(self.commands.append(outgoing).await) {
            Ok(_) => Ok(true),
            Err(AppendError::Conflict { .. }) => Ok(false),
            Err(error) => Err(not_stored(error)),
        }
    }

    /// Ask something of the inventory, which answers on `answer_to`; it is stored when this returns.
    pub(crate) async fn inventory_command<C: Serialize + TypeName>(
        &self,
        subject: Subject,
        command: &C,
        answer_to: &str,
        asked: &Asked,
    ) -> Result<u64, Problem> {
        let mut outgoing = message(subject, command, asked)?;
        outgoing.headers.insert(headers::ANSWER_TO, answer_to);
        self.storing.noted(self.inventory_commands.append(outgoing).await).map_err(not_stored)
    }

    /// Store an authentic webhook as it came, once; says whether it is new.
    pub(crate) async fn store_webhook(
        &self,
        subject: Subject,
        event_type: &str,
        body: Bytes,
        asked: &Asked,
    ) -> Result<bool, Problem> {
        let mut headers = common_headers(asked);
        // The provider's own word: only what is legible and harmless in a header.
        let legible: String = event_type.chars().filter(char::is_ascii_graphic).take(64).collect();
        headers.insert(headers::TYPE, legible);
        let outgoing = Outgoing { subject, headers, payload: body, expected: Some(0) };
        match self.storing.noted(self.webhooks.append(outgoing).await) {
            Ok(_) => Ok(true),
            Err(AppendError::Conflict { .. }) => Ok(false),
            Err(error) => Err(not_stored(error)),
        }
    }

    /// A catalogue that is still being read must not look empty: an article would seem not to exist.
    pub(crate) fn must_know_catalogue(&self) -> Result<(), Problem> {
        if self.catalogue.is_loaded() {
            return Ok(());
        }
        Err(Problem::unavailable("The catalogue is still being read; try again in a moment."))
    }

    /// Why the gateway should not get requests now; `None` when it should.
    pub(crate) async fn not_ready(&self) -> Option<String> {
        if self.stop.is_cancelled() {
            return Some("it is stopping".into());
        }
        if !self.nats.is_connected() {
            return Some("there is no connection to NATS".into());
        }
        if !self.catalogue.is_loaded() {
            return Some("the catalogue and the stock are still being read".into());
        }
        if let Some(crowded) = self.room.crowded() {
            return Some(crowded.to_string());
        }
        for stream in self.nats.shards.all_streams(&STREAMS) {
            let asking = self.nats.jetstream.get_stream(stream.as_str());
            match tokio::time::timeout(READY_PATIENCE, asking).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Some(format!("stream {} cannot be asked: {error}", stream.as_str())),
                Err(_) => return Some(format!("stream {} does not answer", stream.as_str())),
            }
        }
        // Last, because it cannot tell which stream is the trouble.
        self.storing.trouble()
    }
}

/// Everything that the gateway does at the server. Reading the catalogue and the stock makes consumers, of these two
/// streams alone.
fn needs(provider: &ProviderName) -> Needs<'static> {
    let workflow = |kind| WorkflowRef { kind, id: WorkflowId::from(Uuid::nil()) };
    let mut writes: Vec<Subject> = WorkflowKind::ALL.map(|kind| Subject::Command(workflow(kind))).into();
    writes.push(Subject::InventoryCommand(Uuid::nil()));
    writes.extend("permission-check".parse().map(|event| Subject::Webhook(provider.clone(), event)));
    Needs {
        streams: &STREAMS,
        takes: &[],
        reads: &[StreamName::History, StreamName::Commands, StreamName::DeadLetters],
        asks_leader: &[StreamName::Webhooks, StreamName::Commands],
        trims: &[],
        writes,
        publishes: &[
            "$JS.API.STREAM.INFO.DEAD_LETTERS",
            // How much room is left.
            "$JS.API.STREAM.INFO.INVENTORY",
            // Made without a name at first, and with one when they are made again.
            "$JS.API.CONSUMER.CREATE.CATALOGUE",
            "$JS.API.CONSUMER.CREATE.STOCK",
            "$JS.API.CONSUMER.CREATE.CATALOGUE.permission-check.>",
            "$JS.API.CONSUMER.CREATE.STOCK.permission-check.>",
            "$JS.API.CONSUMER.MSG.NEXT.CATALOGUE.permission-check",
            "$JS.API.CONSUMER.MSG.NEXT.STOCK.permission-check",
        ],
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn message<C: Serialize + TypeName>(subject: Subject, command: &C, asked: &Asked) -> Result<Outgoing, Problem> {
    let payload = serde_json::to_vec(command).map_err(|error| {
        tracing::error!(%subject, %error, "a command cannot be written as JSON");
        Problem::internal("The request could not be passed on.")
    })?;
    let mut headers = common_headers(asked);
    headers.insert(headers::TYPE, command.type_name());
    // No guard: a command may be stored twice, the second one finds that it has been done.
    Ok(Outgoing { subject, headers, payload: payload.into(), expected: None })
}

fn common_headers(asked: &Asked) -> NatsHeaders {
    let mut headers = NatsHeaders::new();
    headers.insert(headers::SENDER, "gateway");
    // The server in front has put a valid one there.
    if let Some(trace) = asked.headers.get(headers::TRACE_PARENT_IN_HTTP).and_then(|value| value.to_str().ok()) {
        headers.insert(headers::TRACE_PARENT, trace);
    }
    headers
}

fn not_stored(error: AppendError) -> Problem {
    match error {
        AppendError::Unavailable { .. } => {
            tracing::warn!(%error, "could not store a message in time");
            not_now()
        }
        AppendError::Refused { .. } | AppendError::Conflict { .. } => {
            tracing::error!(%error, "a message was refused that should not have been");
            Problem::internal("The request could not be passed on; it has been reported.")
        }
    }
}

fn not_now() -> Problem {
    Problem::unavailable(
        "Nothing can be stored at the moment. Try again, with the same Idempotency-Key if the request has one.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        let token = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header value"));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("abc"), None);
    }
}
