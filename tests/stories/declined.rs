//! The customer does not pay at the provider.

use stories::Shop;

async fn ends_undone(action: &str, status: &str, event: &str) {
    let shop = Shop::open(crate::SERVICE).await;
    let checkout = shop.checkout("MUG-01", 2).await;
    let id = checkout["workflow_id"].as_str().expect("an id");
    shop.at_provider(action, &checkout).await;
    shop.until_status(id, status).await;
    shop.until_stock("MUG-01", 100, 0, 0).await;
    assert_eq!(
        shop.event_types(id).await[3..],
        [event, "payment_session_closed", "stock_released"],
        "the session is closed before the stock goes back"
    );
    shop.is_healthy().await;
}

/// D2: a failed payment gives the stock back.
#[tokio::test]
async fn a_declined_payment_gives_the_stock_back() {
    ends_undone("decline_payment", "declined", "payment_declined").await;
}

/// D2: the customer gives up on the provider's page.
#[tokio::test]
async fn a_payment_cancelled_at_the_provider_gives_the_stock_back() {
    ends_undone("cancel_payment", "cancelled", "payment_cancelled").await;
}
