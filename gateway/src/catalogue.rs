//! What the shop sells and how many there are, kept in memory by watching two streams.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use common::{
    contracts::{
        catalogue::Product,
        inventory::{Balance, StockProjection},
    },
    ids::Sku,
    nats::Nats,
    streams::StreamName,
};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long to wait before a broken watch is built again.
const REBUILD_AFTER: Duration = Duration::from_millis(500);

/// One article: what it is and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Article {
    /// What it is and what it costs.
    pub(crate) product: Product,
    /// How many there are, as far as the inventory has told.
    pub(crate) balance: Balance,
}

#[derive(Debug, Default)]
struct Shelves {
    products: BTreeMap<Sku, Arc<Product>>,
    balances: BTreeMap<Sku, Balance>,
}

/// The catalogue with its stock; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    shelves: Arc<RwLock<Shelves>>,
    loaded: watch::Receiver<[bool; 2]>,
}

impl Catalogue {
    /// Start watching until `stop`.
    pub(crate) fn start(nats: &Nats, stop: &CancellationToken) -> Self {
        let shelves = Arc::new(RwLock::new(Shelves::default()));
        let (loaded, receiver) = watch::channel([false, false]);
        for (place, stream) in [StreamName::Catalogue, StreamName::Stock].into_iter().enumerate() {
            let watcher =
                Watcher { nats: nats.clone(), stream, shelves: shelves.clone(), loaded: loaded.clone(), place };
            tokio::spawn(watcher.run(stop.clone()));
        }
        Self { shelves, loaded: receiver }
    }

    /// Whether both streams have been read to their end once.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.borrow().iter().all(|loaded| *loaded)
    }

    /// One article.
    pub(crate) fn find(&self, sku: &Sku) -> Option<Article> {
        self.read(|shelves| shelves.products.get(sku).map(|product| shelves.article(product)))
    }

    /// Up to `limit` articles after a SKU, in the order of the SKUs, and whether there are more.
    pub(crate) fn page(&self, after: Option<&Sku>, limit: usize) -> (Vec<Article>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        self.read(|shelves| {
            let range = (after.map_or(Unbounded, Excluded), Unbounded);
            let mut following = shelves.products.range::<Sku, _>(range).map(|(_, product)| product);
            let page = following.by_ref().take(limit).map(|product| shelves.article(product)).collect();
            (page, following.next().is_some())
        })
    }

    /// Every article, in the order of the SKUs.
    pub(crate) fn all(&self) -> Vec<Article> {
        self.page(None, usize::MAX).0
    }

    /// Some products by their SKU, and the first one of all, as they are at one moment.
    pub(crate) fn prices<'a>(
        &self,
        skus: impl IntoIterator<Item = &'a Sku>,
    ) -> (BTreeMap<Sku, Arc<Product>>, Option<Arc<Product>>) {
        self.read(|shelves| {
            let found = skus.into_iter().filter_map(|sku| shelves.products.get_key_value(sku));
            let found = found.map(|(sku, product)| (sku.clone(), product.clone())).collect();
            (found, shelves.products.values().next().cloned())
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Shelves) -> T) -> T {
        look(&self.shelves.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shelves {
    fn article(&self, product: &Arc<Product>) -> Article {
        let balance = self.balances.get(&product.sku).copied().unwrap_or_default();
        Article { product: Product::clone(product), balance }
    }

    fn take_in(&mut self, stream: StreamName, payload: &[u8]) -> serde_json::Result<()> {
        if stream == StreamName::Catalogue {
            let product: Product = serde_json::from_slice(payload)?;
            self.products.insert(product.sku.clone(), Arc::new(product));
        } else {
            let stock: StockProjection = serde_json::from_slice(payload)?;
            self.balances.insert(stock.level.sku, stock.level.balance);
        }
        Ok(())
    }
}

/// Keeps one half of the shelves up to date.
struct Watcher {
    nats: Nats,
    stream: StreamName,
    shelves: Arc<RwLock<Shelves>>,
    loaded: watch::Sender<[bool; 2]>,
    place: usize,
}

impl Watcher {
    async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                ended = self.watch() => if let Err(error) = ended {
                    tracing::info!(stream = self.stream.as_str(), error = format!("{error:#}"), "watching again");
                }
            }
            tokio::time::sleep(REBUILD_AFTER).await;
        }
    }

    /// Read the newest message of every subject, then what is written from then on, until something breaks.
    async fn watch(&self) -> anyhow::Result<()> {
        let stream = self.nats.jetstream.get_stream_no_info(self.stream.as_str()).await.context("find the stream")?;
        // The server wants a filter with this policy, even one that leaves nothing out.
        let newest = OrderedConfig {
            deliver_policy: DeliverPolicy::LastPerSubject,
            filter_subject: ">".into(),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(newest).await.context("create a consumer")?;
        if consumer.cached_info().num_pending == 0 {
            self.is_loaded();
        }
        let mut messages = consumer.messages().await.context("read from the consumer")?;
        while let Some(message) = messages.next().await {
            let message = message.context("read the next message")?;
            if let Err(error) = self.lock_and_take(&message.payload) {
                // One unreadable entry must not close the shop: what was known of it before stays.
                tracing::error!(subject = %message.subject, %error, "an entry cannot be read and is left out");
            }
            if message.info().is_ok_and(|info| info.pending == 0) {
                self.is_loaded();
            }
        }
        anyhow::bail!("the consumer has ended")
    }

    fn lock_and_take(&self, payload: &[u8]) -> serde_json::Result<()> {
        self.shelves.write().unwrap_or_else(PoisonError::into_inner).take_in(self.stream, payload)
    }

    fn is_loaded(&self) {
        self.loaded.send_if_modified(|loaded| !std::mem::replace(&mut loaded[self.place], true));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A catalogue that was filled by these messages.
    pub(crate) fn filled(products: &[&str], stock: &[&str]) -> Catalogue {
        let mut shelves = Shelves::default();
        for product in products {
            shelves.take_in(StreamName::Catalogue, product.as_bytes()).expect("a product");
        }
        for stock in stock {
            shelves.take_in(StreamName::Stock, stock.as_bytes()).expect("a stock");
        }
        let (_, loaded) = watch::channel([true, true]);
        Catalogue { shelves: Arc::new(RwLock::new(shelves)), loaded }
    }

    /// Three articles, one of them with stock.
    pub(crate) fn three_articles() -> Catalogue {
        let product = |sku: &str, cents: u32| {
            format!(
                r#"{{"type":"product","sku":"{sku}","name":"A {sku}","description":"d","price":{{"amount":{cents},"currency":"eur"}}}}"#
            )
        };
        let products = [product("TEA", 300), product("MUG", 500), product("POT", 900)];
        let stock = r#"{"type":"stock","sku":"MUG","available":7,"reserved":2,"sold":1,"ledger_index":4}"#;
        filled(&products.each_ref().map(String::as_str), &[stock])
    }

    fn skus(articles: &[Article]) -> Vec<&str> {
        articles.iter().map(|article| article.product.sku.as_str()).collect()
    }

    #[test]
    fn articles_come_in_the_order_of_their_skus_page_by_page() {
        let catalogue = three_articles();
        let (first, more) = catalogue.page(None, 2);
        assert_eq!((skus(&first), more), (vec!["MUG", "POT"], true));
        let (second, more) = catalogue.page(Some(&first[1].product.sku), 2);
        assert_eq!((skus(&second), more), (vec!["TEA"], false));
        assert_eq!(skus(&catalogue.all()), ["MUG", "POT", "TEA"]);
    }

    #[test]
    fn an_article_shows_its_stock_and_none_where_nothing_is_known() {
        let catalogue = three_articles();
        let balance = |sku: &str| catalogue.find(&sku.parse().expect("a sku")).map(|article| article.balance);
        assert_eq!(balance("MUG"), Some(Balance { available: 7, reserved: 2, sold: 1 }));
        assert_eq!(balance("TEA"), Some(Balance::default()));
        assert_eq!(balance("NOTHING"), None);
    }

    #[test]
    fn a_newer_message_replaces_the_older_one() {
        let stock = |available: u32, index: u32| {
            format!(
                r#"{{"type":"stock","sku":"MUG","available":{available},"reserved":0,"sold":0,"ledger_index":{index}}}"#
            )
        };
        let product =
            r#"{"type":"product","sku":"MUG","name":"n","description":"d","price":{"amount":1,"currency":"eur"}}"#;
        let catalogue = filled(&[product], &[&stock(5, 1), &stock(4, 2)]);
        assert_eq!(catalogue.find(&"MUG".parse().expect("a sku")).map(|article| article.balance.available), Some(4));
    }
}
