//! Customers who buy while things break, and what became of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    shop::{OPERATOR_TOKEN, Shop},
    wait::eventually_within,
};

/// What they buy.
pub const SKU: &str = "NOTE-01";

/// A customer thinks for this long between two purchases: some ten purchases a second for each leave a small machine the
/// time to elect leaders.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two tries of one purchase.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// More than they can buy.
const PLENTY: u32 = 1_000_000;

/// Longer than any fault here, with a take-over and a deadline after it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where the time to pay is shorter than an election may take on a busy machine, one in so many checkouts may run out of it.
const MOST_TOO_LATE: usize = 10;

/// The words of a checkout that has ended.
const ENDS: [&str; 6] = ["paid", "declined", "cancelled", "expired", "out_of_stock", "payment_unavailable"];

/// Customers who come again and again until they are sent home.
#[derive(Debug)]
pub struct Customers {
    stop: CancellationToken,
    accepted: Arc<AtomicUsize>,
    buying: Vec<JoinHandle<Visits>>,
}

/// What customers were told.
#[derive(Debug, Default)]
pub struct Visits {
    /// Every checkout that was accepted.
    pub accepted: BTreeSet<String>,
    /// How often each status was answered to a start.
    pub answers: BTreeMap<u16, u32>,
    /// Starts that got no answer at all.
    pub unanswered: u32,
    /// The longest that one customer was without an acceptance.
    pub longest_gap: Duration,
}

#[derive(Debug, Clone)]
struct Customer {
    number: usize,
    http: Client,
    gateways: Vec<String>,
    payments: String,
    stop: CancellationToken,
    accepted: Arc<AtomicUsize>,
}

impl Customers {
    /// So many customers begin to buy at these gateways, each trying another one when it is refused.
    pub async fn come(shop: &Shop, customers: usize, gateways: &[usize]) -> Self {
        restock(shop).await;
        let http = Client::builder().timeout(Duration::from_secs(20)).build().expect("an HTTP client");
        let (stop, accepted) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let customer = |number| Customer {
            number,
            http: http.clone(),
            gateways: gateways.iter().map(|gateway| shop.gateway_url(*gateway)).collect(),
            payments: shop.payment_url(),
            stop: stop.clone(),
            accepted: Arc::clone(&accepted),
        };
        let buying = (0..customers).map(|number| tokio::spawn(customer(number).buy())).collect();
        Self { stop, accepted, buying }
    }

    /// How many checkouts have been accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Wait until so many more checkouts are accepted.
    pub async fn until_served(&self, more: usize) {
        let before = self.accepted();
        let what = format!("{more} more checkouts are accepted after {before}");
        eventually_within(PATIENCE, &what, async || (self.accepted() >= before + more).then_some(())).await;
    }

    /// No more purchases; what they were told.
    pub async fn go_home(self) -> Visits {
        self.stop.cancel();
        let mut all = Visits::default();
        for visits in join_all(self.buying).await {
            let visits = visits.expect("a customer does not panic");
            all.accepted.extend(visits.accepted);
            visits.answers.into_iter().for_each(|(status, count)| *all.answers.entry(status).or_default() += count);
            all.unanswered += visits.unanswered;
            all.longest_gap = all.longest_gap.max(visits.longest_gap);
        }
        println!(
            "{} checkouts accepted; answers {:?}, {} without; longest gap {:.1} s",
            all.accepted.len(),
            all.answers,
            all.unanswered,
            all.longest_gap.as_secs_f64()
        );
        all
    }
}

impl Visits {
    /// Everything that was accepted comes to an end, nobody was told nonsense, and the provider's books and the doctor agree.
    ///
    /// # Panics
    /// When it is not so.
    pub async fn end_well(&self, shop: &Shop) {
        assert!(!self.accepted.is_empty(), "nobody has bought anything");
        let sensible = [201, 202, 409, 502, 503];
        assert!(self.answers.keys().all(|status| sensible.contains(status)), "{:?}", self.answers);
        let too_late = self.answers.get(&502).copied().unwrap_or_default();
        assert!(
            too_late as usize * MOST_TOO_LATE <= self.accepted.len(),
            "too many had no time to pay: {:?}",
            self.answers
        );
        let mut paid = BTreeSet::new();
        for id in &self.accepted {
            if until_ended(shop, id).await == "paid" {
                paid.insert(id.as_str());
            }
        }
        let books = shop.all_books().await;
        let mut sessions: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for session in &books {
            sessions.entry(session["client_reference_id"].as_str().unwrap_or_default()).or_default().push(session);
        }
        for id in &self.accepted {
            let sessions = sessions.get(id.as_str()).map_or(&[][..], Vec::as_slice);
            assert!(sessions.len() <= 1, "checkout {id} has {} sessions", sessions.len());
            let kept: usize =
                sessions.iter().map(|session| count(session, "charges") - count(session, "refunds")).sum();
            assert_eq!(kept, usize::from(paid.contains(id.as_str())), "checkout {id}: {sessions:?}");
        }
        shop.is_healthy().await;
    }
}

fn count(session: &Value, what: &str) -> usize {
    session[what].as_array().map_or(0, Vec::len)
}

async fn until_ended(shop: &Shop, id: &str) -> String {
    let url = format!("{}/api/checkout_session/{id}", shop.shop_url());
    eventually_within(PATIENCE, &format!("checkout {id} ends"), async || {
        let view: Value = shop.http.get(&url).send().await.ok()?.json().await.ok()?;
        let status = view["status"].as_str().filter(|status| ENDS.contains(status))?;
        let refunding = view["refund"] == "pending";
        (!refunding).then(|| status.to_owned())
    })
    .await
}

async fn restock(shop: &Shop) {
    let request = shop
        .http
        .post(format!("{}/api/products/{SKU}/restock", shop.shop_url()))
        .bearer_auth(OPERATOR_TOKEN)
        .header("Idempotency-Key", "plenty")
        .json(&json!({ "quantity": PLENTY }));
    let answer = request.send().await.expect("the gateway answers");
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
}

impl Customer {
    async fn buy(self) -> Visits {
        let mut visits = Visits::default();
        let mut last_accepted = Instant::now();
        for visit in 0.. {
            let key = format!("customer-{}-{visit}", self.number);
            let accepted = self.start(&key, &mut visits).await;
            visits.longest_gap = visits.longest_gap.max(last_accepted.elapsed());
            let Some(checkout) = accepted else { break };
            last_accepted = Instant::now();
            self.decide(visit % 5, &checkout).await;
            tokio::time::sleep(PAUSE).await;
        }
        visits
    }

    /// Ask until it is accepted, under one key, at one gateway after the other; `None` when it is time to go home.
    async fn start(&self, key: &str, visits: &mut Visits) -> Option<Value> {
        let body = json!({ "items": [{ "sku": SKU, "quantity": 1 }] });
        for gateway in self.gateways.iter().cycle() {
            if self.stop.is_cancelled() {
                return None;
            }
            let url = format!("{gateway}/api/checkout_session");
            let Ok(answer) = self.http.post(url).header("Idempotency-Key", key).json(&body).send().await else {
                visits.unanswered += 1;
                tokio::time::sleep(TRY_AGAIN).await;
                continue;
            };
            let status = answer.status();
            *visits.answers.entry(status.as_u16()).or_default() += 1;
            let answer: Value = answer.json().await.unwrap_or_default();
            // A checkout that was started by a try that looked lost may have ended by now, and one whose time to pay was over
            // before anybody could open its session has ended, too: they count as accepted.
            let is_over = [StatusCode::CONFLICT, StatusCode::BAD_GATEWAY].contains(&status);
            let is_accepted = status.is_success() || is_over;
            if let Some(id) = answer["workflow_id"].as_str().filter(|_| is_accepted) {
                visits.accepted.insert(id.to_owned());
                self.accepted.fetch_add(1, Ordering::Relaxed);
                return Some(answer);
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        None
    }

    async fn decide(&self, wish: usize, checkout: &Value) {
        let session = json!({ "session_id": checkout["payment"]["session_id"] });
        let id = checkout["workflow_id"].as_str().unwrap_or_default();
        let act = match wish {
            0..=2 => self.http.post(format!("{}/api/submit_payment", self.payments)).json(&session),
            3 => self.http.post(format!("{}/api/checkout_session/{id}/cancel", self.gateways[0])),
            _ => return,
        };
        // Whether it got through or not: the checkout must end either way.
        let _ = act.send().await;
    }
}
