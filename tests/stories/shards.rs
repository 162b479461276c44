//! Histories and commands in several streams: nothing but a number at provisioning. Everything that is done to checkouts works
//! the same, by every service and tool.

use std::collections::BTreeMap;

use common::{
    ids::WorkflowId,
    shards::Shards,
    streams::{Durability, Placement, StreamName},
};
use deploy::provision::{provision, shards_there};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

use crate::{
    dead_letters::dead_letters,
    replayed::{a_busy_day, replay},
};

fn shards(number: u8) -> Shards {
    number.to_string().parse().expect("a number of shards")
}

fn id(checkout: &Value) -> &str {
    checkout["workflow_id"].as_str().expect("an id")
}

/// How many histories there are in each stream, as the server lists them.
async fn histories(shop: &Shop) -> BTreeMap<&'static str, u64> {
    let mut counted = BTreeMap::new();
    for part in shop.nats.shards.streams(StreamName::History) {
        let stream = shop.nats.jetstream.get_stream(part.as_str()).await.expect("a part of the histories");
        // On three nodes there are subjects of proofs beside them.
        let listed = stream.info_with_subjects("history.>").await.expect("a list of subjects");
        counted.insert(part.as_str(), listed.count().await as u64);
    }
    counted
}

/// Every way of a checkout, with two of everything, and a worker, an inventory and a gateway that die in the middle.
#[tokio::test]
async fn a_shop_in_four_parts_does_what_one_in_one_part_does() {
    let options = ShopOptions { shards: shards(4), workers: 2, inventories: 2, gateways: 2, ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, ShopOptions { first_worker_first: true, ..options }).await;
    a_busy_day(&shop).await;
    let mut waiting = Vec::new();
    for _ in 0..24 {
        waiting.push(shop.checkout("TEE-01", 1).await);
    }
    shop.kill(Service::Worker(0));
    shop.kill(Service::Inventory(0));
    shop.kill(Service::Gateway(1));
    for (checkout, number) in waiting.iter().zip(0..) {
        match number % 3 {
            0 => shop.pay(checkout).await,
            1 => shop.at_provider("decline_payment", checkout).await,
            _ => {
                let url = format!("{}/api/checkout_session/{}/cancel", shop.shop_url(), id(checkout));
                shop.http.post(url).send().await.expect("an answer");
            }
        }
    }
    for service in [Service::Worker(0), Service::Inventory(0), Service::Gateway(1)] {
        shop.start(service);
    }
    shop.until_ready().await;
    for (checkout, number) in waiting.iter().zip(0..) {
        shop.until_status(id(checkout), ["paid", "declined", "cancelled"][number % 3]).await;
    }
    shop.until_stock("TEE-01", 52, 0, 8).await;
    shop.until_idle().await;

    let histories = histories(&shop).await;
    assert_eq!(histories.keys().copied().collect::<Vec<_>>(), ["HISTORY", "HISTORY_1", "HISTORY_2", "HISTORY_3"]);
    assert!(histories.values().all(|count| *count > 0), "{histories:?}");
    shop.is_healthy().await;
    let (replayed, is_as_it_was) = replay(&shop, &["--all"]).await;
    assert!(is_as_it_was, "{replayed}");
    let of_kinds = replayed["histories"].as_object().expect("histories of each kind");
    let read: u64 = of_kinds.values().filter_map(Value::as_u64).sum();
    assert_eq!(read, histories.values().sum::<u64>(), "{replayed}");
}

/// One key is one checkout, whichever part it is in and whichever gateway is asked.
#[tokio::test]
async fn one_key_is_one_checkout_in_any_part() {
    let options = ShopOptions { shards: shards(3), gateways: 2, ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    for number in 0..9 {
        let key = format!("key-{number}");
        let ask = async |gateway: usize, quantity: u32| {
            let items = json!([{ "sku": "TEE-01", "quantity": quantity }]);
            shop.post_checkout_at(gateway, Some(&key), &items).send().await.expect("an answer")
        };
        let (first, second) = tokio::join!(ask(0, 1), ask(1, 1));
        let (first, second): (Value, Value) = (first.json().await.expect("JSON"), second.json().await.expect("JSON"));
        assert_eq!(id(&first), id(&second));
        assert_eq!(ask(1, 2).await.status(), 422);
    }
    shop.until_stock("TEE-01", 51, 9, 0).await;
    shop.is_healthy().await;
}

/// The sweep looks into every part: all wake-up calls are lost, and every deadline is kept.
#[tokio::test]
async fn what_is_forgotten_is_found_in_every_part() {
    let worker_flags = &["--sweep-interval=300ms", "--forgotten-after=1s"];
    let options = ShopOptions { shards: shards(4), worker_flags, payment_timeout: "3s", ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let mut forgotten = Vec::new();
    for _ in 0..12 {
        forgotten.push(shop.checkout("TEE-01", 1).await);
    }
    shop.kill(Service::Worker(0));
    shop.lose(StreamName::Timers, "timer.checkout.*").await;
    shop.lose(StreamName::Timers, "timer.group.*").await;
    shop.lose(StreamName::Timers, "due.>").await;
    shop.start(Service::Worker(0));
    for checkout in &forgotten {
        shop.until_status(id(checkout), "expired").await;
    }
    shop.until_stock("TEE-01", 60, 0, 0).await;
    shop.is_healthy().await;
}

/// A command that no worker can serve is parked from the part that it was in, and is driven again into that part.
#[tokio::test]
async fn what_is_parked_is_driven_again_into_its_part() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { shards: shards(2), ..ShopOptions::default() }).await;
    let in_the_second = std::iter::repeat_with(WorkflowId::random).find(|id| shop.nats.shards.of(*id).place() == 1);
    let subject = format!("command.1.checkout.{}", in_the_second.expect("every other id is"));
    shop.store(&subject, "not a command".to_owned()).await;
    let parked = shop.until_parked(1).await;
    assert_eq!(parked[0].original_subject, subject);
    let redriven = dead_letters(&shop, &["redrive", "--all", "--because", "a test"]);
    assert!(redriven.status.success(), "{redriven:?}");
    let parked = eventually("it is parked again", async || {
        let parked = shop.parked().await;
        (parked.len() == 2).then_some(parked)
    })
    .await;
    assert_eq!(parked[1].original_subject, subject);
}

/// How many parts there are is decided once: otherwise histories would be looked for where they are not.
#[tokio::test]
async fn the_number_of_parts_cannot_be_changed() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { shards: shards(2), ..ShopOptions::default() }).await;
    assert_eq!(shards_there(&shop.nats).await, shards(2));
    let wanted = |number| Placement {
        replicas: shop.server.replicas(),
        storage_bytes: 1 << 28,
        durability: Durability::SyncAlways,
        shards: shards(number),
    };
    for other in [1, 3] {
        let refused = provision(&shop.nats, &wanted(other)).await.expect_err("another number");
        assert!(format!("{refused:#}").contains("are in 2 parts, not in"), "{refused:#}");
    }
    provision(&shop.nats, &wanted(2)).await.expect("the same number");
}
