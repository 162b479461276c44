//! The client against a peer that keeps the rules of Stripe's API which we rely on: keys, expiry, states, refunds.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use warp::{Filter as _, Reply as _, http::StatusCode};

use super::*;
use crate::{contracts::checkout::Line, time::now};

const WEBHOOK_SECRET: &str = "whsec_of_the_endpoint";

type Form = HashMap<String, String>;

/// What the peer remembers.
#[derive(Default)]
struct Account {
    sessions: HashMap<String, Value>,
    /// By idempotency key: what was asked and what was answered.
    answered: HashMap<String, (Form, Value)>,
    refunds: Vec<Value>,
    /// The heads of requests that lacked the key, the version or the authorization.
    badly_asked: Vec<String>,
}

#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Account>>);

type Reply = (StatusCode, Value);

fn error(status: StatusCode, kind: &str, message: &str, param: Option<&str>) -> Reply {
    (status, json!({ "error": { "type": kind, "message": message, "param": param } }))
}

impl Peer {
    fn account<T>(&self, work: impl FnOnce(&mut Account) -> T) -> T {
        work(&mut self.0.lock().expect("no test panicked while it held the lock"))
    }

    fn answer(&self, method: &str, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let form: Form = reqwest::Url::parse(&format!("http://form/?{}", String::from_utf8_lossy(body)))
            .expect("a form is a query")
            .query_pairs()
            .into_owned()
            .collect();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        self.account(|account| {
            let authorized = header("authorization").as_deref() == Some("Bearer sk_test_1");
            if !authorized || header("stripe-version").is_none() {
                account.badly_asked.push(format!("{method} {path}"));
                return error(StatusCode::UNAUTHORIZED, "invalid_request_error", "who are you", None);
            }
            let key = header("idempotency-key");
            match (method, path.split('/').skip(1).collect::<Vec<_>>().as_slice()) {
                ("POST", ["v1", "checkout", "sessions"]) => account.once(key, form, Account::create),
                ("POST", ["v1", "refunds"]) => account.once(key, form, Account::refund),
                ("GET", ["v1", "checkout", "sessions", id]) => account.retrieve(id),
                ("POST", ["v1", "checkout", "sessions", id, "expire"]) => account.expire(id),
                _ => error(StatusCode::NOT_FOUND, "invalid_request_error", "unrecognized URL", None),
            }
        })
    }
}

impl Account {
    fn once(&mut self, key: Option<String>, form: Form, work: fn(&mut Self, &Form) -> Reply) -> Reply {
        let Some(key) = key else {
            self.badly_asked.push("no key".into());
            return error(StatusCode::BAD_REQUEST, "invalid_request_error", "no key", None);
        };
        match self.answered.get(&key) {
            Some((asked, answer)) if *asked == form => (StatusCode::OK, answer.clone()),
            Some(_) => error(StatusCode::BAD_REQUEST, "idempotency_error", "same key, other parameters", None),
            None => {
                let (status, answer) = work(self, &form);
                // Parameters that do not pass are not remembered.
                if status == StatusCode::OK {
                    self.answered.insert(key, (form, answer.clone()));
                }
                (status, answer)
            }
        }
    }

    fn create(&mut self, form: &Form) -> Reply {
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let expires_at: i64 = field("expires_at").parse().unwrap_or_default();
        let allowed = now().as_second() + 30 * 60..=now().as_second() + 24 * 3600;
        if !allowed.contains(&expires_at) {
            let message = "expires_at must be between 30 minutes and 24 hours from now";
            return error(StatusCode::BAD_REQUEST, "invalid_request_error", message, Some("expires_at"));
        }
        let number = |name: String| form.get(&name).and_then(|text| text.parse::<i64>().ok());
        let mut total = 0;
        for index in 0.. {
            let Some(quantity) = number(format!("line_items[{index}][quantity]")) else { break };
            total += quantity * number(format!("line_items[{index}][price_data][unit_amount]")).unwrap_or_default();
        }
        let id = format!("cs_test_{}", self.sessions.len());
        let session = json!({
            "id": id, "object": "checkout.session", "status": "open", "payment_status": "unpaid",
            "client_reference_id": field("client_reference_id"), "amount_total": total,
            "currency": field("line_items[0][price_data][currency]"), "payment_intent": null,
            "url": format!("https://checkout.stripe.com/c/pay/{id}"), "success_url": field("success_url"),
        });
        self.sessions.insert(id, session.clone());
        (StatusCode::OK, session)
    }

    fn retrieve(&mut self, id: &str) -> Reply {
        match self.sessions.get(id) {
            Some(session) => (StatusCode::OK, session.clone()),
            None => error(StatusCode::NOT_FOUND, "invalid_request_error", "no such session", Some("session")),
        }
    }

    fn expire(&mut self, id: &str) -> Reply {
        match self.sessions.get_mut(id) {
            Some(session) if session["status"] == "open" => {
                session["status"] = json!("expired");
                (StatusCode::OK, session.clone())
            }
            Some(_) => error(StatusCode::BAD_REQUEST, "invalid_request_error", "only open sessions", None),
            None => error(StatusCode::NOT_FOUND, "invalid_request_error", "no such session", Some("session")),
        }
    }

    fn pay(&mut self, id: &SessionId) {
        let session = self.sessions.get_mut(id.as_str()).expect("a known session");
        session["status"] = json!("complete");
        session["payment_status"] = json!("paid");
        session["payment_intent"] = json!(format!("pi_{id}"));
    }

    fn refund(&mut self, form: &Form) -> Reply {
        let refund = json!({
            "id": format!("re_{}", self.refunds.len()), "status": "succeeded",
            "payment_intent": form.get("payment_intent"), "amount": form.get("amount"),
        });
        self.refunds.push(refund.clone());
        (StatusCode::OK, refund)
    }
}

/// A running peer and a client of it.
struct Stage {
    peer: Peer,
    stripe: StripeProvider,
    _stop: DropGuard,
}

async fn stage() -> Stage {
    let peer = Peer::default();
    let answering = peer.clone();
    let routes = warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::body::bytes())
        .map(move |method: http::Method, path: warp::path::FullPath, headers: HeaderMap, body: bytes::Bytes| {
            let (status, body) = answering.answer(method.as_str(), path.as_str(), &headers, &body);
            warp::reply::with_status(warp::reply::json(&body), status).into_response()
        })
        .boxed();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base_url = format!("http://{}", listener.local_addr().expect("a bound port"));
    // Not served by `HttpServer`, which would make problem documents of Stripe's errors.
    let service = warp::service(routes);
    let make_service = tower::service_fn(move |_: SocketAddr| std::future::ready(Ok::<_, Infallible>(service.clone())));
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move {
        tokio::select! {
            served = axum_server::Server::<SocketAddr>::from_listener(listener).serve(make_service) => served,
            () = stopped => Ok(()),
        }
    });
    let key = "sk_test_1".parse().expect("any text is a key");
    let secrets = WEBHOOK_SECRET.parse().expect("a secret");
    let stripe = StripeProvider::new(&base_url, key, secrets, "http://shop.test/", Duration::from_secs(5));
    Stage { peer, stripe: stripe.expect("a client"), _stop: stop.drop_guard() }
}

fn line(unit_amount: i64, quantity: u32) -> Line {
    Line {
        sku: "MUG".parse().expect("a sku"),
        name: "Mug & saucer = 1 set".into(),
        quantity,
        unit_price: Money::eur(unit_amount),
    }
}

/// A request whose deadline lies `seconds` from now.
fn request(seconds: i64) -> CreateSession {
    CreateSession {
        reference: WorkflowId::random(),
        idempotency_key: Uuid::now_v7(),
        lines: vec![line(1250, 2), line(99, 1)],
        amount: Money::eur(2599),
        expires_at: now() + SignedDuration::from_secs(seconds),
    }
}

fn close(session_id: Option<&SessionId>, created_by: &CreateSession) -> CloseSession {
    CloseSession { session_id: session_id.cloned(), created_by: created_by.clone() }
}

#[tokio::test]
async fn a_session_is_opened_once_for_a_key() {
    let stage = stage().await;
    let request = request(120);
    let opened = stage.stripe.create_session(&request).await.expect("a session");
    assert_eq!(stage.stripe.create_session(&request).await, Ok(opened.clone()), "the same key is the same session");
    assert!(opened.payment_url.starts_with("https://checkout.stripe.com/"));
    assert_eq!(stage.stripe.look_up(&opened.session_id).await, Ok(SessionState::Open));
    stage.peer.account(|account| {
        let session = &account.sessions[opened.session_id.as_str()];
        assert_eq!(session["amount_total"], 2599);
        assert_eq!(session["client_reference_id"], request.reference.to_string());
        assert_eq!(session["success_url"], format!("http://shop.test/checkout/{}", request.reference));
        assert_eq!(account.sessions.len(), 1);
        assert!(account.badly_asked.is_empty(), "{:?}", account.badly_asked);
    });
}

#[tokio::test]
async fn a_key_with_other_parameters_is_not_taken_for_no_session() {
    let stage = stage().await;
    let mut request = request(120);
    stage.stripe.create_session(&request).await.expect("a session");
    request.expires_at += SignedDuration::from_secs(1);
    let answer = stage.stripe.create_session(&request).await;
    assert!(matches!(answer, Err(ProviderError::Unknown { .. })), "{answer:?}");
}

#[tokio::test]
async fn lines_that_do_not_add_up_are_never_sent() {
    let stage = stage().await;
    let request = CreateSession { amount: Money::eur(1), ..request(120) };
    assert!(matches!(stage.stripe.create_session(&request).await, Err(ProviderError::Refused { .. })));
    assert!(stage.peer.account(|account| account.sessions.is_empty()));
}

#[tokio::test]
async fn a_deadline_beyond_a_day_is_refused() {
    let stage = stage().await;
    let answer = stage.stripe.create_session(&request(25 * 3600)).await;
    assert!(matches!(answer, Err(ProviderError::Refused { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_closed_session_can_be_closed_again() {
    let stage = stage().await;
    let request = request(120);
    let opened = stage.stripe.create_session(&request).await.expect("a session");
    for _ in 0..2 {
        let closed = stage.stripe.close_session(&close(Some(&opened.session_id), &request)).await;
        assert_eq!(closed, Ok(Closed::NobodyCanPay));
    }
    assert_eq!(stage.stripe.look_up(&opened.session_id).await, Ok(SessionState::Closed));
}

#[tokio::test]
async fn closing_a_paid_session_tells_that_it_is_paid() {
    let stage = stage().await;
    let request = request(120);
    let opened = stage.stripe.create_session(&request).await.expect("a session");
    stage.peer.account(|account| account.pay(&opened.session_id));
    let notice = PaymentNotice {
        event_id: None,
        session_id: opened.session_id.clone(),
        outcome: PaymentOutcome::Paid,
        amount: Money::eur(2599),
    };
    for session_id in [Some(&opened.session_id), None] {
        let closed = stage.stripe.close_session(&close(session_id, &request)).await;
        assert_eq!(closed, Ok(Closed::AlreadyPaid(notice.clone())), "{session_id:?}");
    }
    assert_eq!(stage.stripe.look_up(&opened.session_id).await, Ok(SessionState::Decided(notice)));
}

#[tokio::test]
async fn a_session_whose_answer_was_lost_is_found_by_its_key_and_closed() {
    let stage = stage().await;
    let request = request(120);
    let opened = stage.stripe.create_session(&request).await.expect("a session");
    assert_eq!(stage.stripe.close_session(&close(None, &request)).await, Ok(Closed::NobodyCanPay));
    assert_eq!(stage.stripe.look_up(&opened.session_id).await, Ok(SessionState::Closed));
}

#[tokio::test]
async fn a_session_that_was_never_made_is_closed_too() {
    let stage = stage().await;
    for deadline in [120, -3600] {
        let closed = stage.stripe.close_session(&close(None, &request(deadline))).await;
        assert_eq!(closed, Ok(Closed::NobodyCanPay), "{deadline} s from now");
    }
    let open = |account: &mut Account| account.sessions.values().filter(|session| session["status"] == "open").count();
    assert_eq!(stage.peer.account(open), 0);
}

#[tokio::test]
async fn a_payment_is_refunded_once_for_a_key() {
    let stage = stage().await;
    let request = request(120);
    let opened = stage.stripe.create_session(&request).await.expect("a session");
    let refund = RefundRequest {
        reference: request.reference,
        idempotency_key: Uuid::now_v7(),
        session_id: opened.session_id.clone(),
        amount: request.amount,
    };
    let unpaid = stage.stripe.refund(&refund).await;
    assert!(matches!(unpaid, Err(ProviderError::Refused { .. })), "{unpaid:?}");

    stage.peer.account(|account| account.pay(&opened.session_id));
    let refunded = stage.stripe.refund(&refund).await.expect("a refund");
    assert_eq!(stage.stripe.refund(&refund).await, Ok(refunded));
    assert_eq!(stage.peer.account(|account| account.refunds.len()), 1);
}

#[tokio::test]
async fn an_unknown_session_is_a_no_and_a_wrong_key_is_not() {
    let stage = stage().await;
    let session = "cs_test_nobody".parse().expect("an id");
    assert!(matches!(stage.stripe.look_up(&session).await, Err(ProviderError::Refused { .. })));
    let stranger = StripeProvider { secret_key: "sk_other".parse().expect("any text"), ..stage.stripe.clone() };
    assert!(matches!(stranger.look_up(&session).await, Err(ProviderError::Unknown { .. })));
}

fn event(kind: &str, payment_status: &str) -> Value {
    json!({
        "id": "evt_1", "object": "event", "type": kind,
        "data": { "object": {
            "id": "cs_test_1", "object": "checkout.session", "payment_status": payment_status, "amount_total": 2599,
            "currency": "eur", "client_reference_id": "0198c0de-0000-7000-8000-00000000000a",
        } },
    })
}

#[test]
fn only_a_paid_session_is_paid() {
    let outcome = |kind: &str, payment_status: &str| {
        read_event(event(kind, payment_status).to_string().as_bytes()).expect("an event").outcome
    };
    assert_eq!(outcome("checkout.session.completed", "paid"), Some(PaymentOutcome::Paid));
    assert_eq!(outcome("checkout.session.completed", "unpaid"), None);
    assert_eq!(outcome("checkout.session.async_payment_succeeded", "paid"), Some(PaymentOutcome::Paid));
    assert_eq!(outcome("checkout.session.async_payment_failed", "unpaid"), Some(PaymentOutcome::Declined));
    assert_eq!(outcome("checkout.session.expired", "unpaid"), None);
    for other in ["invoice.paid", "charge.refunded", "charge.dispute.created", "payment_intent.partially_funded"] {
        assert_eq!(outcome(other, "paid"), None, "{other}");
    }
}

#[test]
fn an_event_of_somebody_elses_session_is_an_event_without_a_reference() {
    let mut event = event("checkout.session.completed", "paid");
    event["data"]["object"]["client_reference_id"] = Value::Null;
    let read = read_event(event.to_string().as_bytes()).expect("an event");
    assert_eq!((read.reference, read.amount), (None, Some(Money::eur(2599))));
}

#[tokio::test]
async fn a_webhook_must_be_signed() {
    let stage = stage().await;
    let body = event("checkout.session.completed", "paid").to_string();
    let secrets: WebhookSecrets = WEBHOOK_SECRET.parse().expect("a secret");
    let mut headers = HeaderMap::new();
    let refused = stage.stripe.verify_webhook(&headers, body.as_bytes(), now());
    assert_eq!(refused, Err(WebhookRefused::NoSignature));
    headers.insert(SIGNATURE_HEADER, secrets.sign(body.as_bytes(), now()).parse().expect("a header value"));
    assert!(stage.stripe.verify_webhook(&headers, body.as_bytes(), now()).is_ok());
}
