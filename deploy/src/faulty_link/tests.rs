//! What a misbehaving connection does, with an echo behind it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{FaultyLink, Flow};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing arrives within this.
const A_WHILE: Duration = Duration::from_millis(200);

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn linked() -> (FaultyLink, TcpStream) {
    let link = FaultyLink::open(echo().await).await.expect("a link");
    let client = TcpStream::connect(link.address()).await.expect("a connection");
    (link, client)
}

async fn said_back(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).await.expect("to write");
    hears(client, text).await;
}

async fn hears(client: &mut TcpStream, text: &str) {
    let mut heard = vec![0; text.len()];
    timeout(PATIENCE, client.read_exact(&mut heard)).await.expect("in time").expect("an answer");
    assert_eq!(heard, text.as_bytes());
}

async fn hears_nothing(client: &mut TcpStream) {
    let mut heard = [0; 1];
    assert!(timeout(A_WHILE, client.read(&mut heard)).await.is_err(), "something arrived");
}

async fn is_cut(client: &mut TcpStream) {
    let mut heard = [0; 1];
    let read = timeout(PATIENCE, client.read(&mut heard)).await.expect("in time");
    assert!(matches!(read, Ok(0) | Err(_)), "the connection lives");
}

#[tokio::test]
async fn an_open_link_passes_everything_on() {
    let (_link, mut client) = linked().await;
    said_back(&mut client, "hello").await;
    said_back(&mut client, "again").await;
}

#[tokio::test]
async fn a_delayed_link_keeps_the_order() {
    let (link, mut client) = linked().await;
    link.to_server(Flow::Delayed(A_WHILE));
    let start = Instant::now();
    client.write_all(b"one").await.expect("to write");
    client.write_all(b"two").await.expect("to write");
    hears(&mut client, "onetwo").await;
    assert!(start.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn a_throttled_link_is_slow() {
    let (link, mut client) = linked().await;
    link.to_client(Flow::Throttled { bytes_per_second: 100 });
    let start = Instant::now();
    // Five bytes every twentieth of a second: the last of the four slices comes after three waits.
    said_back(&mut client, "twenty bytes, slowly").await;
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_held_link_delivers_when_it_opens_again() {
    let (link, mut client) = linked().await;
    link.both_ways(Flow::Held);
    client.write_all(b"late").await.expect("to write");
    hears_nothing(&mut client).await;
    link.heal();
    hears(&mut client, "late").await;
    said_back(&mut client, "and on").await;
}

#[tokio::test]
async fn a_link_that_lost_something_is_cut_when_it_opens_again() {
    let (link, mut client) = linked().await;
    said_back(&mut client, "hello").await;
    link.to_client(Flow::Lost);
    client.write_all(b"lost").await.expect("to write");
    hears_nothing(&mut client).await;
    link.heal();
    is_cut(&mut client).await;
    let mut again = TcpStream::connect(link.address()).await.expect("a connection");
    said_back(&mut again, "new").await;
}

#[tokio::test]
async fn a_cut_breaks_open_connections_and_a_refusal_new_ones() {
    let (link, mut client) = linked().await;
    said_back(&mut client, "hello").await;
    link.refuse(true);
    link.cut();
    is_cut(&mut client).await;
    let mut refused = TcpStream::connect(link.address()).await.expect("the listener is there");
    is_cut(&mut refused).await;
    link.heal();
    let mut again = TcpStream::connect(link.address()).await.expect("a connection");
    said_back(&mut again, "back").await;
}

#[tokio::test]
async fn a_link_to_nowhere_cuts_at_once() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    let link = FaultyLink::open(nowhere).await.expect("a link");
    let mut client = TcpStream::connect(link.address()).await.expect("a connection");
    is_cut(&mut client).await;
}
