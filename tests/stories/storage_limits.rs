//! A stream reaches its limit: nothing is said to be stored that is not, new checkouts are refused while there is still
//! room for the ends of those that run, and when the limit is raised everything goes on.

use std::time::Duration;

use common::streams::StreamName;
use futures_util::future::join_all;
use reqwest::Response;
use rstest::rstest;
use serde_json::{Value, json};
use stories::{Service, Shop, ShopOptions, eventually};

fn id(checkout: &Value) -> &str {
    checkout["workflow_id"].as_str().expect("an id")
}

async fn ask(shop: &Shop, key: &str) -> Response {
    shop.post_checkout(Some(key), &json!([{ "sku": "NOTE-01", "quantity": 1 }])).send().await.expect("an answer")
}

/// 503 as a problem document that says when to come back.
async fn assert_refused(answer: Response) {
    let (status, retry) = (answer.status(), answer.headers().contains_key("retry-after"));
    let problem: Value = answer.json().await.expect("a problem document");
    assert_eq!((status.as_u16(), &problem["code"], retry), (503, &json!("unavailable"), true), "{problem}");
}

/// Why a gateway says that it is not ready; `None` when it is.
async fn not_ready(shop: &Shop) -> Option<String> {
    let answer = shop.http.get(format!("{}/readyz", shop.shop_url())).send().await.expect("an answer");
    let is_ready = answer.status() == 200;
    let body: Value = answer.json().await.expect("JSON");
    (!is_ready).then(|| body["detail"].as_str().unwrap_or_default().to_owned())
}

/// Checkouts that have come and gone, so that the streams hold something.
async fn past_checkouts(shop: &Shop, count: usize) {
    for _ in 0..count / 20 {
        join_all((0..20).map(async |_| {
            let checkout = shop.checkout("MUG-01", 1).await;
            let url = format!("{}/api/checkout_session/{}/cancel", shop.shop_url(), id(&checkout));
            shop.http.post(url).send().await.expect("an answer");
            shop.until_status(id(&checkout), "cancelled").await;
        }))
        .await;
    }
}

async fn limit_to_percent(shop: &Shop, stream: StreamName, percent: u64) -> i64 {
    let limit = shop.bytes_in(stream).await * 100 / percent;
    shop.limit(stream, i64::try_from(limit).expect("a small stream")).await
}

/// FD2, G10: the last part of a stream is for those that run.
#[rstest]
#[tokio::test]
async fn when_a_stream_is_almost_full_new_checkouts_are_refused_and_those_that_run_come_to_their_end(
    #[values(StreamName::History, StreamName::Inventory)] stream: StreamName,
) {
    let shop = Shop::open(crate::SERVICE).await;
    past_checkouts(&shop, 100).await;
    let open = join_all((0..4).map(|_| shop.checkout("NOTE-01", 1))).await;
    shop.until_idle().await;
    let limit = limit_to_percent(&shop, stream, 91).await;
    let reason = eventually("the gateway sees that there is little room", async || not_ready(&shop).await).await;
    assert!(reason.contains(stream.as_str()) && reason.contains("% full"), "{reason}");
    let commands = shop.messages_ever_in(StreamName::Commands).await;
    assert_refused(ask(&shop, "too-late").await).await;
    assert_eq!(shop.messages_ever_in(StreamName::Commands).await, commands, "nothing was stored for it");

    for checkout in &open[..3] {
        shop.pay(checkout).await;
    }
    for checkout in &open[..3] {
        shop.until_status(id(checkout), "paid").await;
    }
    let url = format!("{}/api/checkout_session/{}/cancel", shop.shop_url(), id(&open[3]));
    assert!(shop.http.post(url).send().await.expect("an answer").status().is_success());
    shop.until_status(id(&open[3]), "cancelled").await;
    assert!(not_ready(&shop).await.is_some(), "still");

    shop.limit(stream, limit).await;
    eventually("the gateway sees that there is room", async || not_ready(&shop).await.is_none().then_some(())).await;
    assert_eq!(ask(&shop, "too-late").await.status(), 201, "the same key is served now");
    shop.is_healthy().await;
}

/// FD2, G10: starts that wait for a worker leave room in their stream for the inventory's answers, so whatever was
/// accepted comes to its end.
#[tokio::test]
async fn starts_that_wait_leave_room_for_the_answers() {
    let options = ShopOptions { answer_timeout: "500ms", payment_timeout: "2s", ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    // The worker is told the stock before it dies; what it had not taken would wait for it.
    shop.until_idle().await;
    shop.kill(Service::Worker(0));
    shop.limit(StreamName::Commands, 40_000).await;
    let mut accepted = Vec::new();
    let reason = eventually("the commands have little room", async || {
        let round = accepted.len();
        let answers = join_all((0..10).map(async |number| ask(&shop, &format!("{round}-{number}")).await)).await;
        for answer in answers {
            match answer.status().as_u16() {
                202 => accepted.push(id(&answer.json().await.expect("JSON")).to_owned()),
                // There is no room any more, or a busy machine did not store it in time.
                503 => assert_refused(answer).await,
                other => panic!("{other}: {:?}", answer.text().await),
            }
        }
        not_ready(&shop).await.filter(|reason| reason.contains("COMMANDS") && reason.contains("% full"))
    })
    .await;
    println!("{} were accepted; {reason}", accepted.len());
    assert_refused(ask(&shop, "too-late").await).await;
    assert!(accepted.len() > 20, "{}", accepted.len());

    shop.start(Service::Worker(0));
    for id in &accepted {
        shop.until_status(id, "expired").await;
    }
    eventually("there is room again", async || not_ready(&shop).await.is_none().then_some(())).await;
    shop.is_healthy().await;
}

/// FD2: without any room left, nothing is lost, and everything goes on when the limit is raised.
#[rstest]
#[tokio::test]
async fn a_stream_that_is_full_loses_nothing_and_everything_goes_on_when_its_limit_is_raised(
    #[values(
        StreamName::History,
        StreamName::Inventory,
        StreamName::Webhooks,
        StreamName::Commands,
        StreamName::InventoryCommands
    )]
    stream: StreamName,
) {
    let shop = Shop::open(crate::SERVICE).await;
    let first = shop.checkout("MUG-01", 1).await;
    shop.pay(&first).await;
    shop.until_status(id(&first), "paid").await;
    let open = join_all((0..3).map(|_| shop.checkout("MUG-01", 1))).await;
    shop.until_idle().await;
    if let StreamName::Commands | StreamName::InventoryCommands = stream {
        shop.until_taken_out(stream).await;
    }
    let full = i64::try_from(shop.bytes_in(stream).await).expect("a small stream").max(1);
    let limit = shop.limit(stream, full).await;

    for checkout in &open {
        shop.pay(checkout).await;
    }
    if full > 1 {
        // An empty queue is full only for what comes; the others are seen to be full.
        let reason = eventually("it is seen to be full", async || not_ready(&shop).await).await;
        assert!(reason.contains(stream.as_str()), "{reason}");
        assert_refused(ask(&shop, "while-full").await).await;
    }
    // Time enough to do something wrong: to give up, to lose, to answer what is not true.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for checkout in &open {
        let status = shop.view(id(checkout)).await["status"].as_str().expect("a status").to_owned();
        match stream {
            // Nothing else is asked of a checkout that is paid.
            StreamName::Commands => assert_eq!(status, "paid"),
            _ => assert!(["awaiting_payment", "settling"].contains(&&*status), "{status}"),
        }
    }
    shop.limit(stream, limit).await;
    for checkout in &open {
        shop.until_status(id(checkout), "paid").await;
    }
    eventually("it is served", async || (ask(&shop, "while-full").await.status() == 201).then_some(())).await;
    // What readers see of the stock is told after the ledger.
    eventually("four are sold", async || (shop.product("MUG-01").await["sold"] == 4).then_some(())).await;
    assert_eq!(shop.dead_letters().await, 0);
    shop.is_healthy().await;
}

/// FD2, D14: a start and a webhook that find no room are not taken, and say so; later they are.
#[tokio::test]
async fn what_finds_no_room_is_not_taken() {
    let options = ShopOptions { answer_timeout: "7s", ..ShopOptions::default() };
    let shop = Shop::open_with(crate::SERVICE, options).await;
    shop.until_idle().await;
    let limit = shop.limit(StreamName::Commands, 1).await;
    assert_refused(ask(&shop, "no-room").await).await;
    let reason = not_ready(&shop).await.expect("a gateway that cannot store is not ready");
    assert!(reason.contains("not stored within") && reason.contains("max_bytes"), "{reason}");
    let began = std::time::Instant::now();
    assert_refused(ask(&shop, "no-room-2").await).await;
    assert!(began.elapsed() < Duration::from_secs(5), "the next one does not wait in vain");
    assert_eq!(shop.messages_ever_in(StreamName::History).await, 0);

    shop.limit(StreamName::Commands, limit).await;
    eventually("it is served", async || (ask(&shop, "no-room").await.status() == 201).then_some(())).await;
    eventually("it is ready", async || not_ready(&shop).await.is_none().then_some(())).await;
    shop.is_healthy().await;
}

/// FD3: the server's own limit below what it holds already: nothing can be stored, nothing is lost.
#[tokio::test]
async fn a_server_that_may_store_nothing_more_loses_nothing() {
    let options = ShopOptions { answer_timeout: "7s", ..ShopOptions::on_one_server() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    past_checkouts(&shop, 40).await;
    let open = shop.checkout("NOTE-01", 1).await;
    shop.until_idle().await;
    let enough = shop.server.start_options().config.max_file_store;
    shop.server.change_config(|config| config.max_file_store = 16 * 1024);
    shop.server.restart().await.expect("start nats-server with a smaller limit");
    eventually("the gateway is connected again", async || {
        let product = shop.http.get(format!("{}/api/products", shop.shop_url())).send().await.ok()?;
        (product.status() == 200 && !not_ready(&shop).await.is_some_and(|why| why.contains("connection"))).then_some(())
    })
    .await;
    shop.pay(&open).await;
    let answer = ask(&shop, "no-room").await;
    println!("answered {} {:?}", answer.status(), not_ready(&shop).await);
    assert_refused(answer).await;
    assert!(not_ready(&shop).await.is_some());

    shop.server.change_config(|config| config.max_file_store = enough);
    shop.server.restart().await.expect("start nats-server with its limit again");
    shop.until_status(id(&open), "paid").await;
    eventually("it is served", async || (ask(&shop, "no-room").await.status() == 201).then_some(())).await;
    shop.is_healthy().await;
}
