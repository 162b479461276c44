//! FX3: somebody floods NATS itself, with connections and with bytes that nobody wants. Its limits hold, its memory stays
//! bounded, and the shop goes on selling.

use std::time::Duration;

use stories::{Shop, ShopOptions, footprint_of};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// Clients that flood at the same time.
const FLOODERS: usize = 500;

/// Messages of each, a quarter of a megabyte each: two gigabytes together.
const MESSAGES: usize = 16;
const MESSAGE_BYTES: usize = 256 * 1024;

/// What the server may take at most while it is flooded. Without the flood it takes about 30 MB here; what a client sends
/// and nobody reads is thrown away at once.
const MOST_MEMORY: u64 = 600 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_messages_from_hundreds_of_clients_stops_nobody_from_buying() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions::on_one_server()).await;
    let address = shop.server.client_address();
    let message = format!("PUB nobody.reads.this {MESSAGE_BYTES}\r\n{}\r\n", "x".repeat(MESSAGE_BYTES));
    let mut flood = JoinSet::new();
    for _ in 0..FLOODERS {
        let message = message.clone();
        flood.spawn(async move {
            let mut connection = TcpStream::connect(address).await?;
            connection.write_all(b"CONNECT {\"verbose\":false}\r\n").await?;
            for _ in 0..MESSAGES {
                connection.write_all(message.as_bytes()).await?;
            }
            connection.write_all(b"PING\r\n").await?;
            std::io::Result::Ok(connection)
        });
    }
    let mut bought = 0;
    while !flood.is_empty() || bought < 5 {
        let checkout = shop.checkout("MUG-01", 1).await;
        shop.pay(&checkout).await;
        shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
        bought += 1;
        while let Some(flooder) = flood.try_join_next() {
            flooder.expect("a client that floods").expect("the server reads what is within its limits");
        }
    }
    let peak = footprint_of(shop.server.pid().expect("the server runs")).peak_memory;
    assert!(peak < MOST_MEMORY, "the server took {} MB", peak / 1024 / 1024);
    shop.until_stock("MUG-01", 100 - bought, 0, bought).await;
    shop.is_healthy().await;
}

/// A message over the server's limit costs its sender the connection, and is not taken in.
#[tokio::test]
async fn a_message_over_the_limit_costs_its_sender_the_connection() {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions::on_one_server()).await;
    let mut connection = TcpStream::connect(shop.server.client_address()).await.expect("connect");
    let request = "CONNECT {\"verbose\":false}\r\nPUB command.checkout.x 99999999\r\n";
    connection.write_all(request.as_bytes()).await.expect("announce a message of 100 MB");
    let mut answer = String::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), connection.read_to_string(&mut answer)).await;
    closed.expect("the server closes the connection").expect("text");
    assert!(answer.contains("Maximum Payload Violation"), "{answer}");
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.pay(&checkout).await;
    shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
    shop.is_healthy().await;
}
