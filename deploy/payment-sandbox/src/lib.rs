//! A payment provider to try the shop with: payment sessions, a payment page, signed webhooks that are sent until they
//! are taken, refunds, and a fault script. It is a service of its own and knows nothing of the shop but a URL.
//!
//! Reading order: [`session`] (what there is) → `books` (what is allowed) → `store` (how it is kept) → `api`,
//! `routes`, [`page`] (who asks) → `events`, `deliveries` (who is told) → [`faults`] (how it misbehaves).

mod api;
mod books;
mod deliveries;
mod events;
pub mod faults;
pub mod page;
mod requests;
mod routes;
pub mod session;
mod store;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use common::{
    payment::{WebhookSecrets, secrets_or_development},
    service::http::{HttpOptions, HttpServer},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::App,
    deliveries::{Deliveries, Sender},
    faults::Faults,
    store::{Store, Written},
};

/// How long a stopping sandbox waits for the last calls to leave the database: they have been answered or cut off.
const RELEASE_DATABASE: Duration = Duration::from_secs(2);

/// How the sandbox is set up.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where the sandbox listens; port 0 takes a free one.
    #[arg(
        long = "payment-listen",
        env = "CHECKOUT_PAYMENT_LISTEN",
        default_value = "127.0.0.1:8086",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// The folder of the sandbox's database; made if need be.
    #[arg(
        long = "payment-data-dir",
        env = "CHECKOUT_PAYMENT_DATA_DIR",
        default_value = ".local/payment-sandbox",
        value_name = "FOLDER"
    )]
    pub data_dir: PathBuf,
    /// Where customers reach the sandbox, when that is not where it listens.
    #[arg(long = "payment-public-url", env = "CHECKOUT_PAYMENT_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Where webhooks go.
    #[arg(
        long = "webhook-url",
        env = "CHECKOUT_WEBHOOK_URL",
        default_value = "http://127.0.0.1:8082/payment_webhook",
        value_name = "URL"
    )]
    pub webhook_url: String,
    /// The secret that webhooks are signed with; two, separated by a comma, while it is being replaced.
    /// Without one the public development secret is used.
    #[arg(
        long = "payment-webhook-secret",
        env = "CHECKOUT_PAYMENT_WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRET[,SECRET]"
    )]
    pub webhook_secret: Option<WebhookSecrets>,
    /// Where customers find the shop: after paying they are sent back to `<this>/checkout/<reference>`. Without it
    /// they stay on the payment page.
    #[arg(long = "payment-shop-url", env = "CHECKOUT_SHOP_URL", value_name = "URL")]
    pub shop_url: Option<String>,
    /// Accept the fault script at /api/faults. For tests only.
    #[arg(long = "faults", env = "CHECKOUT_PAYMENT_FAULTS")]
    pub faults: bool,
    /// How connections and requests are bounded.
    #[command(flatten)]
    pub http: HttpOptions,
}

/// A sandbox that has its port and its database, and does not answer yet.
pub struct PaymentSandbox {
    server: HttpServer,
    http: HttpOptions,
    app: Arc<App>,
    deliveries: Deliveries,
    written: Written,
}

impl PaymentSandbox {
    /// Take the port and open the database.
    ///
    /// # Errors
    /// When the port is taken, the database cannot be opened or is in use, or a URL cannot be used.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        let server = HttpServer::bind(config.listen, "--payment-listen").await?;
        let (store, written) = Store::open(&config.data_dir)?;
        let faults = Arc::new(Faults::new(config.faults));
        let secrets = secrets_or_development(config.webhook_secret)?;
        let sender = Sender::new(&config.webhook_url, secrets, store.clone(), faults.clone())?;
        let public_url = config.public_url.unwrap_or_else(|| format!("http://{}", server.address()));
        let app =
            App { store, faults, public_url: public_url.trim_end_matches('/').to_owned(), shop_url: config.shop_url };
        Ok(Self { server, http: config.http, app: Arc::new(app), deliveries: Deliveries::new(sender), written })
    }

    /// Where it listens; the real port when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Answer and deliver until asked to stop. What was answered is on disk, so it may also be killed at any time.
    ///
    /// # Errors
    /// When the database fails or the port can no longer be listened on.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { server, http, app, deliveries, written } = self;
        let Written { events, mut ended } = written;
        // A failure of one part stops the others, and only them.
        let stop = stop.child_token();
        let serving = async {
            let served = server.serve(routes::PATHS.into(), routes::routes(&app), http, stop.clone()).await;
            stop.cancel();
            served
        };
        let watching = async {
            tokio::select! {
                reason = &mut ended => {
                    stop.cancel();
                    Some(reason.ok().flatten().unwrap_or_else(|| "its writer has ended".into()))
                }
                () = stop.cancelled() => None,
            }
        };
        let (served, failure, ()) = tokio::join!(serving, watching, deliveries.run(events, stop.clone()));
        drop(app);
        if let Some(reason) = failure {
            anyhow::bail!("the sandbox's database has failed: {reason}; check the disk and start again");
        }
        // Until then another start would find the database in use.
        let _ = tokio::time::timeout(RELEASE_DATABASE, ended).await;
        served
    }
}

/// Run the sandbox until asked to stop.
///
/// # Errors
/// See [`PaymentSandbox::open`] and [`PaymentSandbox::serve`].
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    tracing::info!(?config, "payment sandbox starts");
    let sandbox = PaymentSandbox::open(config).await?;
    tracing::info!("payment sandbox listens on http://{}", sandbox.address());
    sandbox.serve(stop).await?;
    tracing::info!("payment sandbox stopped");
    Ok(())
}
