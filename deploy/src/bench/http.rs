//! The whole way: requests to the gateway, payment at the sandbox, signed webhooks. How it ends is heard by a long poll, as a
//! shop's back end would.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use common::ids::WorkflowId;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ETAG, IF_NONE_MATCH},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    case::Case,
    flight::{Flight, Flights},
    milestones::Milestones,
    report::{Measuring, Run},
    stage::Stage,
};

/// Of so many checkouts one tells where its time has gone.
const ONE_IN: u64 = 16;

/// Drive checkouts and measure.
pub(super) async fn drive(stage: &Stage, case: &Case, measuring: Measuring) -> anyhow::Result<Run> {
    let customers = Arc::new(Customers::of(stage, Milestones::deaf(stage))?);
    super::report::measured(stage, case.load, measuring, move |flights, started| {
        let customers = Arc::clone(&customers);
        async move { customers.fly(&flights, started).await }
    })
    .await
}

/// Those who buy at the gateway and pay at the sandbox.
pub(super) struct Customers {
    http: Client,
    shop: Url,
    pay: Url,
    skus: Vec<String>,
    next: AtomicU64,
    pub(super) milestones: Milestones,
}

/// A checkout that can be paid.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) id: WorkflowId,
    session_id: String,
    /// What the customer knows of it.
    revision: String,
}

/// What a customer needs of the answer to a start.
#[derive(Debug, Deserialize)]
struct Started {
    workflow_id: WorkflowId,
    payment: Payment,
}

#[derive(Debug, Deserialize)]
struct Payment {
    session_id: String,
}

/// What a customer needs of how a checkout stands.
#[derive(Debug, Deserialize)]
struct Standing {
    status: String,
}

impl Offered {
    pub(super) async fn read(answer: Response) -> anyhow::Result<Self> {
        let revision = revision(&answer).context("the answer to a start has an ETag")?;
        let started: Started = answer.json().await.context("read the answer to a start")?;
        Ok(Self { id: started.workflow_id, session_id: started.payment.session_id, revision })
    }
}

/// What the customer with this number starts a checkout with.
fn key(number: u64) -> String {
    format!("bench-{number}")
}

fn revision(answer: &Response) -> Option<String> {
    Some(answer.headers().get(ETAG)?.to_str().ok()?.to_owned())
}

impl Customers {
    pub(super) fn of(stage: &Stage, milestones: Milestones) -> anyhow::Result<Self> {
        Ok(Self {
            http: stage.http.clone(),
            shop: format!("http://{}/api/checkout_session", stage.gateway).parse()?,
            pay: format!("http://{}/api/submit_payment", stage.sandbox).parse()?,
            skus: stage.articles.iter().map(|article| article.product.sku.to_string()).collect(),
            next: AtomicU64::new(0),
            milestones,
        })
    }

    /// The number of the next one.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A customer wants an article; whatever the gateway answers.
    pub(super) async fn start(&self, number: u64) -> anyhow::Result<Response> {
        let sku = &self.skus[usize::try_from(number)? % self.skus.len()];
        let request = self.http.post(self.shop.clone()).header("Idempotency-Key", key(number));
        request.json(&json!({ "items": [{ "sku": sku, "quantity": 1 }] })).send().await.context("start")
    }

    pub(super) async fn pay(&self, checkout: &Offered) -> anyhow::Result<()> {
        let session = json!({ "session_id": checkout.session_id });
        let paid = self.http.post(self.pay.clone()).json(&session).send().await.context("pay")?;
        ensure!(paid.status().is_success(), "a payment was answered {}", paid.status());
        Ok(())
    }

    async fn fly(&self, flights: &Flights, started: Instant) -> anyhow::Result<()> {
        let number = self.next();
        if number.is_multiple_of(ONE_IN) {
            self.milestones.hear_of(WorkflowId::from_idempotency_key("", &key(number).parse()?)).await?;
        }
        let answer = self.start(number).await?;
        let status = answer.status();
        if status != StatusCode::CREATED {
            bail!("a start was answered {status}: {}", answer.text().await.unwrap_or_default());
        }
        let checkout = Offered::read(answer).await?;
        let got_session = Instant::now();
        self.pay(&checkout).await?;
        let id = checkout.id;
        self.until_paid(checkout).await?;
        flights.settled(&Flight { started, got_session, reached: self.milestones.take(id) });
        Ok(())
    }

    /// Each long poll names what is known: one that did not would wait for what comes after a payment that it has missed.
    async fn until_paid(&self, Offered { id, mut revision, .. }: Offered) -> anyhow::Result<()> {
        let mut url = self.shop.clone();
        url.path_segments_mut().map_err(|()| anyhow!("{} is no place", self.shop))?.push(&id.to_string());
        url.set_query(Some("wait=30&until=end"));
        loop {
            let answer = self
                .http
                .get(url.clone())
                .header(IF_NONE_MATCH, &revision)
                .send()
                .await
                .context("ask how it stands")?;
            revision = self::revision(&answer).unwrap_or(revision);
            if answer.status() == StatusCode::NOT_MODIFIED {
                continue;
            }
            let standing: Standing = answer.json().await.context("read how it stands")?;
            match standing.status.as_str() {
                "paid" => return Ok(()),
                // Half a minute is over.
                "awaiting_payment" | "settling" => {}
                other => bail!("checkout {id} was to be paid, but it is {other}"),
            }
        }
    }
}
