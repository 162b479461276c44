//! What a customer sees, in a real Chromium: the journeys of `tests/browser`. They need Chromium, Node.js and
//! `npm ci` in that folder; without them they are skipped, loudly, unless CHECKOUT_REQUIRE_BROWSER is set.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use rstest::rstest;
use stories::{OPERATOR_TOKEN, Shop, ShopOptions};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

#[rstest]
#[tokio::test]
async fn a_customer(
    #[values(
        "buy",
        "cancel",
        "decline",
        "double-click",
        "looks",
        "operator",
        "out-of-stock",
        "reload",
        "restart",
        "without-scripts"
    )]
    journey: &str,
) {
    takes(journey, ShopOptions::default()).await;
}

#[tokio::test]
async fn a_customer_who_does_not_pay_sees_the_order_expire() {
    takes("expire", ShopOptions { payment_timeout: "6s", ..ShopOptions::default() }).await;
}

async fn takes(journey: &str, options: ShopOptions) {
    let Some(chromium) = browser() else { return };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let screenshots = folder().join("../../target/screenshots");
    std::fs::create_dir_all(&screenshots).expect("a folder for screenshots");
    let mut child = Command::new("node")
        .arg("journey.mjs")
        .arg(journey)
        .current_dir(folder())
        .env("SHOP_URL", shop.shop_url())
        .env("PAYMENT_URL", shop.payment_url())
        .env("SCREENSHOT_DIR", &screenshots)
        .env("OPERATOR_TOKEN", OPERATOR_TOKEN)
        .env("CHROMIUM", chromium)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .expect("start node");
    let mut to_journey = child.stdin.take().expect("its standard input");
    let mut lines = BufReader::new(child.stdout.take().expect("its standard output")).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.expect("a line of the journey") {
        match line.as_str() {
            "@kill" => {
                shop.kill_all();
                shop.server.kill().expect("kill nats-server");
            }
            "@start" => {
                shop.server.restart().await.expect("start nats-server again");
                shop.start_all();
                shop.until_ready().await;
            }
            _ => {
                said.push(line);
                continue;
            }
        }
        to_journey.write_all(b"done\n").await.expect("the journey listens");
    }
    let status = child.wait().await.expect("the journey ends");
    assert!(status.success(), "journey {journey} failed:\n{}\n{}", said.join("\n"), shop.logs());
    shop.is_healthy().await;
}

/// Where Chromium is, if all that the journeys need is there.
fn browser() -> Option<PathBuf> {
    let chromium = PathBuf::from(std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into()));
    let missing = if !chromium.exists() {
        Some("Chromium (apt-get install chromium, or CHROMIUM=/path/to/it)")
    } else if !folder().join("node_modules/playwright-core").exists() {
        Some("playwright-core (cd tests/browser && npm ci)")
    } else {
        None
    };
    let Some(missing) = missing else { return Some(chromium) };
    assert!(std::env::var_os("CHECKOUT_REQUIRE_BROWSER").is_none(), "missing: {missing}");
    eprintln!("SKIPPED a browser journey: missing {missing}");
    None
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser")
}
