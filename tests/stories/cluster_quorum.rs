//! FP13, FN9: on three nodes, too few can talk to each other. Nothing is accepted by those who are too few, whoever leads
//! and whoever asks; what the others accept is kept; when enough are back, everything goes on by itself.

use std::time::Duration;

use common::streams::StreamName;
use reqwest::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use stories::{
    Customers, SKU, Service, Shop, ShopOptions, Witness, connect_to_node, eventually, eventually_ok_within, leader_of,
    replicas_agree,
};

fn three_nodes() -> ShopOptions {
    ShopOptions {
        payment_timeout: "20s",
        answer_timeout: "5s",
        workers: 2,
        inventories: 2,
        gateways: 2,
        linked_nodes: true,
        ..ShopOptions::default()
    }
}

/// FP13: two of three are down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_alone_accepts_nothing_and_two_go_on() {
    let mut shop = Shop::open_with(crate::SERVICE, three_nodes()).await;
    let customers = Customers::come(&shop, 3, &[0, 1]).await;
    customers.until_served(10).await;

    shop.server.node(1).kill().expect("kill a node");
    shop.server.node(2).kill().expect("kill another node");
    for number in 0..4 {
        is_refused(&shop, number % 2, &format!("alone-{number}")).await;
    }

    shop.server.node(2).restart().await.expect("start a node again");
    customers.until_served(20).await;
    for number in 0..4 {
        until_accepted(&shop, &format!("alone-{number}")).await;
    }
    shop.server.node(1).restart().await.expect("start the other node again");
    customers.until_served(5).await;
    customers.go_home().await.end_well(&shop).await;
    replicas_agree(&shop).await;
}

/// FN9: the leader of the histories and of the commands is parted from the others, with a gateway and a worker at its side.
#[rstest]
#[case::by_silence(true)]
#[case::by_breaking_connections(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_parted_from_the_others_accepts_nothing(#[case] in_silence: bool) {
    let mut shop = Shop::open_with(crate::SERVICE, three_nodes()).await;
    let parted = leading_node(&shop, StreamName::History).await;
    lead(&shop, StreamName::Commands, parted).await;
    let rest: Vec<usize> = (0..3).filter(|node| *node != parted).collect();
    let url = |node: usize| shop.server.nodes()[node].client_url();
    let (lonely, well) = (url(parted), format!("{},{}", url(rest[0]), url(rest[1])));
    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        shop.move_to(service, &lonely);
    }
    for service in [Service::Gateway(1), Service::Worker(1), Service::Inventory(1)] {
        shop.move_to(service, &well);
    }
    shop.until_ready().await;
    let witness = Witness::listen(&connect_to_node(&shop, rest[0]).await.client).await;
    let lonely_witness = Witness::listen(&connect_to_node(&shop, parted).await.client).await;
    let customers = Customers::come(&shop, 3, &[1]).await;
    customers.until_served(10).await;

    if in_silence {
        shop.server.links().hold(parted)
    } else {
        shop.server.links().cut(parted)
    }
    for number in 0..4 {
        is_refused(&shop, 0, &format!("parted-{number}")).await;
    }
    // The others have elected leaders and go on.
    customers.until_served(30).await;

    shop.server.links().heal(parted);
    for number in 0..4 {
        until_accepted(&shop, &format!("parted-{number}")).await;
    }
    customers.until_served(10).await;
    customers.go_home().await.end_well(&shop).await;
    replicas_agree(&shop).await;
    witness.finds_everything(&shop).await;
    lonely_witness.finds_everything(&shop).await;
}

/// A start gets 503, and is not accepted by that.
async fn is_refused(shop: &Shop, gateway: usize, key: &str) {
    let items = json!([{ "sku": SKU, "quantity": 1 }]);
    let what = format!("gateway {gateway} refuses {key}");
    // Connections of the gateway to nodes that have died may still be found broken: then nobody answers at first.
    let answer = eventually(&what, async || shop.post_checkout_at(gateway, Some(key), &items).send().await.ok()).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{:?}", answer.text().await);
    assert!(answer.headers().contains_key("retry-after"));
}

/// The same key is accepted now: it has one session, or has ended by itself.
async fn until_accepted(shop: &Shop, key: &str) {
    let items = json!([{ "sku": SKU, "quantity": 1 }]);
    let (status, answer) = eventually_ok_within(Duration::from_secs(90), &format!("{key} is accepted"), async || {
        let answer = shop.post_checkout_at(0, Some(key), &items).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        match status {
            StatusCode::CREATED | StatusCode::CONFLICT | StatusCode::BAD_GATEWAY => Ok((status, answer)),
            other => Err(format!("{other} {answer}")),
        }
    })
    .await;
    let sessions = shop.books(answer["workflow_id"].as_str().expect("an id")).await.len();
    if status == StatusCode::CREATED {
        assert_eq!(sessions, 1, "{key}: {answer}");
        return;
    }
    // What was stored after its refusal may even have ended, as nobody has paid it; where the servers took longer to agree
    // than there is time to pay, without a session.
    let ended = answer["checkout_status"].as_str();
    assert!(matches!(ended, Some("expired" | "payment_unavailable")), "{key}: {answer}");
    assert!(sessions <= 1, "{key}: {answer}");
}

async fn leading_node(shop: &Shop, stream: StreamName) -> usize {
    let leader = eventually("the stream has a leader", async || leader_of(&shop.nats, stream).await).await;
    shop.server.position(&leader).expect("a node of this shop")
}

/// Make a node the leader of a stream.
async fn lead(shop: &Shop, stream: StreamName, node: usize) {
    let name = shop.server.nodes()[node].start_options().config.server_name.clone();
    let request = json!({ "placement": { "preferred": name } }).to_string();
    eventually(&format!("{name} leads {}", stream.as_str()), async || {
        if leader_of(&shop.nats, stream).await? == name {
            return Some(());
        }
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{}", stream.as_str());
        let _ = shop.nats.client.request(subject, request.clone().into()).await;
        None
    })
    .await;
}
