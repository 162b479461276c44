//! An operator gives the money of a paid checkout back.

use common::{
    contracts::{
        inventory::Movement,
        refund::{RefundEvent, refund_of},
    },
    ids::{WorkflowKind, WorkflowRef},
    nats::read,
    record::Record,
};
use serde_json::json;
use stories::{ALICE_TOKEN, OPERATOR_TOKEN, Shop};

#[tokio::test]
async fn an_operator_refunds_a_paid_checkout_once() {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let refund = async |token: &str| {
        let url = format!("{}/api/checkout_session/{id}/refund", shop.shop_url());
        let request = shop.http.post(url).bearer_auth(token).json(&json!({ "reason": "arrived broken" }));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(refund(OPERATOR_TOKEN).await, 409, "it is not paid yet");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    assert!([401, 403].contains(&refund("somebody-else").await));
    assert!([200, 202].contains(&refund(OPERATOR_TOKEN).await));
    assert!([200, 202].contains(&refund(OPERATOR_TOKEN).await));
    shop.until(id, "the money has gone back", |view| view["refund"] == "refunded").await;
    assert_eq!(shop.view(id).await["status"], "paid");
    let books = shop.books(id).await;
    assert_eq!(books[0]["refunds"].as_array().map(Vec::len), Some(1));
    assert_eq!(books[0]["refunds"][0]["amount"], 2980);
    shop.until_stock("MUG-01", 98, 0, 2).await;
    shop.is_healthy().await;
}

/// I10: who gave money back and who booked goods stands where it happened, with the time, for ever; also when somebody else
/// asks for the same again.
#[tokio::test]
async fn what_operators_do_is_recorded_with_their_name() {
    let shop = Shop::open(crate::SERVICE).await;
    let restock = async |token: &str| {
        let url = format!("{}/api/products/MUG-01/restock", shop.shop_url());
        let request = shop.http.post(url).bearer_auth(token).header("Idempotency-Key", "delivery-1");
        request.json(&json!({ "quantity": 5 })).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!([restock(ALICE_TOKEN).await, restock(OPERATOR_TOKEN).await], [200, 200]);
    let by_whom = |movement: Movement| match movement {
        Movement::Restocked { line, by, .. } if line.sku.as_str() == "MUG-01" => Some(by.map(|by| by.to_string())),
        _ => None,
    };
    let booked: Vec<Option<String>> = shop.movements().await.into_iter().filter_map(by_whom).collect();
    assert_eq!(booked, [None, Some("alice".into())], "the catalogue's first delivery, and one of alice's");

    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    for token in [ALICE_TOKEN, OPERATOR_TOKEN] {
        let url = format!("{}/api/checkout_session/{id}/refund", shop.shop_url());
        let request = shop.http.post(url).bearer_auth(token).json(&json!({ "reason": "arrived broken" }));
        assert!([200, 202].contains(&request.send().await.expect("an answer").status().as_u16()));
    }
    let refund = WorkflowRef { kind: WorkflowKind::Refund, id: refund_of(id.parse().expect("a workflow id")) };
    let first = read::history(&shop.nats, refund).await.expect("a history").swap_remove(0);
    let record: Record<RefundEvent> = Record::from_bytes(&first.payload).expect("a record");
    let [RefundEvent::RefundRequested { by, reason, .. }] = &record.events[..] else { panic!("{record:?}") };
    assert_eq!((by.as_ref().map(|by| by.as_str()), reason.as_str()), (Some("alice"), "arrived broken"));
    shop.is_healthy().await;
}
