//! Crowds of connections: too many, too slow, deaf, or with too much to say. The gateway's memory stays bounded, it says
//! that it is alive, customers are served, and everything that a crowd has taken is free again when it has gone.

use std::time::Duration;

use common::service::open_files;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use stories::{Footprint, Service, Shop, ShopOptions, dribble, eventually_within, exchange};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);

const MEGABYTE: u64 = 1024 * 1024;

async fn open(gateway_flags: &'static [&'static str]) -> (Shop, Footprint) {
    open_files::allow_most().expect("connections for the crowd");
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { gateway_flags, ..ShopOptions::default() }).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    shop.until_idle().await;
    let before = shop.footprint(Service::Gateway(0));
    (shop, before)
}

async fn crowd(shop: &Shop, count: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::with_capacity(count);
    for _ in 0..count {
        crowd.push(shop.connect(0).await.expect("a connection is taken"));
    }
    crowd
}

/// A customer who comes in the middle of it is served to the end.
async fn a_customer_is_served(shop: &Shop) {
    let checkout = shop.checkout("NOTE-01", 1).await;
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    let live = shop.http.get(format!("{}/livez", shop.shop_url())).send().await.expect("an answer");
    assert_eq!(live.status(), StatusCode::OK);
}

/// The memory that a crowd has cost at its worst.
fn cost(shop: &Shop, before: Footprint) -> u64 {
    let now = shop.footprint(Service::Gateway(0));
    println!("before {before:?}, now {now:?}");
    now.peak_memory.saturating_sub(before.memory)
}

/// Nothing of the crowd is left.
async fn all_gone(shop: &Shop, before: Footprint) {
    eventually_within(PATIENCE, "the crowd's connections are closed", async || {
        // The story's own client keeps some connections open.
        (shop.footprint(Service::Gateway(0)).open_files <= before.open_files + 20).then_some(())
    })
    .await;
    shop.is_healthy().await;
}

/// FX3: two thousand clients keep their connections, and the next one is served.
#[tokio::test]
async fn two_thousand_connections_are_served() {
    let (shop, before) = open(&["--rate-limit=0"]).await;
    let mut crowd = crowd(&shop, 2_000).await;
    let request = "GET /api/products/MUG-01 HTTP/1.1\r\nhost: shop\r\n\r\n";
    let answers = join_all(crowd.iter_mut().map(|connection| exchange(connection, request, PATIENCE))).await;
    let served = answers.iter().flatten().filter(|answer| answer.starts_with("HTTP/1.1 200")).count();
    assert_eq!(served, 2_000);
    a_customer_is_served(&shop).await;
    let cost = cost(&shop, before);
    assert!(cost < 128 * MEGABYTE, "{cost} bytes");
    // They say nothing more: unused connections are closed.
    all_gone(&shop, before).await;
}

/// FX3: beyond what it serves it says when to come back, and that it is alive.
#[tokio::test]
async fn connections_beyond_the_cap_are_told_to_come_back() {
    let (shop, before) = open(&["--http-max-connections=200", "--http-idle-timeout=20s"]).await;
    // Connections of the story's own client count, too.
    let mut served = crowd(&shop, 200).await;
    let request = "GET /api/products/MUG-01 HTTP/1.1\r\nhost: shop\r\n\r\n";
    let answers = join_all(served.iter_mut().map(|connection| exchange(connection, request, PATIENCE))).await;
    assert!(answers.iter().flatten().filter(|answer| answer.starts_with("HTTP/1.1 200")).count() > 150);
    for _ in 0..300 {
        let mut late = shop.connect(0).await.expect("a connection is taken");
        let answer = exchange(&mut late, request, PATIENCE).await.expect("an answer").to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after: "), "{answer}");
    }
    let mut probe = shop.connect(0).await.expect("a connection is taken");
    let alive = exchange(&mut probe, "GET /livez HTTP/1.1\r\nhost: shop\r\n\r\n", PATIENCE).await.expect("an answer");
    assert!(alive.starts_with("HTTP/1.1 200"), "being full is no reason to be restarted: {alive}");
    drop((served, probe));
    eventually_within(PATIENCE, "there is room again", async || {
        let products = shop.http.get(format!("{}/api/products", shop.shop_url())).send().await.ok()?;
        (products.status() == 200).then_some(())
    })
    .await;
    a_customer_is_served(&shop).await;
    all_gone(&shop, before).await;
}

/// FA7: a thousand heads and a thousand bodies that come byte by byte are cut off, and nobody else waits for them.
#[tokio::test]
async fn heads_and_bodies_that_come_byte_by_byte_are_cut_off() {
    let (shop, before) = open(&["--http-idle-timeout=5s"]).await;
    let (mut heads, mut bodies) = (crowd(&shop, 1_000).await, crowd(&shop, 1_000).await);
    let head = "POST /api/checkout_session HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n";
    for connection in &mut heads {
        connection.write_all(head.as_bytes()).await.expect("send");
    }
    let body = format!("{head}content-length: 1000\r\n\r\n{{");
    for connection in &mut bodies {
        connection.write_all(body.as_bytes()).await.expect("send");
    }
    let (every, most) = (Duration::from_secs(1), Duration::from_secs(40));
    let slow_heads = join_all(heads.iter_mut().map(|connection| dribble(connection, b"x", every, most)));
    let slow_bodies = join_all(bodies.iter_mut().map(|connection| dribble(connection, b" ", every, most)));
    let (heads_cut, bodies_cut, ()) = tokio::join!(slow_heads, slow_bodies, a_customer_is_served(&shop));
    let cut = |outcomes: &[bool]| outcomes.iter().filter(|is_cut| **is_cut).count();
    assert_eq!((cut(&heads_cut), cut(&bodies_cut)), (1_000, 1_000), "all were cut off");
    let cost = cost(&shop, before);
    assert!(cost < 128 * MEGABYTE, "{cost} bytes");
    all_gone(&shop, before).await;
}

/// FX3: clients that ask and never read hold their connections for as long as is allowed, and no longer.
#[tokio::test]
async fn clients_that_do_not_read_are_let_go() {
    let (shop, before) = open(&["--rate-limit=0", "--http-write-timeout=3s"]).await;
    let mut deaf = crowd(&shop, 100).await;
    let requests = "GET /api/products HTTP/1.1\r\nhost: shop\r\n\r\n".repeat(5_000);
    let asking = join_all(deaf.iter_mut().map(|connection| {
        // The gateway stops reading when its answers are not taken; the rest is never sent.
        tokio::time::timeout(Duration::from_secs(3), connection.write_all(requests.as_bytes()))
    }));
    let (_, ()) = tokio::join!(asking, a_customer_is_served(&shop));
    let cost = cost(&shop, before);
    assert!(cost < 128 * MEGABYTE, "{cost} bytes");
    all_gone(&shop, before).await;
    drop(deaf);
}

/// Watchers of events and long polls that do not read cost little, do not hold up the checkout, and end with it.
#[tokio::test]
async fn watchers_that_do_not_read_hold_nobody_up() {
    let (shop, before) = open(&["--rate-limit=0"]).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    let mut watchers = crowd(&shop, 400).await;
    for (number, watcher) in watchers.iter_mut().enumerate() {
        let tail = if number % 2 == 0 { "/events" } else { "?wait=10" };
        let request = format!("GET /api/checkout_session/{id}{tail} HTTP/1.1\r\nhost: shop\r\n\r\n");
        watcher.write_all(request.as_bytes()).await.expect("send");
    }
    shop.pay(&checkout).await;
    let view: Value = shop.until_status(id, "paid").await;
    assert_eq!(view["status"], "paid");
    a_customer_is_served(&shop).await;
    let cost = cost(&shop, before);
    assert!(cost < 128 * MEGABYTE, "{cost} bytes");
    all_gone(&shop, before).await;
    drop(watchers);
}

/// FA5, FX3: large bodies that stop just before their end share one bound; what goes beyond it is told to come back.
#[tokio::test]
async fn large_bodies_that_never_end_share_one_bound() {
    let (shop, before) = open(&[]).await;
    let mut crowd = crowd(&shop, 600).await;
    let length = 250 * 1024;
    let head = format!(
        "POST /payment_webhook HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let almost = format!("{head}{}", " ".repeat(length - 1));
    let sending = join_all(crowd.iter_mut().map(|connection| exchange(connection, &almost, PATIENCE)));
    let (answers, ()) = tokio::join!(sending, a_customer_is_served(&shop));
    let count = |status: &str| answers.iter().flatten().filter(|answer| answer.starts_with(status)).count();
    let (shed, too_slow) = (count("HTTP/1.1 503"), count("HTTP/1.1 408"));
    println!("{shed} were shed, {too_slow} took too long");
    assert!(shed > 0 && too_slow > 0, "{shed} were shed, {too_slow} took too long");
    let cost = cost(&shop, before);
    assert!(cost < 192 * MEGABYTE, "{cost} bytes of {} sent", 600 * length);
    all_gone(&shop, before).await;
}
