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

/// Buy until the first worker has decided something; how many were bought for that.
async fn buy_until_the_first_is_given_messages(shop: &Shop) -> u32 {
    let decided = || shop.log_of(Service::Worker(0)).matches("decided").count();
    let before = decided();
    let mut bought = 0;
    while decided() == before {
        assert!(bought < 20, "the first worker is not given anything");
        buy(shop, 1).await;
        bought += 1;
    }
    bought
}

#[tokio::test]
async fn the_first_worker_is_given_everything_until_it_is_gone() {
    let options = ShopOptions { workers: 2, first_worker_first: true, ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    // The second one is given what comes while the first one has not asked for messages yet.
    let mut bought = buy_until_the_first_is_given_messages(&shop).await;
    // From now on, whatever is given to the second one is held up.
    shop.signal(Service::Worker(1), Signal::STOP);
    buy(&shop, 10).await;
    shop.signal(Service::Worker(1), Signal::CONT);
    let waiting = shop.checkout("TEE-01", 1).await;

    shop.kill(Service::Worker(0));
    buy(&shop, 5).await;
    shop.pay(&waiting).await;
    shop.until_status(waiting["workflow_id"].as_str().expect("an id"), "paid").await;

    // It is given messages again as soon as it is back.
    shop.start(Service::Worker(0));
    bought += 16 + buy_until_the_first_is_given_messages(&shop).await;
    let bought = bought.into();
    shop.until_stock("TEE-01", 60 - bought, 0, bought).await;
    shop.is_healthy().await;
}
