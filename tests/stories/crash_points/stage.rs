//! A shop whose customers are as persistent as real ones: they ask again when nobody answers, and a service that has died
//! is started again, as whoever runs it would.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use common::streams::{INVENTORY_GROUP, StreamName};
use serde_json::{Value, json};
use stories::{OPERATOR_TOKEN, Service, Shop, ShopOptions};

/// What every way buys.
pub(super) const SKU: &str = "MUG-01";

/// Long enough for the longest way with a death, a redelivery and a restart on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A service that has not reached its point this long after everything has ended will not.
const DIES_WITHIN: Duration = Duration::from_secs(5);

/// Between two askings.
const PAUSE: Duration = Duration::from_millis(30);

/// Short, so that a customer who asks a gateway for an order that a dead worker has in hand asks again soon.
const ANSWER_TIMEOUT: &str = "1s";

/// A dead worker's command goes to the next one after this.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// Available, reserved, sold.
pub(super) type Stock = (i64, i64, i64);

pub(super) struct Stage {
    pub(super) shop: Shop,
    /// The service that dies, and is started again whenever it is found dead.
    dying: Option<Service>,
    /// Whether the one that was to die last has died.
    has_died: bool,
}

impl Stage {
    pub(super) async fn open(payment_timeout: &'static str, worker_flags: &'static [&'static str]) -> Self {
        let options = ShopOptions {
            payment_timeout,
            worker_flags,
            answer_timeout: ANSWER_TIMEOUT,
            ack_wait: Some(ACK_WAIT),
            ..ShopOptions::default()
        };
        let mut stage = Self { shop: Shop::open_with(crate::SERVICE, options).await, dying: None, has_died: false };
        // Bursts buy more than the catalogue begins with.
        stage.restock("stage", 10_000).await;
        stage.until_stock((10_100, 0, 0)).await;
        stage
    }

    /// Start a service anew, to die at a point.
    pub(super) async fn will_die(&mut self, service: Service, point: &str) {
        self.shop.kill(service);
        self.shop.start_to_crash(service, point);
        (self.dying, self.has_died) = (Some(service), false);
        self.forget_the_pin(service).await;
    }

    /// Wait a while until the service that is to die has died; it runs again afterwards in any case.
    pub(super) async fn until_died(&mut self) {
        let Some(service) = self.dying else { return };
        let started = Instant::now();
        while !self.has_died && started.elapsed() < DIES_WITHIN {
            self.revive().await;
            tokio::time::sleep(PAUSE).await;
        }
        if !self.has_died {
            self.shop.kill(service);
            self.shop.start(service);
            self.forget_the_pin(service).await;
        }
        self.until_open().await;
        self.dying = None;
    }

    /// Whether there is somebody who is to die and has not yet.
    pub(super) async fn waits_for_death(&mut self) -> bool {
        self.revive().await;
        self.dying.is_some() && !self.has_died
    }

    /// Whether the service that was to die last has died at its point.
    pub(super) fn has_died(&self) -> bool {
        self.has_died
    }

    async fn revive(&mut self) {
        if let Some(service) = self.dying
            && self.shop.has_ended(service)
        {
            self.has_died = true;
            self.shop.start(service);
            self.forget_the_pin(service).await;
        }
    }

    /// A dead inventory service keeps its place as the active one for five seconds; other stories wait for that. Here
    /// an operator gives the place free at once.
    async fn forget_the_pin(&self, service: Service) {
        if matches!(service, Service::Inventory(_)) {
            let name = StreamName::InventoryCommands.as_str();
            let stream = self.shop.nats.jetstream.get_stream(name).await.expect("the inventory's commands");
            // There may be no pin at all.
            let _ = stream.unpin_consumer("inventory-service", INVENTORY_GROUP).await;
        }
    }

    /// Ask again and again until there is an answer, and start what has died.
    pub(super) async fn persist<T>(&mut self, what: &str, mut ask: impl AsyncFnMut(&Shop) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            self.revive().await;
            if let Some(answer) = ask(&self.shop).await {
                return answer;
            }
            if started.elapsed() > PATIENCE {
                panic!("waited {} s in vain: {what}\n{}", PATIENCE.as_secs(), self.shop.logs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Every service answers.
    pub(super) async fn until_open(&mut self) {
        self.persist("the shop is open", async |shop| {
            let sandbox = shop.http.get(format!("{}/livez", shop.payment_url())).send().await.ok()?;
            let gateway = shop.http.get(format!("{}/readyz", shop.shop_url())).send().await.ok()?;
            (sandbox.status().is_success() && gateway.status().is_success()).then_some(())
        })
        .await;
    }

    /// Buy one mug; the checkout with its payment link.
    pub(super) async fn buy(&mut self, key: &str) -> Value {
        let items = json!([{ "sku": SKU, "quantity": 1 }]);
        self.persist("a payment link", async |shop| {
            let answer: Value = shop.post_checkout(Some(key), &items).send().await.ok()?.json().await.ok()?;
            answer["payment"]["session_id"].is_string().then_some(answer)
        })
        .await
    }

    /// Begin to buy, without waiting for anything.
    pub(super) async fn begin_to_buy(&mut self, key: &str) {
        let items = json!([{ "sku": SKU, "quantity": 1 }]);
        self.persist("the shop takes the order", async |shop| {
            let answer = shop.post_checkout(Some(key), &items).send().await.ok()?;
            (!answer.status().is_server_error()).then_some(())
        })
        .await;
    }

    /// Wait until a worker has got a command a second time.
    pub(super) async fn until_handed_back(&mut self) {
        self.persist("a command was handed back", async |shop| {
            let (name, stream) = ("workflow-worker", StreamName::Commands.as_str());
            let consumer = shop.nats.jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, stream).await;
            (consumer.expect("the workers' consumer").cached_info().num_redelivered > 0).then_some(())
        })
        .await;
    }

    /// Do something at the provider's page, such as `submit_payment`.
    pub(super) async fn at_provider(&mut self, action: &str, checkout: &Value) {
        let body = json!({ "session_id": checkout["payment"]["session_id"] });
        self.persist(action, async |shop| {
            let url = format!("{}/api/{action}", shop.payment_url());
            shop.http.post(url).json(&body).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
    }

    /// Pay although the session is closed, as a slow bank does.
    pub(super) async fn pay_late(&mut self, checkout: &Value) {
        let body = json!({ "session_id": checkout["payment"]["session_id"] });
        self.persist("to pay late", async |shop| {
            // The fault script is not kept: a sandbox that has died must be told again.
            let rule = json!({ "call": "submit_payment", "fault": "pay_after_close", "times": 1 });
            shop.http.post(format!("{}/api/faults", shop.payment_url())).json(&rule).send().await.ok()?;
            let url = format!("{}/api/submit_payment", shop.payment_url());
            shop.http.post(url).json(&body).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
    }

    /// Ask the shop for something that needs no body, such as `cancel`.
    pub(super) async fn ask_shop(&mut self, action: &str, id: &str, body: &Value) {
        self.persist(action, async |shop| {
            let url = format!("{}/api/checkout_session/{id}/{action}", shop.shop_url());
            let request = shop.http.post(url).bearer_auth(OPERATOR_TOKEN).json(body);
            request.send().await.ok()?.status().is_success().then_some(())
        })
        .await;
    }

    pub(super) async fn restock(&mut self, key: &str, quantity: u32) {
        self.persist("a delivery", async |shop| {
            let request = shop.http.post(format!("{}/api/products/{SKU}/restock", shop.shop_url()));
            let request = request.bearer_auth(OPERATOR_TOKEN).header("Idempotency-Key", key);
            request.json(&json!({ "quantity": quantity })).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
    }

    /// Wait until a checkout is as a way wants it.
    pub(super) async fn until(&mut self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.persist(&format!("{id} is {what}"), async |shop| {
            let url = format!("{}/api/checkout_session/{id}", shop.shop_url());
            let view: Value = shop.http.get(url).send().await.ok()?.json().await.ok()?;
            is_so(&view).then_some(view)
        })
        .await
    }

    /// The stock as the shop shows it.
    pub(super) async fn stock(&mut self) -> Stock {
        self.persist("the stock", async |shop| {
            let url = format!("{}/api/products/{SKU}", shop.shop_url());
            let product: Value = shop.http.get(url).send().await.ok()?.json().await.ok()?;
            Some((product["available"].as_i64()?, product["reserved"].as_i64()?, product["sold"].as_i64()?))
        })
        .await
    }

    /// Wait until the shop shows this stock.
    pub(super) async fn until_stock(&mut self, stock: Stock) {
        let started = Instant::now();
        loop {
            let found = self.stock().await;
            if found == stock {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the stock is {found:?}, not {stock:?}\n{}", self.shop.logs());
            tokio::time::sleep(PAUSE).await;
        }
    }
}
