//! The unit of work of `PERFORMANCE` on Restate: a workflow that calls the article's object for the goods, opens a payment
//! session, waits until it is paid, and books the sale. Leaves out what only costs Restate time: there is no deadline, and an
//! article keeps two numbers, not who has reserved it.
//!
//! `restate-checkout serve PORT` serves the handlers; `restate-checkout drive URL IN_FLIGHT SKUS WARM_UP MEASURE` keeps so many
//! checkouts in flight for so many seconds and prints one line of JSON.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use restate_sdk::prelude::*;
use serde_json::json;
use tokio::task::JoinSet;

/// So many of each article: more than any run can sell.
const STOCK: u64 = 1_000_000_000;

struct Article;

#[object]
impl Article {
    #[handler]
    async fn reserve(&self, ctx: ObjectContext<'_>) -> Result<bool, HandlerError> {
        let free = ctx.get::<u64>("free").await?.unwrap_or(STOCK);
        if free == 0 {
            return Ok(false);
        }
        ctx.set("free", free - 1);
        Ok(true)
    }

    #[handler]
    async fn sell(&self, ctx: ObjectContext<'_>) -> Result<(), HandlerError> {
        let sold = ctx.get::<u64>("sold").await?.unwrap_or(0);
        ctx.set("sold", sold + 1);
        Ok(())
    }
}

struct Checkout;

#[workflow]
impl Checkout {
    #[handler]
    async fn run(&self, ctx: WorkflowContext<'_>, sku: String) -> Result<String, HandlerError> {
        if !ctx.object_client::<ArticleClient>(sku.clone()).reserve().call().await? {
            return Ok("out_of_stock".into());
        }
        let id = ctx.key().to_owned();
        let session: String =
            ctx.run(|| async move { Ok(format!("http://127.0.0.1/payment/cs_{id}")) }).name("open").await?;
        ctx.resolve_promise("session", session);
        ctx.promise::<bool>("paid").await?;
        ctx.object_client::<ArticleClient>(sku).sell().call().await?;
        Ok("paid".into())
    }

    #[handler]
    async fn session(&self, ctx: SharedWorkflowContext<'_>) -> Result<String, HandlerError> {
        Ok(ctx.promise::<String>("session").await?)
    }

    #[handler]
    async fn pay(&self, ctx: SharedWorkflowContext<'_>) -> Result<(), HandlerError> {
        ctx.resolve_promise("paid", true);
        Ok(())
    }
}

/// Start→session and start→settled of one checkout.
type Flight = (Duration, Duration);

#[derive(Clone)]
struct Customer {
    http: reqwest::Client,
    ingress: Arc<str>,
    run: Arc<str>,
    skus: u64,
    next: Arc<AtomicU64>,
}

impl Customer {
    async fn call(&self, id: &str, handler: &str, body: Option<&str>) -> anyhow::Result<String> {
        let request = self.http.post(format!("{}/Checkout/{id}/{handler}", self.ingress));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{handler} of {id} was answered {status}: {text}");
        }
        Ok(text)
    }

    async fn buy(&self) -> anyhow::Result<Flight> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (id, sku) = (format!("{}-{number}", self.run), format!("SKU-{}", number % self.skus));
        let started = Instant::now();
        // The start's answer is the end; the session is asked for beside it.
        let running = self.call(&id, "run", Some(&sku));
        let paying = async {
            self.call(&id, "session", None).await?;
            let got_session = started.elapsed();
            self.call(&id, "pay", None).await?;
            anyhow::Ok(got_session)
        };
        let (end, got_session) = tokio::try_join!(running, paying)?;
        if end != "\"paid\"" {
            bail!("checkout {id} ended as {end}");
        }
        Ok((got_session, started.elapsed()))
    }
}

async fn drive(ingress: &str, in_flight: u64, skus: u64, warm_up: Duration, measure: Duration) -> anyhow::Result<()> {
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis().to_string();
    let customer = Customer {
        http: reqwest::Client::builder().tcp_nodelay(true).build()?,
        ingress: ingress.into(),
        run: run.into(),
        skus,
        next: Arc::default(),
    };
    let begin = Instant::now() + warm_up;
    let end = begin + measure;
    let mut customers = JoinSet::new();
    for _ in 0..in_flight {
        let customer = customer.clone();
        customers.spawn(async move {
            let mut flights = Vec::new();
            while Instant::now() < end {
                let flight = customer.buy().await?;
                if (begin..end).contains(&Instant::now()) {
                    flights.push(flight);
                }
            }
            anyhow::Ok(flights)
        });
    }
    let mut flights: Vec<Flight> = Vec::new();
    while let Some(customer) = customers.join_next().await {
        flights.extend(customer??);
    }
    let mut to_session: Vec<Duration> = flights.iter().map(|(session, _)| *session).collect();
    let mut to_settled: Vec<Duration> = flights.iter().map(|(_, settled)| *settled).collect();
    let figures = json!({
        "per_second": flights.len() as f64 / measure.as_secs_f64(),
        "to_session_p50_ms": quantile(&mut to_session, 50), "to_session_p99_ms": quantile(&mut to_session, 99),
        "to_settled_p50_ms": quantile(&mut to_settled, 50), "to_settled_p99_ms": quantile(&mut to_settled, 99),
    });
    println!("{figures}");
    Ok(())
}

/// In milliseconds; none of none.
fn quantile(times: &mut [Duration], percent: usize) -> Option<f64> {
    times.sort_unstable();
    let place = (times.len() * percent / 100).min(times.len().checked_sub(1)?);
    Some(times.get(place)?.as_secs_f64() * 1000.0)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port] => {
            let endpoint = Endpoint::builder().bind(Article).bind(Checkout).build();
            HttpServer::new(endpoint).listen_and_serve(format!("127.0.0.1:{port}").parse()?).await;
            Ok(())
        }
        ["drive", ingress, in_flight, skus, warm_up, measure] => {
            let seconds = |text: &str| anyhow::Ok(Duration::from_secs_f64(text.parse()?));
            drive(ingress, in_flight.parse()?, skus.parse()?, seconds(warm_up)?, seconds(measure)?)
                .await
                .context("drive")
        }
        _ => bail!("usage: restate-checkout serve PORT | drive URL IN_FLIGHT SKUS WARM_UP MEASURE"),
    }
}
