//! FP11, FP12: on three nodes, the one that leads a stream dies or freezes while customers buy. Buying goes on, nothing that
//! was stored is lost or stored twice, and a frozen leader that wakes up changes nothing any more.

use std::time::Duration;

use common::streams::StreamName;
use rstest::rstest;
use stories::{Customers, Service, Shop, ShopOptions, Witness, connect_to_node, eventually, leader_of, replicas_agree};

fn three_nodes() -> ShopOptions {
    ShopOptions { payment_timeout: "20s", workers: 2, inventories: 2, gateways: 2, nodes: 3, ..ShopOptions::default() }
}

/// Which node leads a stream now.
async fn leading_node(shop: &Shop, stream: StreamName) -> usize {
    let leader = eventually("the stream has a leader", async || leader_of(&shop.nats, stream).await).await;
    shop.server.position(&leader).expect("a node of this shop")
}

/// Wait until another node leads, as a node that is well sees it.
async fn until_another_leads(shop: &Shop, stream: StreamName, lost: usize) {
    let observer = connect_to_node(shop, (lost + 1) % 3).await;
    eventually(&format!("another node than {lost} leads {}", stream.as_str()), async || {
        let leader = leader_of(&observer, stream).await?;
        (shop.server.position(&leader) != Some(lost)).then_some(())
    })
    .await;
}

#[rstest]
#[case::of_the_histories(StreamName::History)]
#[case::of_the_commands(StreamName::Commands)]
#[case::of_the_ledger(StreamName::Inventory)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buying_goes_on_when_the_leader_dies(#[case] stream: StreamName) {
    let mut shop = Shop::open_with(crate::SERVICE, three_nodes()).await;
    let lost = leading_node(&shop, stream).await;
    let witness = Witness::listen(&connect_to_node(&shop, (lost + 1) % 3).await.client).await;
    let customers = Customers::come(&shop, 3, &[0, 1]).await;
    customers.until_served(10).await;

    shop.server.node(lost).kill().expect("kill the leader");
    until_another_leads(&shop, stream, lost).await;
    customers.until_served(20).await;

    shop.server.node(lost).restart().await.expect("start the node again");
    customers.until_served(10).await;
    customers.go_home().await.end_well(&shop).await;
    replicas_agree(&shop).await;
    witness.finds_everything(&shop).await;
    no_service_has_ended(&mut shop);
}

#[rstest]
#[case::of_the_histories(StreamName::History)]
#[case::of_the_ledger(StreamName::Inventory)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_changes_nothing_when_it_wakes_up(#[case] stream: StreamName) {
    let mut shop = Shop::open_with(crate::SERVICE, three_nodes()).await;
    let frozen = leading_node(&shop, stream).await;
    let witness = Witness::listen(&connect_to_node(&shop, (frozen + 1) % 3).await.client).await;
    let customers = Customers::come(&shop, 3, &[0, 1]).await;
    customers.until_served(10).await;

    shop.server.node(frozen).pause().expect("freeze the leader");
    until_another_leads(&shop, stream, frozen).await;
    customers.until_served(20).await;

    shop.server.node(frozen).resume().expect("wake it up");
    customers.until_served(20).await;
    // And once more, only for moments, so that its clients have no time to leave it.
    for _ in 0..3 {
        shop.server.node(frozen).pause().expect("freeze the node");
        tokio::time::sleep(Duration::from_secs(3)).await;
        shop.server.node(frozen).resume().expect("wake it up");
        customers.until_served(5).await;
    }
    customers.go_home().await.end_well(&shop).await;
    replicas_agree(&shop).await;
    witness.finds_everything(&shop).await;
    no_service_has_ended(&mut shop);
}

/// Nobody had to start anything again.
fn no_service_has_ended(shop: &mut Shop) {
    for service in [0, 1].into_iter().flat_map(|n| [Service::Gateway(n), Service::Worker(n), Service::Inventory(n)]) {
        assert!(!shop.has_ended(service), "{service:?} has ended:\n{}", shop.logs());
    }
}
