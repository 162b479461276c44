//! Nobody pays in time.

use serde_json::json;
use stories::{Shop, ShopOptions};

fn quick() -> ShopOptions {
    ShopOptions { payment_timeout: "2s", ..ShopOptions::default() }
}

#[tokio::test]
async fn a_checkout_that_nobody_pays_expires() {
    let shop = Shop::open_with(crate::SERVICE, quick()).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.until_status(id, "expired").await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    assert_eq!(shop.event_types(id).await[3..], ["deadline_passed", "payment_session_closed", "stock_released"]);
    shop.is_healthy().await;
}

/// C8: while the provider cannot be asked, the stock stays reserved; when it answers, the checkout ends.
#[tokio::test]
async fn the_stock_stays_reserved_while_the_provider_is_unreachable_at_the_deadline() {
    let shop = Shop::open_with(crate::SERVICE, quick()).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.fault(json!({ "call": "expire_session", "fault": "down" })).await;
    shop.until(id, "closing the session has failed", |view| view["status"] == "settling").await;
    stories::eventually("two rounds have failed", async || {
        let failed = shop.event_types(id).await.into_iter().filter(|event| *event == "payment_step_failed").count();
        (failed >= 2).then_some(())
    })
    .await;
    let product = shop.product("MUG-01").await;
    assert_eq!((product["available"].as_u64(), product["reserved"].as_u64()), (Some(98), Some(2)));
    shop.no_faults().await;
    shop.until_status(id, "expired").await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    shop.is_healthy().await;
}

/// C9: asked to let nobody pay any more, the provider says that somebody has. Then it is paid.
#[tokio::test]
async fn a_payment_that_only_the_provider_knows_of_counts() {
    let shop = Shop::open_with(crate::SERVICE, quick()).await;
    shop.fault(json!({ "call": "webhook", "fault": "hold" })).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.pay(&checkout).await;
    shop.until_status(id, "paid").await;
    assert_eq!(shop.event_types(id).await[3..], ["deadline_passed", "payment_received", "stock_sold"]);
    // The webhook that comes at last changes nothing.
    shop.no_faults().await;
    shop.until_stock("MUG-01", 98, 0, 2).await;
    assert_eq!(shop.event_types(id).await.len(), 6);
    shop.is_healthy().await;
}
