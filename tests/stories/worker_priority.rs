//! Several workers: the one with the lowest number is given the messages, because it has the histories at hand; the next one
//! is there at once when it is gone.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use stories::{Service, Shop, ShopOptions};

/// A checkout that nobody has lost on the way takes some hundredths of a second; a lost message comes again after 30 s.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn buy(shop: &Shop, times: u32) {
    for _ in 0..times {
        let began = Instant::now();
        let checkout = shop.checkout("TEE-01", 1).await;
        shop.pay(&checkout).await;
        shop.until_status(checkout["workflow_id"].as_str().expect("an id"), "paid").await;
        assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn the_first_worker_is_given_everything_until_it_is_gone() {
    let options = ShopOptions { workers: 2, first_worker_first: true, ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    // Whatever was given to the second one would be held up.
    shop.signal(Service::Worker(1), Signal::STOP);
    buy(&shop, 10).await;
    shop.signal(Service::Worker(1), Signal::CONT);
    let waiting = shop.checkout("TEE-01", 1).await;

    shop.kill(Service::Worker(0));
    buy(&shop, 5).await;
    shop.pay(&waiting).await;
    shop.until_status(waiting["workflow_id"].as_str().expect("an id"), "paid").await;

    // It is given messages again as soon as it is back.
    let decided = |shop: &Shop| shop.log_of(Service::Worker(0)).matches("decided").count();
    let before = decided(&shop);
    shop.start(Service::Worker(0));
    let mut bought = 16;
    while decided(&shop) == before {
        assert!(bought < 56, "the first worker is not given anything any more");
        buy(&shop, 1).await;
        bought += 1;
    }
    shop.until_stock("TEE-01", 60 - bought, 0, bought).await;
    shop.is_healthy().await;
}
