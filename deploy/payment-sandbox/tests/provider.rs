//! The shop's client and the sandbox together, over real HTTP.

mod stage;

use std::time::Duration;

use common::{
    contracts::checkout::{Line, PaymentNotice, PaymentOutcome},
    ids::WorkflowId,
    money::Money,
    payment::{
        CloseSession, Closed, CreateSession, OpenSession, PaymentProvider as _, ProviderError, RefundRequest,
        RefundState, SessionState, sandbox::SandboxProvider,
    },
    time::now,
};
use rstest::rstest;
use serde_json::json;
use stage::{Stage, secrets};
use uuid::Uuid;

fn client(stage: &Stage) -> SandboxProvider {
    client_with_timeout(stage, Duration::from_secs(5))
}

fn client_with_timeout(stage: &Stage, timeout: Duration) -> SandboxProvider {
    SandboxProvider::new(&stage.base, secrets(), timeout).expect("a client")
}

fn request() -> CreateSession {
    let line = Line {
        sku: "MUG".parse().expect("a sku"),
        name: "Mug \"Größe 1\"".into(),
        quantity: 2,
        unit_price: Money::eur(1250),
    };
    CreateSession {
        reference: WorkflowId::random(),
        idempotency_key: Uuid::now_v7(),
        lines: vec![line],
        amount: Money::eur(2500),
        expires_at: now() + jiff::SignedDuration::from_mins(2),
    }
}

fn close(opened: Option<&OpenSession>, created_by: &CreateSession) -> CloseSession {
    CloseSession { session_id: opened.map(|opened| opened.session_id.clone()), created_by: created_by.clone() }
}

fn refund(request: &CreateSession, opened: &OpenSession) -> RefundRequest {
    RefundRequest {
        reference: request.reference,
        idempotency_key: Uuid::now_v7(),
        session_id: opened.session_id.clone(),
        amount: request.amount,
    }
}

fn notice(opened: &OpenSession, outcome: PaymentOutcome) -> PaymentNotice {
    PaymentNotice { event_id: None, session_id: opened.session_id.clone(), outcome, amount: Money::eur(2500) }
}

#[tokio::test]
async fn a_session_is_opened_once_and_can_be_paid_at_its_url() {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    let opened = client.create_session(&request).await.expect("a session");
    assert_eq!(client.create_session(&request).await, Ok(opened.clone()));
    assert_eq!(client.look_up(&opened.session_id).await, Ok(SessionState::Open));
    let form = stage.http.post(&opened.payment_url).form(&[("action", "pay")]);
    assert_eq!(form.send().await.expect("an answer").status(), 303);
    let paid = SessionState::Decided(notice(&opened, PaymentOutcome::Paid));
    assert_eq!(client.look_up(&opened.session_id).await, Ok(paid));
}

#[rstest]
#[case("submit_payment", Some(PaymentOutcome::Paid))]
#[case("decline_payment", Some(PaymentOutcome::Declined))]
#[case("cancel_payment", Some(PaymentOutcome::Cancelled))]
#[case("expire_session", None)]
#[tokio::test]
async fn a_look_up_and_a_close_tell_how_it_ended(#[case] call: &str, #[case] outcome: Option<PaymentOutcome>) {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    let opened = client.create_session(&request).await.expect("a session");
    stage.act(call, opened.session_id.as_str()).await;
    let state = outcome.map_or(SessionState::Closed, |outcome| SessionState::Decided(notice(&opened, outcome)));
    assert_eq!(client.look_up(&opened.session_id).await, Ok(state));
    let closed = match outcome {
        Some(PaymentOutcome::Paid) => Closed::AlreadyPaid(notice(&opened, PaymentOutcome::Paid)),
        _ => Closed::NobodyCanPay,
    };
    assert_eq!(client.close_session(&close(Some(&opened), &request)).await, Ok(closed.clone()));
    assert_eq!(client.close_session(&close(None, &request)).await, Ok(closed), "also without knowing the session");
}

#[tokio::test]
async fn closing_an_open_session_ends_it() {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    let opened = client.create_session(&request).await.expect("a session");
    for _ in 0..2 {
        assert_eq!(client.close_session(&close(Some(&opened), &request)).await, Ok(Closed::NobodyCanPay));
    }
    assert_eq!(client.look_up(&opened.session_id).await, Ok(SessionState::Closed));
    assert_eq!(stage.act("submit_payment", opened.session_id.as_str()).await.0, 409);
}

#[tokio::test]
async fn a_session_that_was_closed_before_it_was_made_is_never_made() {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    assert_eq!(client.close_session(&close(None, &request)).await, Ok(Closed::NobodyCanPay));
    let late = client.create_session(&request).await;
    assert!(matches!(late, Err(ProviderError::Refused { .. })), "{late:?}");
}

#[tokio::test]
async fn a_refund_is_made_once_for_a_key() {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    let opened = client.create_session(&request).await.expect("a session");
    let refund = refund(&request, &opened);
    let unpaid = client.refund(&refund).await;
    assert!(matches!(unpaid, Err(ProviderError::Refused { .. })), "{unpaid:?}");
    stage.act("submit_payment", opened.session_id.as_str()).await;
    let refunded = client.refund(&refund).await.expect("a refund");
    assert_eq!(client.refund(&refund).await, Ok(refunded.clone()));
    let RefundState::Refunded { refund_id } = refunded;
    let books = stage.in_books(opened.session_id.as_str()).await;
    assert_eq!(books["refunds"].as_array().map(Vec::len), Some(1));
    assert_eq!(books["refunds"][0]["refund_id"], refund_id);
}

#[tokio::test]
async fn what_the_provider_does_not_know_is_a_no() {
    let stage = Stage::new().await;
    let (client, mut request) = (client(&stage), request());
    let session = "cs_nobody".parse().expect("an id");
    assert!(matches!(client.look_up(&session).await, Err(ProviderError::Refused { .. })));
    client.create_session(&request).await.expect("a session");
    request.reference = WorkflowId::random();
    let conflict = client.create_session(&request).await;
    assert!(matches!(conflict, Err(ProviderError::Refused { .. })), "{conflict:?}");
}

/// Faults after which nobody knows what was done, and how many sessions there are when the provider is well again.
#[rstest]
#[case("error_500")]
#[case("error_500_after")]
#[case("rate_limited")]
#[case("conflict_409")]
#[case("broken_json")]
#[case("no_url")]
#[case("lost_answer")]
#[case("down")]
#[tokio::test]
async fn after_an_unknown_answer_the_same_key_finds_the_same_session(#[case] fault: &str) {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    stage.fault(json!({ "call": "create_session", "fault": fault, "times": 1 })).await;
    let answer = client.create_session(&request).await;
    assert!(matches!(answer, Err(ProviderError::Unknown { .. })), "{fault}: {answer:?}");
    let done = matches!(fault, "error_500_after" | "broken_json" | "no_url" | "lost_answer");
    let sessions = || async { stage.get("/api/books").await.1["data"].as_array().map(Vec::len) };
    assert_eq!(sessions().await, Some(usize::from(done)));
    let opened = client.create_session(&request).await.expect("the fault has passed");
    assert_eq!(sessions().await, Some(1));
    assert_eq!(stage.in_books(opened.session_id.as_str()).await["client_reference_id"], json!(request.reference));
}

#[tokio::test]
async fn a_refusal_by_script_is_a_no() {
    let stage = Stage::new().await;
    stage.fault(json!({ "call": "create_session", "fault": "refuse_400" })).await;
    let answer = client(&stage).create_session(&request()).await;
    assert!(matches!(answer, Err(ProviderError::Refused { .. })), "{answer:?}");
}

#[rstest]
#[case("hang", false)]
#[case("slow", true)]
#[tokio::test]
async fn a_provider_that_is_too_slow_is_not_waited_for(#[case] fault: &str, #[case] is_done_later: bool) {
    let stage = Stage::new().await;
    let (client, request) = (client_with_timeout(&stage, Duration::from_millis(200)), request());
    stage.fault(json!({ "call": "create_session", "fault": fault, "millis": 600, "times": 1 })).await;
    let answer = client.create_session(&request).await;
    assert!(matches!(answer, Err(ProviderError::Unknown { .. })), "{answer:?}");
    if is_done_later {
        let deadline = std::time::Instant::now() + stage::PATIENCE;
        while stage.get("/api/books").await.1["data"] == json!([]) {
            assert!(std::time::Instant::now() < deadline, "the slow call was never done");
        }
    }
    let closed = client_with_timeout(&stage, stage::PATIENCE).close_session(&close(None, &request)).await;
    assert_eq!(closed, Ok(Closed::NobodyCanPay));
}

#[tokio::test]
async fn a_lost_answer_to_a_refund_is_one_refund() {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    let opened = client.create_session(&request).await.expect("a session");
    stage.act("submit_payment", opened.session_id.as_str()).await;
    stage.fault(json!({ "call": "refund", "fault": "lost_answer", "times": 1 })).await;
    let refund = refund(&request, &opened);
    assert!(matches!(client.refund(&refund).await, Err(ProviderError::Unknown { .. })));
    client.refund(&refund).await.expect("the fault has passed");
    let books = stage.in_books(opened.session_id.as_str()).await;
    assert_eq!(books["refunds"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn money_may_come_late_when_the_script_says_so() {
    let stage = Stage::new().await;
    let (client, request) = (client(&stage), request());
    let opened = client.create_session(&request).await.expect("a session");
    client.close_session(&close(Some(&opened), &request)).await.expect("it is closed");
    stage.fault(json!({ "fault": "pay_after_close", "times": 1 })).await;
    assert_eq!(stage.act("submit_payment", opened.session_id.as_str()).await.0, 200);
    let taken = stage.receiver.taken(1).await;
    assert_eq!(taken[0].body["payment_status"], "paid");
    let paid = SessionState::Decided(notice(&opened, PaymentOutcome::Paid));
    assert_eq!(client.look_up(&opened.session_id).await, Ok(paid));
}

#[tokio::test]
async fn nobody_at_the_other_end_is_unknown() {
    let client = SandboxProvider::new("http://127.0.0.1:1", secrets(), Duration::from_secs(5)).expect("a client");
    let answer = client.create_session(&request()).await;
    assert!(matches!(answer, Err(ProviderError::Unknown { .. })), "{answer:?}");
}
