//! What the gateway answers: the public shapes in JSON, and how a problem looks to whom.

use common::{
    contracts::{TypeName as _, checkout::RefundStatus},
    money::Money,
    service::http::{FieldError, Problem},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use warp::{Reply, reply::Response};

use crate::{
    catalogue::Article,
    checkout_view::{CheckoutView, Entry},
    pages,
    refund_view::RefundView,
};

/// An amount of money.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Money)]
pub(crate) struct MoneyBody {
    /// Whole minor units (cents).
    #[schema(example = 1850)]
    pub(crate) amount: i64,
    /// ISO 4217 code in lower case.
    #[schema(example = "eur")]
    pub(crate) currency: String,
}

impl From<Money> for MoneyBody {
    fn from(money: Money) -> Self {
        Self { amount: money.amount, currency: money.currency.to_string() }
    }
}

/// Where the customer pays.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Payment)]
pub(crate) struct PaymentBody {
    /// The provider's name for the session.
    pub(crate) session_id: String,
    /// The page to send the customer to.
    pub(crate) url: String,
}

/// A checkout that has been started.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = StartedCheckout)]
pub(crate) struct StartedBody {
    /// The checkout's id: ask for it at `/api/checkout_session/{id}`.
    pub(crate) workflow_id: String,
    /// Where it stands.
    #[schema(example = "awaiting_payment")]
    pub(crate) status: &'static str,
    /// Where the customer pays; absent while the payment page is still being opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment: Option<PaymentBody>,
    /// What is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<MoneyBody>,
    /// Until when it can be paid (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
}

impl From<&CheckoutView> for StartedBody {
    fn from(view: &CheckoutView) -> Self {
        let payment = view.session.as_ref().map(|session| PaymentBody {
            session_id: session.session_id.to_string(),
            url: session.payment_url.clone(),
        });
        Self {
            workflow_id: view.id.to_string(),
            status: view.status.as_str(),
            payment,
            amount: view.total.map(MoneyBody::from),
            expires_at: view.payment_deadline.map(|at| at.to_string()),
        }
    }
}

/// One line of a checkout.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Line)]
pub(crate) struct LineBody {
    /// Which article.
    pub(crate) sku: String,
    /// What it was called when it was bought.
    pub(crate) name: String,
    /// How many.
    pub(crate) quantity: u32,
    /// The price of one, as it was when the checkout started.
    pub(crate) unit_price: MoneyBody,
}

/// An article of which there was too little.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Lacking)]
pub(crate) struct LackingBody {
    /// Which article.
    pub(crate) sku: String,
    /// How many were wanted.
    pub(crate) requested: u32,
    /// How many there were.
    pub(crate) available: u64,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TimelineEntry)]
pub(crate) struct EntryBody {
    /// Its place in the stream: the id of the server-sent event that tells it.
    pub(crate) sequence: u64,
    /// Its place in the history: 0, 1, 2, …
    pub(crate) index: u64,
    /// When it was decided (RFC 3339).
    pub(crate) at: String,
    /// Where the checkout stood after it.
    #[schema(example = "awaiting_payment")]
    pub(crate) status: &'static str,
    /// What happened, in the words of the history.
    #[schema(example = json!(["payment_session_opened"]))]
    pub(crate) types: Vec<&'static str>,
    /// The same for people.
    pub(crate) sentence: String,
}

impl From<&Entry> for EntryBody {
    fn from(entry: &Entry) -> Self {
        Self {
            sequence: entry.sequence,
            index: entry.index,
            at: entry.at.to_string(),
            status: entry.status.as_str(),
            types: entry.events.iter().map(|event| event.type_name()).collect(),
            sentence: entry.sentence.clone(),
        }
    }
}

/// A checkout as it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Checkout)]
pub(crate) struct CheckoutBody {
    /// What a started checkout says.
    #[serde(flatten)]
    pub(crate) started: StartedBody,
    /// What is bought.
    pub(crate) items: Vec<LineBody>,
    /// Where money stands that goes back: `pending`, `refunded` or `needs_attention`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refund: Option<&'static str>,
    /// What there was too little of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacking: Vec<LackingBody>,
    /// When the payment provider, which does not answer at the moment, is asked again (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_at: Option<String>,
    /// Why a person should look at it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) attention: Vec<String>,
    /// What has happened, oldest first.
    pub(crate) timeline: Vec<EntryBody>,
}

impl CheckoutBody {
    /// A checkout, with the refund by hand that may belong to it.
    pub(crate) fn new(view: &CheckoutView, by_hand: Option<&RefundView>) -> Self {
        let lines = view.lines.iter().map(|line| LineBody {
            sku: line.sku.to_string(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price.into(),
        });
        let refund_attention = by_hand.and_then(|refund| refund.attention.clone());
        Self {
            started: view.into(),
            items: lines.collect(),
            refund: refund_status(view, by_hand).map(RefundStatus::as_str),
            lacking: lacking(view),
            retry_at: view.trouble.as_ref().map(|trouble| trouble.retry_at.to_string()),
            attention: view.attention.iter().cloned().chain(refund_attention).collect(),
            timeline: view.timeline.iter().map(EntryBody::from).collect(),
        }
    }
}

/// Where money that goes back stands: by the checkout itself, or by an operator's hand.
pub(crate) fn refund_status(view: &CheckoutView, by_hand: Option<&RefundView>) -> Option<RefundStatus> {
    view.refund.or(by_hand.map(|refund| refund.status))
}

pub(crate) fn lacking(view: &CheckoutView) -> Vec<LackingBody> {
    let lacking = view.lacking.iter().map(|lacking| LackingBody {
        sku: lacking.sku.to_string(),
        requested: lacking.requested,
        available: lacking.available,
    });
    lacking.collect()
}

/// The `ETag` of a checkout: the history's revision, and the refund's if there is one.
pub(crate) fn etag(view: &CheckoutView, by_hand: Option<&RefundView>) -> String {
    match by_hand {
        None => format!("\"{}\"", view.revision),
        Some(refund) => format!("\"{}.{}\"", view.revision, refund.revision),
    }
}

/// An article with its stock.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Product)]
pub(crate) struct ProductBody {
    /// Which article.
    pub(crate) sku: String,
    /// What people call it.
    pub(crate) name: String,
    /// One or two sentences about it.
    pub(crate) description: String,
    /// What one costs.
    pub(crate) price: MoneyBody,
    /// How many can be bought.
    pub(crate) available: u64,
    /// How many are held for checkouts that are not decided.
    pub(crate) reserved: u64,
    /// How many have been sold.
    pub(crate) sold: u64,
}

impl From<Article> for ProductBody {
    fn from(article: Article) -> Self {
        let Article { product, balance } = article;
        Self {
            sku: product.sku.to_string(),
            name: product.name,
            description: product.description,
            price: product.price.into(),
            available: balance.available,
            reserved: balance.reserved,
            sold: balance.sold,
        }
    }
}

/// A page of articles.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ProductList)]
pub(crate) struct ProductListBody {
    /// The articles, in the order of their SKUs.
    pub(crate) data: Vec<ProductBody>,
    /// Whether there are more after the last one: ask with `starting_after=<its sku>`.
    pub(crate) has_more: bool,
}

/// Why a request was not done (RFC 9457), as documentation; [`Problem`] is what is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// `urn:checkout:problem:<code>`.
    #[serde(rename = "type")]
    problem_type: String,
    /// The code in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What to program against; it never changes its meaning.
    #[schema(example = "validation")]
    code: String,
    /// What happened, for people.
    detail: String,
    /// What exactly is wrong with the request, each with a JSON pointer.
    errors: Option<Vec<FieldErrorBody>>,
    /// The request, as it stands in the logs.
    request_id: Option<String>,
    /// The checkout that it is about.
    workflow_id: Option<String>,
    /// Where that checkout stands, if that is why.
    checkout_status: Option<String>,
    /// What there was too little of, with `out_of_stock`.
    lacking: Option<Vec<LackingBody>>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FieldError)]
pub(crate) struct FieldErrorBody {
    /// A JSON pointer into the body, or the name of a header or parameter.
    pointer: String,
    /// What is wrong, and what would be right.
    detail: String,
}

/// A JSON answer that no cache keeps.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = warp::reply::with_status(warp::reply::json(body), status).into_response();
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// Lead a browser on to a page.
pub(crate) fn see_other(location: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    set(&mut response, header::LOCATION, location);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// Set a header, if the value can be one.
pub(crate) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The path of a checkout in the API.
pub(crate) fn checkout_path(id: impl std::fmt::Display) -> String {
    format!("/api/checkout_session/{id}")
}

/// The path of a checkout's page.
pub(crate) fn page_path(id: impl std::fmt::Display) -> String {
    format!("/checkout/{id}")
}

/// An answer or a problem, as it is sent.
pub(crate) fn send(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Problem::into_response)
}

/// An answer, or a problem as a page: what a browser's form gets.
pub(crate) fn send_page(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|problem| pages::routes::of_problem(&in_one_sentence(problem)))
}

/// A page has no list of errors: they become the explanation, each with the last part of its pointer.
fn in_one_sentence(problem: Problem) -> Problem {
    let sentence = |error: &FieldError| {
        let field = error.pointer.rsplit('/').next().unwrap_or_default();
        format!("{field} {}.", error.detail).trim_start().to_owned()
    };
    let sentences: Vec<String> = problem.errors().iter().map(sentence).collect();
    if sentences.is_empty() { problem } else { Problem::new(problem.status(), problem.code(), sentences.join(" ")) }
}
