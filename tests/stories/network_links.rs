//! Between a service and NATS the network is silent, slow, narrow or gone for a while. Nothing happens twice, and everything
//! that was accepted ends.
//!
//! On one server: in a cluster a service would simply go to another node.

use std::time::Duration;

use deploy::faulty_link::{FaultyLink, Flow};
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use stories::{Customers, SKU, Service, Shop, ShopOptions, eventually, eventually_within, permissions};

/// A server that says nothing is left after at most this long: two unanswered pings at 5 s, and what was under way then.
const NOTICED: Duration = Duration::from_secs(20);

/// What the server has sent into a silent connection goes to somebody else after the ack wait (10 s), twice at most: the
/// start, and the inventory's answer to it.
const DELIVERED_AGAIN: Duration = Duration::from_secs(60);

fn one_server() -> ShopOptions {
    ShopOptions { payment_timeout: "20s", answer_timeout: "5s", nodes: 1, ..ShopOptions::default() }
}

async fn link_to(shop: &Shop) -> FaultyLink {
    FaultyLink::open(shop.server.client_address()).await.expect("a link")
}

fn url(link: &FaultyLink) -> String {
    format!("nats://{}", link.address())
}

/// FN10, FN3: of two addresses one is dead at the start, and the connection goes to the other; when that falls silent, without
/// a reset, the first one is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_left_for_another_address() {
    let mut shop = Shop::open_with(crate::SERVICE, one_server()).await;
    let (first, second) = (link_to(&shop).await, link_to(&shop).await);
    first.refuse(true);
    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        shop.move_to(service, &format!("{},{}", url(&first), url(&second)));
    }
    shop.until_ready().await;
    let items = json!([{ "sku": SKU, "quantity": 1 }]);
    shop.post_checkout(Some("before"), &items).send().await.expect("an answer").error_for_status().expect("accepted");

    first.refuse(false);
    second.both_ways(Flow::Held);
    let patience = NOTICED * 2 + DELIVERED_AGAIN;
    let checkout = eventually_within(patience, "a start is accepted over the other address", async || {
        let answer = shop.post_checkout(Some("silent"), &items).send().await.expect("the gateway answers");
        let status = answer.status();
        assert!([201, 202, 503].contains(&status.as_u16()), "{status}");
        (status == StatusCode::CREATED).then_some(answer)
    })
    .await;
    let checkout: Value = checkout.json().await.expect("JSON");
    let id = checkout["workflow_id"].as_str().expect("an id");
    // What was held comes out, long after it was given up.
    second.heal();
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    assert_eq!(shop.books(id).await.len(), 1);
    shop.is_healthy().await;
}

/// FN10: the whole shop is started before its server. Every service waits; the gateway says that it lives and is not ready,
/// sends everybody away, and can be stopped. When the server comes, the shop opens without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_are_started_before_nats_wait_for_it() {
    let mut shop = Shop::open_with(crate::SERVICE, one_server()).await;
    shop.kill_all();
    shop.server.kill().expect("kill nats-server");
    shop.start_all();
    let items = json!([{ "sku": SKU, "quantity": 1 }]);
    let ask = |path: &str| shop.http.get(format!("{}{path}", shop.shop_url())).send();
    eventually("the gateway lives", async || {
        ask("/livez").await.is_ok_and(|it| it.status().is_success()).then_some(())
    })
    .await;
    let ready = ask("/readyz").await.expect("an answer");
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let reason: Value = ready.json().await.expect("JSON");
    assert_eq!(reason["code"], "not_ready", "{reason}");
    assert!(ask("/metrics").await.expect("an answer").status().is_success());
    let refused = shop.post_checkout(Some("too-early"), &items).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));

    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        eventually("it waits", async || shop.log_of(service).contains("tried again until it answers").then_some(()))
            .await;
        shop.signal(service, Signal::TERM);
        let status = shop.exit_status(service).await;
        assert!(status.success(), "{service:?} is stopped while it waits: {status}\n{}", shop.log_of(service));
        shop.start(service);
    }

    shop.server.restart().await.expect("start nats-server again");
    shop.until_ready().await;
    let checkout: Value = shop
        .post_checkout(Some("too-early"), &items)
        .send()
        .await
        .expect("an answer")
        .error_for_status()
        .expect("accepted")
        .json()
        .await
        .expect("JSON");
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        assert!(!shop.has_ended(service), "{service:?} has gone on from where it waited");
    }
    shop.is_healthy().await;
}

/// Waiting does not mend a wrong password: the service says so and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_a_wrong_password_does_not_wait() {
    let users = ShopOptions { permissions: Some(permissions()), ..one_server() };
    let mut shop = Shop::open_with(crate::SERVICE, users).await;
    let address = shop.server.client_url().replace("nats://", "");
    shop.move_to(Service::Worker(0), &format!("nats://worker:not-the-password@{address}"));
    let status = shop.exit_status(Service::Worker(0)).await;
    assert_eq!(status.code(), Some(1));
    let log = shop.log_of(Service::Worker(0));
    assert!(log.contains("authorization violation"), "{log}");
    assert!(!log.contains("not-the-password"), "the password does not stand in the log: {log}");
}

/// FN4: 300 ms there and back is slow, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_way_to_nats_is_slow_and_nothing_else() {
    let mut shop =
        Shop::open_with(crate::SERVICE, ShopOptions { answer_timeout: "10s", payment_timeout: "60s", ..one_server() })
            .await;
    let link = link_to(&shop).await;
    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        shop.move_to(service, &url(&link));
    }
    shop.until_ready().await;
    link.both_ways(Flow::Delayed(Duration::from_millis(150)));
    let customers = Customers::come(&shop, 4, &[0]).await;
    customers.until_served(12).await;
    let visits = customers.go_home().await;
    assert!(!visits.answers.contains_key(&503), "nobody is sent away: {:?}", visits.answers);
    link.heal();
    visits.end_well(&shop).await;
}

/// FN5: a line that hardly lets anything through: the gateway says so, and is itself again when the line is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrow_line_to_nats_makes_a_gateway_send_customers_away() {
    let mut shop = Shop::open_with(crate::SERVICE, one_server()).await;
    let link = link_to(&shop).await;
    shop.move_to(Service::Gateway(0), &url(&link));
    shop.until_ready().await;
    let customers = Customers::come(&shop, 6, &[0]).await;
    customers.until_served(5).await;
    link.both_ways(Flow::Throttled { bytes_per_second: 200 });
    let items = json!([{ "sku": SKU, "quantity": 1 }]);
    let mut number = 0;
    eventually("somebody is sent away", async || {
        number += 1;
        let answer = shop.post_checkout(Some(&format!("narrow-{number}")), &items).send().await.expect("an answer");
        let told_when = answer.headers().contains_key("retry-after");
        (answer.status() == StatusCode::SERVICE_UNAVAILABLE && told_when).then_some(())
    })
    .await;
    link.heal();
    customers.until_served(10).await;
    customers.go_home().await.end_well(&shop).await;
}

/// FN8: a worker calls the provider and is cut off from NATS meanwhile. Another one takes over with the same key, so that
/// there is one session; and what the first one comes back with changes nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_cut_off_while_it_calls_the_provider_is_overtaken() {
    let options = ShopOptions {
        payment_call_timeout: "60s",
        payment_timeout: "10m",
        ack_wait: Some(Duration::from_secs(3)),
        workers: 2,
        ..one_server()
    };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let link = link_to(&shop).await;
    shop.kill(Service::Worker(1));
    shop.move_to(Service::Worker(0), &url(&link));
    shop.fault(json!({ "call": "create_session", "fault": "slow", "millis": 8000, "times": 1 })).await;
    let items = json!([{ "sku": SKU, "quantity": 1 }]);
    let answer = shop.post_checkout(Some("cut-off"), &items).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED, "the provider is slower than the gateway waits");
    let answer: Value = answer.json().await.expect("JSON");
    let id = answer["workflow_id"].as_str().expect("an id").to_owned();
    assert_eq!(shop.event_types(&id).await.last(), Some(&"stock_reserved"), "the worker is at the provider");

    link.both_ways(Flow::Held);
    shop.start(Service::Worker(1));
    shop.until_status(&id, "awaiting_payment").await;
    // The first one has had its answer by now, and cannot tell anybody.
    tokio::time::sleep(Duration::from_secs(8)).await;
    link.heal();
    let again = shop.post_checkout(Some("cut-off"), &items).send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::CREATED);
    shop.pay(&again.json().await.expect("JSON")).await;
    shop.until_status(&id, "paid").await;
    assert_eq!(shop.books(&id).await.len(), 1);
    let events = shop.event_types(&id).await;
    assert_eq!(events.iter().filter(|event| event.contains("session")).count(), 1, "{events:?}");
    shop.is_healthy().await;
}

/// FN7: the server stands still for 8 s again and again. Every service stays, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_outlive_a_server_that_stands_still_again_and_again() {
    let mut shop = Shop::open_with(crate::SERVICE, one_server()).await;
    let customers = Customers::come(&shop, 3, &[0]).await;
    for _ in 0..3 {
        customers.until_served(5).await;
        shop.server.pause().expect("the server stands still");
        tokio::time::sleep(Duration::from_secs(8)).await;
        shop.server.resume().expect("the server goes on");
    }
    customers.until_served(5).await;
    customers.go_home().await.end_well(&shop).await;
    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        assert!(!shop.has_ended(service), "{service:?} has ended:\n{}", shop.logs());
    }
}
