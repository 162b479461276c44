//! Customers: each goes the way of its visit, against whatever happens, and remembers what it was told.

use std::{sync::Arc, time::Duration};

use common::time;
use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    stage::{OPERATOR_TOKEN, Stage},
    told::{Answer, Asked, Told},
    visits::{Visit, Way},
};

/// How long a customer tries to get a payment link, longer than any single fault lasts.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long somebody tries to get something done whose failure changes nothing.
const SHORT_PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);

/// Go the way of a visit.
pub(super) async fn visit(stage: Arc<Stage>, visit: Visit, payment_timeout: Duration) -> anyhow::Result<Told> {
    let told = Told { key: visit.key.clone(), checkout: visit.checkout()?, way: visit.way, answers: Vec::new() };
    let mut customer = Customer { stage, visit, told };
    customer.go(payment_timeout).await;
    Ok(customer.told)
}

struct Customer {
    stage: Arc<Stage>,
    visit: Visit,
    told: Told,
}

impl Customer {
    async fn go(&mut self, payment_timeout: Duration) {
        self.make_trouble().await;
        if self.visit.way == Way::SameKeyAtOnce {
            self.start_at_once().await;
        }
        let session = self.start().await;
        sleep(Duration::from_millis(self.visit.thinking_millis)).await;
        if self.visit.way == Way::CancelledInShop && self.told.is_accepted() {
            return self.cancel().await;
        }
        let Some(session) = session else { return };
        match self.visit.way {
            Way::Paid | Way::SeveralLines | Way::Hot | Way::SameKeyAtOnce | Way::LiedAbout => {
                self.at_provider("submit_payment", &session).await;
            }
            Way::OtherCart => {
                self.start_other_cart().await;
                self.at_provider("submit_payment", &session).await;
            }
            Way::Declined => self.at_provider("decline_payment", &session).await,
            Way::CancelledAtProvider => self.at_provider("cancel_payment", &session).await,
            Way::PaidLate => self.pay_late(&session, payment_timeout).await,
            Way::RefundedByHand => {
                self.at_provider("submit_payment", &session).await;
                self.refund_by_hand().await;
            }
            Way::Forged => self.forge(&session).await,
            Way::CancelledInShop | Way::Left | Way::OutOfStock | Way::Unwanted => {}
        }
    }

    /// Tell the sandbox how it misbehaves for this checkout.
    async fn make_trouble(&self) {
        for rule in &self.visit.troubles {
            let mut rule = rule.clone();
            rule["reference"] = json!(self.told.checkout.to_string());
            let url = format!("{}/api/faults", self.stage.sandbox_url());
            // A sandbox that is down at the moment does not misbehave later: the visit goes without this trouble.
            let _ = self.stage.http.post(url).json(&rule).send().await;
        }
    }

    fn start_request(&self, gateway: u32, body: &Value) -> RequestBuilder {
        let number = usize::try_from(gateway).unwrap_or_default();
        let url = format!("{}/api/checkout_session", self.stage.gateway_url(number));
        self.stage.http.post(url).header("Idempotency-Key", &self.visit.key).json(body)
    }

    /// The same request on all gateways, four times each, at the same time.
    async fn start_at_once(&mut self) {
        let body = self.visit.body();
        let requests = (0..8).map(|number| ask(Asked::Start, self.start_request(number, &body)));
        self.told.answers.extend(join_all(requests).await);
    }

    /// Ask until there is a payment link or a final no; the session.
    async fn start(&mut self) -> Option<String> {
        let (started, body) = (Instant::now(), self.visit.body());
        for attempt in self.visit.number.. {
            let answer = ask(Asked::Start, self.start_request(attempt, &body)).await;
            self.told.answers.push(answer.clone());
            if !answer.is_worth_another_try() || started.elapsed() > PATIENCE {
                return answer.session_id;
            }
            // Somebody who wants to cancel does not wait for the link.
            if self.visit.way == Way::CancelledInShop && answer.is_success() {
                return None;
            }
            sleep(PAUSE).await;
        }
        None
    }

    async fn start_other_cart(&mut self) {
        let mut body = self.visit.body();
        body["items"][0]["quantity"] = json!(9);
        self.repeat(Asked::OtherCart, 1, |customer, attempt| customer.start_request(attempt, &body)).await;
    }

    async fn cancel(&mut self) {
        let path = format!("api/checkout_session/{}/cancel", self.told.checkout);
        self.repeat(Asked::Cancel, 1, |customer, attempt| customer.post(attempt, &path)).await;
    }

    async fn refund_by_hand(&mut self) {
        if !self.until_status(SHORT_PATIENCE, |status| status == "paid").await {
            return;
        }
        let path = format!("api/checkout_session/{}/refund", self.told.checkout);
        let request = |customer: &Self, attempt| {
            let reason = json!({ "reason": "arrived broken" });
            customer.post(attempt, &path).bearer_auth(OPERATOR_TOKEN).json(&reason)
        };
        // Asked for once more although it is done.
        self.repeat(Asked::Refund, 2, request).await;
    }

    async fn pay_late(&self, session: &str, payment_timeout: Duration) {
        let patience = payment_timeout + SHORT_PATIENCE;
        if !self.until_status(patience, |status| status == "expired" || status == "cancelled").await {
            return;
        }
        let rule = json!({
            "call": "submit_payment", "fault": "pay_after_close", "reference": self.told.checkout.to_string(),
        });
        let url = format!("{}/api/faults", self.stage.sandbox_url());
        let _ = self.stage.http.post(url).json(&rule).send().await;
        self.at_provider("submit_payment", session).await;
    }

    /// What somebody would send who knows everything but the secret.
    async fn forge(&mut self, session: &str) {
        let body = json!({
            "id": format!("evt_forged_{}", self.visit.number),
            "type": "payment_session.paid",
            "session_id": session,
            "client_reference_id": self.told.checkout.to_string(),
            "payment_status": "paid",
            "amount": 1,
            "currency": "eur",
        });
        let signature = format!("t={},v1={}", time::now().as_second(), "5".repeat(64));
        self.repeat(Asked::ForgedWebhook, 1, |customer, attempt| {
            customer
                .post(attempt, "payment_webhook")
                .header(common::payment::sandbox::SIGNATURE_HEADER, &signature)
                .json(&body)
        })
        .await;
    }

    fn post(&self, gateway: u32, path: &str) -> RequestBuilder {
        let number = usize::try_from(gateway).unwrap_or_default();
        self.stage.http.post(format!("{}/{path}", self.stage.gateway_url(number)))
    }

    /// Ask until there is an answer that is final, so many times.
    async fn repeat(&mut self, asked: Asked, times: u32, request: impl Fn(&Self, u32) -> RequestBuilder) {
        for _ in 0..times {
            let started = Instant::now();
            for attempt in 0.. {
                let answer = ask(asked, request(self, attempt)).await;
                let again = matches!(answer.status, 0 | 429 | 500 | 503) && started.elapsed() < SHORT_PATIENCE;
                self.told.answers.push(answer);
                if !again {
                    break;
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// Do something at the provider until it says yes or no.
    async fn at_provider(&self, action: &str, session: &str) {
        let (started, url) = (Instant::now(), format!("{}/api/{action}", self.stage.sandbox_url()));
        while started.elapsed() < SHORT_PATIENCE {
            let answer = self.stage.http.post(&url).json(&json!({ "session_id": session })).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success() || answer.status().as_u16() == 409) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether the checkout comes to a status in time.
    async fn until_status(&self, patience: Duration, is_so: impl Fn(&str) -> bool) -> bool {
        let started = Instant::now();
        for attempt in 0_usize.. {
            let url = format!("{}/api/checkout_session/{}", self.stage.gateway_url(attempt), self.told.checkout);
            if let Ok(answer) = self.stage.http.get(url).send().await
                && let Ok(view) = answer.json::<Value>().await
                && view["status"].as_str().is_some_and(&is_so)
            {
                return true;
            }
            if started.elapsed() > patience {
                return false;
            }
            sleep(PAUSE).await;
        }
        false
    }
}

async fn ask(asked: Asked, request: RequestBuilder) -> Answer {
    let Ok(answer) = request.send().await else { return Answer::none(asked) };
    let status = answer.status().as_u16();
    // A body that breaks off is no answer: nobody can say what was meant.
    match answer.json::<Value>().await {
        Ok(body) => Answer::read(asked, status, &body),
        Err(_) => Answer::none(asked),
    }
}
