//! The API that the shop calls: read, do it in the books, answer; with the fault script in between.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{money::Money, service::http::Problem, time};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use warp::{Reply, reply::Response};

use crate::{
    books::{Decision, Refusal},
    faults::{Call, Fault, FaultRule, Faults},
    requests::{CreateRequest, ExpireRequest, RefundRequest, SessionRequest, ToExpire, read_json, read_key},
    session::{Session, SessionStatus},
    store::{Store, StoreError},
};

/// How long a call hangs when the fault script does not say.
const HANG: Duration = Duration::from_secs(60);

/// How late a slow call is when the fault script does not say.
const SLOW: Duration = Duration::from_secs(1);

/// Most sessions on one page of the books.
const MAX_PAGE: usize = 1000;

/// What every handler needs.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) faults: Arc<Faults>,
    /// Where customers reach this service, without a slash at its end.
    pub(crate) public_url: String,
    /// Where customers find the shop's order pages, if they are sent back there.
    pub(crate) shop_url: Option<String>,
}

/// An answer before it is sent, so that the fault script can spoil it.
pub(crate) type Answer = Result<(StatusCode, Value), Problem>;

fn ok(body: Value) -> Answer {
    Ok((StatusCode::OK, body))
}

fn json_of<T: serde::Serialize>(value: &T) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::internal(format!("The answer cannot be written: {error}.")))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let refusal = match error {
            StoreError::Refused(refusal) => refusal,
            StoreError::Failed(reason) => {
                tracing::error!(reason, "the database has failed");
                return Self::unavailable("The books cannot be written; repeat the call with the same key.");
            }
        };
        let (status, code) = match &refusal {
            Refusal::UnknownSession => (StatusCode::NOT_FOUND, "session_not_found"),
            Refusal::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_conflict"),
            Refusal::ReferenceClosed => (StatusCode::GONE, "reference_closed"),
            Refusal::ExpiryPassed => (StatusCode::BAD_REQUEST, "validation"),
            Refusal::NotOpen(_) => (StatusCode::CONFLICT, "session_not_open"),
            Refusal::NotPaid => (StatusCode::UNPROCESSABLE_ENTITY, "not_paid"),
            Refusal::MoreThanPaid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "refund_exceeds_payment"),
        };
        Self::new(status, code, refusal.to_string())
    }
}

impl App {
    fn view(&self, session: &Session) -> Result<Value, Problem> {
        json_of(&session.view(&self.public_url, time::now()))
    }

    /// The reference of a session, for the fault script only; empty when nobody asks or knows.
    fn reference_of(&self, session_id: &str) -> String {
        if !self.faults.are_enabled() {
            return String::new();
        }
        self.store.session(session_id).map(|session| session.order.client_reference_id).unwrap_or_default()
    }

    pub(crate) async fn create(self: Arc<Self>, headers: HeaderMap, body: Result<Bytes, Problem>) -> Response {
        let read = read_key(&headers).and_then(|key| {
            let order = read_json::<CreateRequest>(&headers, body)?.check()?;
            Ok((key, order))
        });
        let (key, order) = match read {
            Ok(read) => read,
            Err(problem) => return problem.into_response(),
        };
        let fault = self.faults.for_call(Call::CreateSession, &order.client_reference_id);
        with_fault(fault, async move {
            let write = self.store.write(move |books| books.create(key.as_str(), order, time::now()));
            let (session, replayed) = write.await?;
            tracing::info!(session_id = %session.session_id, reference = session.order.client_reference_id, replayed,
                "session opened");
            let status = if replayed { StatusCode::OK } else { StatusCode::CREATED };
            Ok((status, self.view(&session)?))
        })
        .await
    }

    pub(crate) async fn look_up(self: Arc<Self>, session_id: String) -> Response {
        let fault = self.faults.for_call(Call::LookUp, &self.reference_of(&session_id));
        with_fault(fault, async move { ok(self.view(&self.store.session(&session_id)?)?) }).await
    }

    pub(crate) async fn decide(
        self: Arc<Self>,
        call: Call,
        decision: Decision,
        headers: HeaderMap,
        body: Result<Bytes, Problem>,
    ) -> Response {
        let session_id = match read_json::<SessionRequest>(&headers, body) {
            Ok(request) => request.session_id,
            Err(problem) => return problem.into_response(),
        };
        let fault = self.faults.for_call(call, &self.reference_of(&session_id));
        with_fault(fault, async move { ok(self.view(&self.decided(session_id, decision).await?)?) }).await
    }

    /// End a customer's visit, for the API and for the payment page (which only knows the faults of payments).
    pub(crate) async fn decided(&self, session_id: String, decision: Decision) -> Result<Session, StoreError> {
        let late = decision == Decision::Pay && self.may_pay_late(&session_id);
        let write = self.store.write(move |books| books.decide(&session_id, decision, late, time::now()));
        let session = write.await?;
        tracing::info!(session_id = %session.session_id, reference = session.order.client_reference_id,
            status = session.status.as_str(), "session decided");
        Ok(session)
    }

    fn may_pay_late(&self, session_id: &str) -> bool {
        if !self.faults.are_enabled() {
            return false;
        }
        self.store.session(session_id).is_ok_and(|session| {
            let in_time = matches!(session.standing(time::now()), SessionStatus::Open | SessionStatus::Paid);
            !in_time && self.faults.allow_late_payment(&session.order.client_reference_id)
        })
    }

    pub(crate) async fn expire(self: Arc<Self>, headers: HeaderMap, body: Result<Bytes, Problem>) -> Response {
        let what = match read_json::<ExpireRequest>(&headers, body).and_then(ExpireRequest::check) {
            Ok(what) => what,
            Err(problem) => return problem.into_response(),
        };
        let reference = match &what {
            ToExpire::Session(session_id) => self.reference_of(session_id),
            ToExpire::Reference(reference) => reference.clone(),
        };
        let fault = self.faults.for_call(Call::ExpireSession, &reference);
        with_fault(fault, async move {
            match what {
                ToExpire::Session(id) => {
                    let session = self.store.write(move |books| books.expire(&id, time::now())).await?;
                    ok(self.view(&session)?)
                }
                ToExpire::Reference(reference) => {
                    let closing = reference.clone();
                    let write = self.store.write(move |books| books.expire_reference(&closing, time::now()));
                    match write.await? {
                        Some(session) => ok(self.view(&session)?),
                        None => ok(json!({ "client_reference_id": reference, "status": "never_created" })),
                    }
                }
            }
        })
        .await
    }

    pub(crate) async fn refund(self: Arc<Self>, headers: HeaderMap, body: Result<Bytes, Problem>) -> Response {
        let read = read_key(&headers).and_then(|key| {
            let request: RefundRequest = read_json(&headers, body)?;
            if request.amount <= 0 {
                let problem = Problem::validation("This cannot be refunded.");
                return Err(problem.with_error("/amount", "Must be at least 1, in minor units."));
            }
            Ok((key, request))
        });
        let (key, request) = match read {
            Ok(read) => read,
            Err(problem) => return problem.into_response(),
        };
        let fault = self.faults.for_call(Call::Refund, &self.reference_of(&request.session_id));
        with_fault(fault, async move { self.refunded(key.as_str(), request).await }).await
    }

    async fn refunded(&self, key: &str, request: RefundRequest) -> Answer {
        // Without a currency the one that was paid in is meant.
        let currency = match request.currency {
            Some(currency) => currency,
            None => self.store.session(&request.session_id)?.order.amount.currency,
        };
        let amount = Money { amount: request.amount, currency };
        let (key, session_id) = (key.to_owned(), request.session_id.clone());
        let write = self.store.write(move |books| books.refund(&key, &session_id, amount, time::now()));
        let refund = write.await?;
        tracing::info!(session_id = request.session_id, refund_id = refund.refund_id, %amount, "refunded");
        ok(json!({
            "refund_id": refund.refund_id, "session_id": request.session_id, "status": "refunded",
            "amount": refund.amount.amount, "currency": refund.amount.currency, "refunded_at": refund.refunded_at,
        }))
    }

    /// `?session_id=`: the webhook events of a session and how their delivery went.
    pub(crate) fn events(&self, query: &str) -> Answer {
        #[derive(serde::Deserialize)]
        struct Query {
            session_id: String,
        }
        let query: Query = read_query(query)?;
        self.store.session(&query.session_id)?;
        ok(json!({ "data": json_of(&self.store.events_of(&query.session_id)?)? }))
    }

    /// `?after=&limit=`: every session with its charges and refunds, oldest first.
    pub(crate) fn books(&self, query: &str) -> Answer {
        #[derive(serde::Deserialize)]
        struct Query {
            #[serde(default)]
            after: String,
            limit: Option<usize>,
        }
        let query: Query = read_query(query)?;
        let limit = query.limit.unwrap_or(100);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Problem::validation("The page cannot be had.").with_error("limit", "Must be 1 to 1000."));
        }
        let (mut sessions, has_more) = self.store.sessions(&query.after, limit)?;
        let now = time::now();
        for session in &mut sessions {
            session.status = session.standing(now);
        }
        ok(json!({ "data": json_of(&sessions)?, "has_more": has_more }))
    }

    /// Add a rule, or a list of rules, to the fault script.
    pub(crate) fn add_faults(&self, headers: &HeaderMap, body: Result<Bytes, Problem>) -> Answer {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Rules {
            Many(Vec<Value>),
            One(Value),
        }
        self.faults_are_enabled()?;
        let rules = match read_json(headers, body)? {
            Rules::Many(rules) => rules,
            Rules::One(rule) => vec![rule],
        };
        let read = |rule: Value| {
            let rule: FaultRule = serde_json::from_value(rule).map_err(|error| error.to_string())?;
            rule.check().map(|()| rule).map_err(ToOwned::to_owned)
        };
        let rules: Result<Vec<FaultRule>, String> = rules.into_iter().map(read).collect();
        self.faults.add(rules.map_err(|error| Problem::validation(format!("This is no fault rule: {error}.")))?);
        Ok((StatusCode::CREATED, json!({ "data": json_of(&self.faults.list())? })))
    }

    pub(crate) fn list_faults(&self) -> Answer {
        self.faults_are_enabled()?;
        ok(json!({ "data": json_of(&self.faults.list())? }))
    }

    pub(crate) fn clear_faults(&self) -> Answer {
        self.faults_are_enabled()?;
        self.faults.clear();
        self.list_faults()
    }

    fn faults_are_enabled(&self) -> Result<(), Problem> {
        let off = "The fault script is off; start the sandbox with --faults or CHECKOUT_PAYMENT_FAULTS=true.";
        if self.faults.are_enabled() { Ok(()) } else { Err(Problem::new(StatusCode::FORBIDDEN, "faults_off", off)) }
    }
}

fn read_query<T: serde::de::DeserializeOwned>(query: &str) -> Result<T, Problem> {
    serde_html_form::from_str(query).map_err(|error| Problem::validation(format!("The query cannot be read: {error}.")))
}

/// Send an answer as it is.
pub(crate) fn reply(answer: Answer) -> Response {
    match answer {
        Ok((status, body)) => {
            let reply = warp::reply::with_status(warp::reply::json(&body), status);
            warp::reply::with_header(reply, "cache-control", "no-store").into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Do the work and answer, as the fault script wants it.
async fn with_fault(fault: Option<FaultRule>, work: impl Future<Output = Answer> + Send + 'static) -> Response {
    let Some(rule) = fault else { return reply(work.await) };
    let pause = |default| rule.millis.map_or(default, Duration::from_millis);
    match rule.fault {
        Fault::Error500 => Problem::internal("The fault script wants an error; nothing was done.").into_response(),
        Fault::Error500After => {
            let _ = work.await;
            Problem::internal("The fault script wants an error.").into_response()
        }
        Fault::Hang => {
            tokio::time::sleep(pause(HANG)).await;
            Problem::unavailable("The fault script wanted a long silence.").into_response()
        }
        Fault::Slow => {
            let pause = pause(SLOW);
            // On its own, because the work must be done even if the caller has hung up by then.
            let late = tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                work.await
            });
            late.await.map_or_else(|_| drop_connection(), reply)
        }
        Fault::RateLimited => Problem::rate_limited(Duration::from_secs(1)).into_response(),
        Fault::Conflict409 => {
            let detail = "The fault script pretends that the same call is under way.";
            Problem::new(StatusCode::CONFLICT, "idempotency_in_progress", detail).into_response()
        }
        Fault::Refuse400 => Problem::validation("The fault script wants a refusal.").into_response(),
        Fault::BrokenJson => {
            let _ = work.await;
            let broken = "{\"session_id\": \"cs_1\", \"ur";
            warp::reply::with_header(broken, "content-type", "application/json").into_response()
        }
        Fault::NoUrl => reply(work.await.map(|(status, mut body)| {
            if let Some(members) = body.as_object_mut() {
                members.remove("url");
            }
            (status, body)
        })),
        Fault::LostAnswer => {
            let _ = work.await;
            drop_connection()
        }
        Fault::Down => drop_connection(),
        // Faults of payments and webhooks are not for calls.
        _ => reply(work.await),
    }
}

/// An answer whose body breaks at once: the server can only drop the connection.
fn drop_connection() -> Response {
    let broken = std::io::Error::other("the fault script wants this connection dropped");
    warp::reply::stream(futures_util::stream::iter([Err::<Bytes, _>(broken)])).into_response()
}
