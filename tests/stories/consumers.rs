//! The number of consumers depends on how many services run, and on nothing else: a server has a limit of them.

use std::{collections::BTreeMap, time::Duration};

use common::streams::StreamName;
use futures_util::future::join_all;
use stories::{Service, Shop, eventually_within};

/// A consumer that a dead gateway has left is removed by the server after half a minute.
const LEFT_BEHIND: Duration = Duration::from_secs(90);

async fn consumers(shop: &Shop) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for stream in StreamName::ALL {
        let stream_of_shop = shop.nats.jetstream.get_stream(stream.as_str()).await.expect("a stream of the shop");
        counts.insert(stream.as_str(), stream_of_shop.cached_info().state.consumer_count);
    }
    counts
}

/// FN16: customers, watchers and long polls need none of their own, and restarts leave none behind.
#[tokio::test]
async fn customers_watchers_and_restarts_need_no_consumers_of_their_own() {
    let mut shop = Shop::open(crate::SERVICE).await;
    let before = consumers(&shop).await;
    let named = before[StreamName::Commands.as_str()];
    assert_eq!((named, before[StreamName::History.as_str()]), (1, 0), "{before:?}");

    let checkouts = join_all((0..30).map(|_| shop.checkout("NOTE-01", 1))).await;
    let url = |id: &str, tail: &str| format!("{}/api/checkout_session/{id}{tail}", shop.shop_url());
    let mut watchers = Vec::new();
    for checkout in &checkouts {
        let id = checkout["workflow_id"].as_str().expect("an id");
        watchers.push(shop.http.get(url(id, "/events")).send().await.expect("an answer"));
        watchers.push(shop.http.get(url(id, "?wait=0")).send().await.expect("an answer"));
    }
    assert_eq!(consumers(&shop).await, before, "under way");
    for checkout in &checkouts {
        shop.pay(checkout).await;
    }
    for checkout in &checkouts {
        shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    }
    drop(watchers);
    assert_eq!(consumers(&shop).await, before, "afterwards");

    for service in [Service::Worker(0), Service::Inventory(0), Service::Gateway(0)] {
        shop.kill(service);
        shop.start(service);
    }
    shop.until_ready().await;
    eventually_within(LEFT_BEHIND, "only the consumers of living services are left", async || {
        (consumers(&shop).await == before).then_some(())
    })
    .await;
    shop.is_healthy().await;
}
