//! The whole way: requests to the gateway, payment at the sandbox, signed webhooks. How it ends is heard by a long poll, as a
//! shop's back end would.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, bail, ensure};
use common::ids::WorkflowId;
use reqwest::{
    Client, Response, StatusCode,
    header::{ETAG, IF_NONE_MATCH},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    case::Case,
    flight::{Flight, Flights},
    milestones::Milestones,
    report::{Measuring, Run},
    stage::Stage,
};

/// Drive checkouts and measure.
pub(super) async fn drive(stage: &Stage, case: &Case, measuring: Measuring) -> anyhow::Result<Run> {
    let customers = Arc::new(Customers::of(stage).await?);
    super::report::measured(stage, case.load, measuring, move |flights, started| {
        let customers = Arc::clone(&customers);
        async move { customers.fly(&flights, started).await }
    })
    .await
}

/// Those who buy at the gateway and pay at the sandbox.
pub(super) struct Customers {
    http: Client,
    shop: String,
    pay: String,
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

impl Offered {
    pub(super) async fn read(answer: Response) -> anyhow::Result<Self> {
        let revision = revision(&answer).context("the answer to a start has an ETag")?;
        let started: Started = answer.json().await.context("read the answer to a start")?;
        Ok(Self { id: started.workflow_id, session_id: started.payment.session_id, revision })
    }
}

fn revision(answer: &Response) -> Option<String> {
    Some(answer.headers().get(ETAG)?.to_str().ok()?.to_owned())
}

impl Customers {
    pub(super) async fn of(stage: &Stage) -> anyhow::Result<Self> {
        Ok(Self {
            http: stage.http.clone(),
            shop: format!("http://{}/api/checkout_session", stage.gateway),
            pay: format!("http://{}/api/submit_payment", stage.sandbox),
            skus: stage.articles.iter().map(|article| article.product.sku.to_string()).collect(),
            next: AtomicU64::new(0),
            milestones: Milestones::listen(stage).await?,
        })
    }

    /// The next one wants an article; whatever the gateway answers.
    pub(super) async fn start(&self) -> anyhow::Result<Response> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let sku = &self.skus[usize::try_from(number)? % self.skus.len()];
        let request = self.http.post(&self.shop).header("Idempotency-Key", format!("bench-{number}"));
        request.json(&json!({ "items": [{ "sku": sku, "quantity": 1 }] })).send().await.context("start")
    }

    pub(super) async fn pay(&self, checkout: &Offered) -> anyhow::Result<()> {
        let session = json!({ "session_id": checkout.session_id });
        let paid = self.http.post(&self.pay).json(&session).send().await.context("pay")?;
        ensure!(paid.status().is_success(), "a payment was answered {}", paid.status());
        Ok(())
    }

    async fn fly(&self, flights: &Flights, started: Instant) -> anyhow::Result<()> {
        let answer = self.start().await?;
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
        let url = format!("{}/{id}?wait=30", self.shop);
        loop {
            let answer =
                self.http.get(&url).header(IF_NONE_MATCH, &revision).send().await.context("ask how it stands")?;
            revision = self::revision(&answer).unwrap_or(revision);
            if answer.status() == StatusCode::NOT_MODIFIED {
                continue;
            }
            let view: Value = answer.json().await.context("read how it stands")?;
            match view["status"].as_str() {
                Some("paid") => return Ok(()),
                Some("awaiting_payment" | "settling") => {}
                other => bail!("checkout {id} was to be paid, but it is {other:?}"),
            }
        }
    }
}
