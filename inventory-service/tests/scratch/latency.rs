use crate::inventory_support::*;
use std::time::{Duration, Instant};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency() {
    let w = Warehouse::open().await;
    let n: usize = std::env::var("N").map(|n| n.parse().unwrap()).unwrap_or(2);
    let mut services = vec![];
    for _ in 0..n { services.push(w.start_service(inventory_service::Config::default()).await); }
    w.send(&restock(1, "MUG", 1000)).await;
    w.all_commands_are_done().await;
    for i in 1..40u128 {
        let t = Instant::now();
        w.send(&reserve(i, &[("MUG", 1)])).await;
        let sent = t.elapsed();
        w.answer(workflow(i), 1).await;
        println!("{i} sent {sent:?} answered {:?}", t.elapsed());
        tokio::time::sleep(Duration::from_millis(if i % 10 == 0 { 7000 } else { 100 * (i as u64 % 10) })).await;
    }
    for s in services { s.stop().await; }
}
