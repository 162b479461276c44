//! The API as the shop and a checker call it, over real HTTP.

mod stage;

use common::time::now;
use rstest::rstest;
use serde_json::{Value, json};
use stage::{Stage, order};

fn with(field: &str, value: Value) -> Value {
    let mut order = order("order-1");
    order[field] = value;
    order
}

fn without(field: &str) -> Value {
    let mut order = order("order-1");
    order.as_object_mut().expect("an object").remove(field);
    order
}

fn with_line(line: Value) -> Value {
    with("lines", json!([line]))
}

#[tokio::test]
async fn a_request_that_cannot_mean_anything_is_told_so() {
    let stage = Stage::new().await;
    let create = "/api/create_payment_session";
    let cases = [
        (create, json!(null)),
        (create, json!([])),
        (create, json!({})),
        (create, without("client_reference_id")),
        (create, without("expires_at")),
        (create, with("surprise", json!(1))),
        (create, with("client_reference_id", json!(""))),
        (create, with("client_reference_id", json!("a/../b"))),
        (create, with("client_reference_id", json!("x".repeat(201)))),
        (create, with("amount", json!(0))),
        (create, with("amount", json!(-2599))),
        (create, with("amount", json!(25.99))),
        (create, with("amount", json!(2600))),
        (create, with("currency", json!("euro"))),
        (create, with("lines", json!([]))),
        (create, with("expires_at", json!("tomorrow"))),
        (create, with("expires_at", json!("2020-01-01T00:00:00Z"))),
        (create, with_line(json!({ "name": "", "quantity": 1, "unit_amount": 2599 }))),
        (create, with_line(json!({ "name": "Mug", "quantity": 0, "unit_amount": 2599 }))),
        (create, with_line(json!({ "name": "Mug", "quantity": -1, "unit_amount": 2599 }))),
        (create, with_line(json!({ "name": "Mug", "quantity": 1, "unit_amount": -2599 }))),
        (create, with_line(json!({ "name": "Mug", "quantity": 4_294_967_295_u32, "unit_amount": i64::MAX }))),
        ("/api/submit_payment", json!({})),
        ("/api/submit_payment", json!({ "session_id": 7 })),
        ("/api/expire_session", json!({})),
        ("/api/expire_session", json!({ "session_id": "cs_1", "client_reference_id": "order-1" })),
        ("/api/expire_session", json!({ "client_reference_id": "a b" })),
        ("/api/refund", json!({ "session_id": "cs_1" })),
        ("/api/refund", json!({ "session_id": "cs_1", "amount": 0 })),
        ("/api/faults", json!({ "fault": "nothing" })),
        ("/api/faults", json!({ "call": "webhook", "fault": "down" })),
    ];
    for (path, body) in cases {
        let (status, problem) = stage.post(path, &body).await;
        assert_eq!((status, &problem["code"]), (400, &json!("validation")), "{path} {body}: {problem}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    let (_, books) = stage.get("/api/books").await;
    assert_eq!(books, json!({ "data": [], "has_more": false }), "nothing was done");
}

#[rstest]
#[case::unknown_session("GET", "/api/session/cs_nobody", 404)]
#[case::unknown_path("GET", "/api/nothing", 404)]
#[case::no_action_by_get("GET", "/api/submit_payment", 405)]
#[case::no_action_by_get_on_the_page("DELETE", "/payment/cs_1", 405)]
#[case::no_body("POST", "/api/submit_payment", 415)]
#[case::no_key("POST", "/api/create_payment_session", 400)]
#[case::no_session_named("GET", "/api/events", 400)]
#[case::page_too_large("GET", "/api/books?limit=1001", 400)]
#[case::page_too_small("GET", "/api/books?limit=0", 400)]
#[tokio::test]
async fn a_refusal_is_a_problem_document(#[case] method: &str, #[case] path: &str, #[case] status: u16) {
    let stage = Stage::new().await;
    let method = method.parse().expect("a method");
    let answer = stage.http.request(method, format!("{}{path}", stage.base)).send().await.expect("an answer");
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
    assert_eq!(problem["status"], status);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let stage = Stage::new().await;
    let (status, problem) = stage.post("/api/submit_payment", &json!({ "session_id": "x".repeat(200_000) })).await;
    assert_eq!((status, &problem["code"]), (413, &json!("too_large")));
}

#[tokio::test]
async fn the_same_key_is_the_same_session() {
    let stage = Stage::new().await;
    let order = order("order-1");
    let create = |order: Value| {
        let stage = &stage;
        async move { stage.post_with_key("/api/create_payment_session", &order, "key-1").await }
    };
    let (first_status, first) = create(order.clone()).await;
    let (second_status, second) = create(order.clone()).await;
    assert_eq!((first_status, second_status), (201, 200));
    assert_eq!(first, second);
    assert_eq!((&first["status"], &first["amount"], &first["currency"]), (&json!("open"), &json!(2599), &json!("eur")));
    assert_eq!(first["url"], format!("{}/payment/{}", stage.base, first["session_id"].as_str().expect("an id")));

    let mut other = order;
    other["client_reference_id"] = json!("order-2");
    let (status, problem) = create(other).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_conflict")));
    let (_, books) = stage.get("/api/books").await;
    assert_eq!(books["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn many_at_once_with_one_key_get_one_session() {
    let stage = Stage::new().await;
    let order = order("order-1");
    let calls = (0..50).map(|_| stage.post_with_key("/api/create_payment_session", &order, "key-1"));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|(_, session)| session["session_id"] == answers[0].1["session_id"]));
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1);
}

#[tokio::test]
async fn who_pays_twice_is_charged_once() {
    let stage = Stage::new().await;
    let session = stage.session("order-1").await;
    let calls = (0..20).map(|_| stage.act("submit_payment", &session));
    for (status, answer) in futures_util::future::join_all(calls).await {
        assert_eq!((status, &answer["status"]), (200, &json!("paid")));
    }
    let books = stage.in_books(&session).await;
    assert_eq!(books["charges"].as_array().map(Vec::len), Some(1));
    assert_eq!(books["charges"][0]["amount"], 2599);
}

#[rstest]
#[case("submit_payment", "paid", "paid")]
#[case("decline_payment", "declined", "failed")]
#[case("cancel_payment", "cancelled", "cancelled")]
#[case("expire_session", "expired", "unpaid")]
#[tokio::test]
async fn a_decision_stays(#[case] call: &str, #[case] status: &str, #[case] payment_status: &str) {
    let stage = Stage::new().await;
    let session = stage.session("order-1").await;
    for _ in 0..2 {
        let (code, answer) = stage.act(call, &session).await;
        assert_eq!((code, &answer["status"], &answer["payment_status"]), (200, &json!(status), &json!(payment_status)));
    }
    for other in ["submit_payment", "decline_payment", "cancel_payment"].into_iter().filter(|other| *other != call) {
        let (code, problem) = stage.act(other, &session).await;
        assert_eq!((code, &problem["code"]), (409, &json!("session_not_open")), "{other} after {call}");
    }
    let (_, closed) = stage.act("expire_session", &session).await;
    assert_eq!(closed["status"], status, "closing tells what was decided");
    assert_eq!(stage.in_books(&session).await["status"], status);
}

#[tokio::test]
async fn a_session_expires_by_itself() {
    let stage = Stage::new().await;
    let mut order = order("order-1");
    order["expires_at"] = json!(now() + jiff::SignedDuration::from_millis(300));
    let (_, session) = stage.post("/api/create_payment_session", &order).await;
    let id = session["session_id"].as_str().expect("an id");
    let deadline = std::time::Instant::now() + stage::PATIENCE;
    while stage.get(&format!("/api/session/{id}")).await.1["status"] != "expired" {
        assert!(std::time::Instant::now() < deadline, "it never expired");
    }
    assert_eq!(stage.act("submit_payment", id).await.0, 409);
    assert_eq!(stage.in_books(id).await["charges"], json!([]));
}

#[tokio::test]
async fn a_reference_can_be_closed_before_and_after_its_session() {
    let stage = Stage::new().await;
    let close = |reference: &'static str| {
        let stage = &stage;
        async move { stage.post("/api/expire_session", &json!({ "client_reference_id": reference })).await }
    };
    assert_eq!(close("order-1").await, (200, json!({ "client_reference_id": "order-1", "status": "never_created" })));
    let (status, problem) = stage.post("/api/create_payment_session", &order("order-1")).await;
    assert_eq!((status, &problem["code"]), (410, &json!("reference_closed")));

    let open = stage.session("order-2").await;
    let (status, closed) = close("order-2").await;
    assert_eq!((status, &closed["session_id"], &closed["status"]), (200, &json!(open), &json!("expired")));

    let (paid, other) = (stage.session("order-3").await, stage.session("order-3").await);
    stage.act("submit_payment", &paid).await;
    let (_, closed) = close("order-3").await;
    assert_eq!((&closed["session_id"], &closed["status"]), (&json!(paid), &json!("paid")), "the paid one is told");
    assert_eq!(stage.in_books(&other).await["status"], "expired");
}

#[tokio::test]
async fn no_more_than_was_paid_goes_back() {
    let stage = Stage::new().await;
    let session = stage.session("order-1").await;
    let refund = |amount: i64, key: &'static str| {
        let (stage, body) = (&stage, json!({ "session_id": session, "amount": amount }));
        async move { stage.post_with_key("/api/refund", &body, key).await }
    };
    let (status, problem) = refund(100, "key-0").await;
    assert_eq!((status, &problem["code"]), (422, &json!("not_paid")));

    stage.act("submit_payment", &session).await;
    let (status, problem) = refund(2600, "key-0").await;
    assert_eq!((status, &problem["code"]), (422, &json!("refund_exceeds_payment")));
    let (status, first) = refund(2000, "key-1").await;
    assert_eq!((status, &first["status"]), (200, &json!("refunded")));
    assert_eq!(refund(2000, "key-1").await, (200, first), "the same key is the same refund");
    let (status, problem) = refund(1999, "key-1").await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_conflict")));
    let (status, problem) = refund(600, "key-2").await;
    assert_eq!((status, &problem["code"]), (422, &json!("refund_exceeds_payment")));
    assert_eq!(refund(599, "key-2").await.0, 200);

    let amounts: Vec<Value> = stage.in_books(&session).await["refunds"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|refund| refund["amount"].clone())
        .collect();
    assert_eq!(amounts, [json!(2000), json!(599)]);
}

#[tokio::test]
async fn the_books_are_read_page_by_page() {
    let stage = Stage::new().await;
    let mut opened = Vec::new();
    for number in 0..7 {
        opened.push(stage.session(&format!("order-{number}")).await);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = stage.get(&format!("/api/books?limit=3&after={after}")).await;
        let ids = page["data"].as_array().expect("a list").iter().map(|row| row["session_id"].as_str().expect("an id"));
        seen.extend(ids.map(ToOwned::to_owned));
        after = seen.last().expect("a page has rows").clone();
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen, opened);
}

#[tokio::test]
async fn the_payment_page_shows_the_truth_and_its_form_decides() {
    let stage = Stage::new().await;
    let session = stage.session("order-1").await;
    let url = format!("{}/payment/{session}", stage.base);
    let page = || async {
        let answer = stage.http.get(&url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.text().await.expect("a page")
    };
    let submit = |action: &'static str| stage.http.post(&url).form(&[("action", action)]).send();

    let open = page().await;
    assert!(open.contains("25.99") && open.contains("value=\"pay\""), "{open}");
    assert_eq!(submit("steal").await.expect("an answer").status(), 400);
    let answer = submit("pay").await.expect("an answer");
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], format!("/payment/{session}"));
    let paid = page().await;
    assert!(paid.to_lowercase().contains("paid") && !paid.contains("value=\"pay\""), "{paid}");
    assert_eq!(submit("cancel").await.expect("an answer").status(), 303, "too late: the page says so");
    assert_eq!(stage.in_books(&session).await["status"], "paid");

    let missing = stage.http.get(format!("{}/payment/cs_nobody", stage.base)).send().await.expect("an answer");
    assert_eq!(missing.status(), 404);
    assert!(missing.headers()["content-type"].to_str().expect("text").starts_with("text/html"));
}

#[tokio::test]
async fn a_customer_who_has_paid_is_sent_back_to_the_shop() {
    let stage = Stage::with(|config| config.shop_url = Some("http://shop.test/".into())).await;
    let session = stage.session("order-1").await;
    let post = stage.http.post(format!("{}/payment/{session}", stage.base)).form(&[("action", "pay")]);
    let answer = post.send().await.expect("an answer");
    assert_eq!(answer.headers()["location"], "http://shop.test/checkout/order-1");
}

#[tokio::test]
async fn the_fault_script_is_off_unless_asked_for() {
    let stage = Stage::with(|config| config.faults = false).await;
    let (status, problem) = stage.post("/api/faults", &json!({ "fault": "down" })).await;
    assert_eq!((status, &problem["code"]), (403, &json!("faults_off")));
    stage.session("order-1").await;
}

#[tokio::test]
async fn a_script_of_faults_is_played_in_its_order() {
    let stage = Stage::new().await;
    stage
        .fault(json!([
            { "call": "create_session", "fault": "error_500", "times": 1 },
            { "call": "create_session", "fault": "rate_limited", "times": 1 },
            { "call": "create_session", "fault": "refuse_400", "times": 1, "reference": "order-1" },
        ]))
        .await;
    let create = || async { stage.post("/api/create_payment_session", &order("order-1")).await.0 };
    assert_eq!([create().await, create().await, create().await, create().await], [500, 429, 400, 201]);
    let (_, rules) = stage.get("/api/faults").await;
    assert_eq!(rules["data"], json!([]));
}
