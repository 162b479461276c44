//! What comes in that is not as it should be, and who else is told.

use std::time::Duration;

use async_nats::HeaderMap;
use common::{
    contracts::inventory::{RestockAnswer, StockAnswer, StockLevel},
    headers,
    subject::Subject,
};
use futures_util::StreamExt as _;
use inventory_service::Config;
use uuid::Uuid;

use crate::inventory_support::{Warehouse, balance, commit, reserve, restock, sku, workflow};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_cannot_be_read_is_parked_with_its_reason_and_the_others_go_on() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(Config::default()).await;
    let subject = Subject::InventoryCommand(Uuid::from_u128(7));
    warehouse.send_raw(subject.clone(), "teleport", br#"{"type":"teleport"}"#.to_vec()).await;
    warehouse.send(&restock(1, "MUG", 1)).await;
    warehouse.send(&reserve(1, &[("MUG", 1)])).await;
    assert_eq!(warehouse.answer(workflow(1), 1).await, StockAnswer::Reserved {});
    warehouse.all_commands_are_done().await;
    let parked = warehouse.dead_letters().await;
    assert_eq!(parked.len(), 1);
    let header = |name: async_nats::HeaderName| {
        parked[0].headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default()
    };
    assert_eq!(parked[0].payload.as_ref(), br#"{"type":"teleport"}"#);
    assert_eq!(header(headers::ORIGINAL_SUBJECT), subject.to_string());
    assert_eq!(header(headers::TYPE), "teleport");
    assert!(header(headers::REASON).contains("teleport"), "{}", header(headers::REASON));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contradiction_is_answered_with_a_refusal_and_parked_for_a_person() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(Config::default()).await;
    warehouse.send(&commit(1)).await;
    let answer = warehouse.answer(workflow(1), 1).await;
    assert!(matches!(&answer, StockAnswer::Refused { command, .. } if command == "commit"), "{answer:?}");
    warehouse.all_commands_are_done().await;
    assert_eq!(warehouse.dead_letters().await.len(), 1);
    let stored = warehouse.stored_entries().await;
    assert_eq!(stored.len(), 1, "the entry proves that the refusal was decided on the newest ledger");
    assert_eq!(stored[0].headers.get(headers::TYPE).map(|word| word.as_str()), Some("nothing_moved"));
    assert!(warehouse.movements().await.is_empty(), "nothing moved");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_tells_of_a_delivery_is_answered_where_they_wait_each_time() {
    let warehouse = Warehouse::open().await;
    let service = warehouse.start_service(Config::default()).await;
    let inbox = warehouse.nats.client.new_inbox();
    let mut answers = warehouse.nats.client.subscribe(inbox.clone()).await.expect("an inbox");
    let mut headers = HeaderMap::new();
    headers.insert(headers::ANSWER_TO, inbox.as_str());
    let booked = |available| RestockAnswer::Restocked {
        balance: StockLevel { sku: sku("MUG"), balance: balance(available, 0, 0) },
    };
    for (command, expected) in
        [(restock(1, "MUG", 5), Some(booked(5))), (restock(1, "MUG", 5), Some(booked(5))), (restock(1, "MUG", 6), None)]
    {
        let subject = Subject::InventoryCommand(Uuid::from_u128(1));
        let payload = serde_json::to_vec(&command).expect("writable");
        let ack =
            warehouse.nats.jetstream.publish_with_headers(subject.to_string(), headers.clone(), payload.into()).await;
        ack.expect("sent").await.expect("stored");
        let answer = tokio::time::timeout(Duration::from_secs(30), answers.next()).await.expect("an answer in time");
        let answer: RestockAnswer = serde_json::from_slice(&answer.expect("an answer").payload).expect("readable");
        match expected {
            Some(expected) => assert_eq!(answer, expected),
            None => assert!(matches!(answer, RestockAnswer::RestockRefused { .. }), "{answer:?}"),
        }
    }
    assert_eq!(warehouse.balance("MUG").await, balance(5, 0, 0));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_streams_is_refused_with_what_to_do() {
    let server = deploy::nats_server::NatsServer::start_for_test().await;
    let client = async_nats::connect(server.client_url()).await.expect("the test's own server answers");
    let nats = common::nats::Nats::new(client);
    let stop = tokio_util::sync::CancellationToken::new();
    let error = inventory_service::run(Config::default(), nats, stop).await.expect_err("it must not start");
    assert!(format!("{error:#}").contains("provision"), "{error:#}");
}
