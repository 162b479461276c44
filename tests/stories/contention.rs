//! Paying, cancelling and the deadline meet: whoever is first decides, once, and money and goods follow.

use std::time::Duration;

use common::time;
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

/// Checkouts of the great meeting; each is of one mug, and there are 100.
const CHECKOUTS: u64 = 30;

fn id(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

/// Cancel at a gateway; whatever it says.
async fn cancel(shop: &Shop, gateway: usize, id: &str) -> u16 {
    let url = format!("{}/api/checkout_session/{id}/cancel", shop.gateway_url(gateway));
    shop.http.post(url).send().await.expect("an answer").status().as_u16()
}

/// Wait until a number of steps of 20 ms before or after an instant; step 15 is the instant.
async fn until_step(instant: time::Timestamp, step: u64) {
    let start = instant - Duration::from_millis(300);
    tokio::time::sleep(time::until(time::after(
        start,
        Duration::from_millis(20) * u32::try_from(step).expect("a few"),
    )))
    .await;
}

/// Start a checkout, and about its deadline pay and cancel it, each at another gateway: sometimes one first, sometimes the
/// other, and every fifth time both at once.
async fn meet(shop: &Shop, number: u64) -> String {
    let gateway = usize::from(number.is_multiple_of(2));
    let items = json!([{ "sku": "MUG-01", "quantity": 1 }]);
    let answer = shop.post_checkout_at(gateway, None, &items).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    let checkout: Value = answer.json().await.expect("JSON");
    let id = id(&checkout);
    if number.is_multiple_of(2) {
        // This one's provider takes money even after it was asked not to.
        shop.fault(json!({ "call": "submit_payment", "fault": "pay_after_close", "reference": id })).await;
    }
    let deadline: time::Timestamp = checkout["expires_at"].as_str().expect("a deadline").parse().expect("a time");
    let pay = async {
        until_step(deadline, number).await;
        // Refused when the session has been closed by then.
        shop.sandbox("submit_payment", &json!({ "session_id": checkout["payment"]["session_id"] })).await;
    };
    let cancel = async {
        until_step(deadline, number * 7 % CHECKOUTS).await;
        cancel(shop, 1 - gateway, &id).await;
    };
    tokio::join!(pay, cancel);
    id
}

/// What the provider kept of a checkout: all that was charged less all that was given back.
async fn kept(shop: &Shop, id: &str) -> i64 {
    let books = shop.books(id).await;
    assert_eq!(books.len(), 1, "{id} has one session: {books:?}");
    assert!(books[0]["charges"].as_array().is_some_and(|charges| charges.len() <= 1), "{id}: {books:?}");
    let sum = |what: &str| -> i64 {
        let all = books[0][what].as_array().expect("a list");
        all.iter().map(|one| one["amount"].as_i64().expect("an amount")).sum()
    };
    sum("charges") - sum("refunds")
}

/// FT4, FA13: on two gateways and two workers.
#[tokio::test]
async fn paying_cancelling_and_the_deadline_meet_in_thirty_checkouts() {
    let options = ShopOptions { payment_timeout: "3s", workers: 2, gateways: 2, ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    let ids = join_all((0..CHECKOUTS).map(|number| meet(&shop, number))).await;

    let mut sold = 0;
    for id in &ids {
        shop.until(id, &format!("{id} has ended"), |view| {
            let ended = ["paid", "cancelled", "expired"].iter().any(|word| view["status"] == *word);
            ended && view["refund"] != "pending"
        })
        .await;
    }
    // A webhook that came last may have made one of them give money back after it had ended.
    eventually("every checkout has its price, or nothing", async || {
        sold = 0;
        for id in &ids {
            let is_paid = shop.view(id).await["status"] == "paid";
            let kept = kept(&shop, id).await;
            if kept != if is_paid { 1490 } else { 0 } {
                return None;
            }
            sold += u64::from(is_paid);
        }
        Some(())
    })
    .await;
    shop.until_idle().await;
    for id in &ids {
        let events = shop.event_types(id).await;
        let ends = events.iter().filter(|event| ["stock_sold", "stock_released"].contains(*event)).count();
        assert_eq!(ends, 1, "{id}: {events:?}");
        let charges = shop.books(id).await[0]["charges"].as_array().map_or(0, Vec::len);
        let receipts = events.iter().filter(|event| event.ends_with("payment_received")).count();
        assert_eq!(receipts, charges, "{id}: what was charged is recorded, and nothing else: {events:?}");
    }
    shop.until_stock("MUG-01", 100 - sold, 0, sold).await;
    assert_eq!(shop.dead_letters().await, 0);
    shop.is_healthy().await;
    let summary = shop.examine().await.summary;
    let sums = summary.money["eur"];
    assert_eq!((sums.kept, sums.under_way), (i128::from(sold) * 1490, 0));
    // It was a meeting: some were paid, some were not, and of those some had to give late money back.
    assert!((1..CHECKOUTS).contains(&sold) && sums.returned > 0, "{summary:?}");
}

/// Where a checkout stands when its customer cancels.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Reserving,
    OpeningPayment,
    ClosingPayment,
    Paying,
    Releasing,
    LateMoney,
}

/// FA13: cancelled at every step, it ends as it must, and nothing is held, kept or sold that should not be.
#[rstest]
#[case::while_the_stock_is_reserved(Moment::Reserving, "cancelled")]
#[case::while_the_payment_is_opened(Moment::OpeningPayment, "cancelled")]
#[case::while_it_expires(Moment::ClosingPayment, "expired")]
#[case::while_the_sale_is_booked(Moment::Paying, "paid")]
#[case::while_the_stock_goes_back(Moment::Releasing, "expired")]
#[case::while_late_money_goes_back(Moment::LateMoney, "expired")]
#[tokio::test]
async fn a_checkout_is_cancelled_at(#[case] moment: Moment, #[case] end: &str) {
    let payment_timeout = match moment {
        Moment::Reserving | Moment::OpeningPayment | Moment::Paying => "10m",
        Moment::ClosingPayment | Moment::Releasing | Moment::LateMoney => "1s",
    };
    let options = ShopOptions { payment_timeout, answer_timeout: "500ms", ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let id = reach(&mut shop, moment).await;
    let status = cancel(&shop, 0, &id).await;
    let expected = match moment {
        // The payment can be closed at once, so the answer may be the end.
        Moment::OpeningPayment => &[200, 202][..],
        Moment::LateMoney => &[409],
        Moment::Reserving | Moment::ClosingPayment | Moment::Paying | Moment::Releasing => &[202],
    };
    assert!(expected.contains(&status), "{status}");
    shop.no_faults().await;
    if !shop.is_running(Service::Inventory(0)) {
        shop.start(Service::Inventory(0));
    }

    let view =
        shop.until(&id, &format!("{id} is {end}"), |view| view["status"] == end && view["refund"] != "pending").await;
    assert_eq!(view["refund"] == "refunded", matches!(moment, Moment::LateMoney), "{view}");
    let sold = u64::from(end == "paid");
    shop.until_stock("MUG-01", 100 - sold, 0, sold).await;
    let charged = matches!(moment, Moment::Paying | Moment::LateMoney);
    for session in shop.books(&id).await {
        assert_eq!(session["charges"].as_array().map(Vec::len), Some(usize::from(charged)), "{session}");
        assert!(["expired", "paid"].contains(&session["status"].as_str().expect("a status")), "{session}");
    }
    shop.is_healthy().await;
}

/// Bring one checkout to a moment, and keep it there.
async fn reach(shop: &mut Shop, moment: Moment) -> String {
    let keep_from_inventory = |shop: &mut Shop| shop.kill(Service::Inventory(0));
    match moment {
        Moment::Reserving => {
            keep_from_inventory(shop);
            started(shop).await
        }
        Moment::OpeningPayment => {
            shop.fault(json!({ "call": "create_session", "fault": "lost_answer" })).await;
            let id = started(shop).await;
            until_recorded(shop, &id, "payment_step_failed").await;
            id
        }
        Moment::ClosingPayment => {
            shop.fault(json!({ "call": "expire_session", "fault": "down" })).await;
            let id = id(&shop.checkout("MUG-01", 1).await);
            until_recorded(shop, &id, "payment_step_failed").await;
            id
        }
        Moment::Paying => {
            let checkout = shop.checkout("MUG-01", 1).await;
            keep_from_inventory(shop);
            shop.pay(&checkout).await;
            until_recorded(shop, &id(&checkout), "payment_received").await;
            id(&checkout)
        }
        Moment::Releasing => {
            let id = id(&shop.checkout("MUG-01", 1).await);
            keep_from_inventory(shop);
            until_recorded(shop, &id, "payment_session_closed").await;
            id
        }
        Moment::LateMoney => {
            let checkout = shop.checkout("MUG-01", 1).await;
            shop.until_status(&id(&checkout), "expired").await;
            shop.fault(json!({ "call": "refund", "fault": "down" })).await;
            shop.fault(json!({ "call": "submit_payment", "fault": "pay_after_close" })).await;
            shop.pay(&checkout).await;
            until_recorded(shop, &id(&checkout), "late_payment_received").await;
            id(&checkout)
        }
    }
}

/// A checkout that was accepted, and is not open for payment yet.
async fn started(shop: &Shop) -> String {
    let answer =
        shop.post_checkout(None, &json!([{ "sku": "MUG-01", "quantity": 1 }])).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    id(&answer.json().await.expect("JSON"))
}

async fn until_recorded(shop: &Shop, id: &str, event: &str) {
    eventually(&format!("{id} records {event}"), async || shop.event_types(id).await.contains(&event).then_some(()))
        .await;
}
