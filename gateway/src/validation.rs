//! What a client sends becomes typed at the door: a cart, then priced lines. Everything that is wrong is told at once,
//! each with a pointer to where it stands.

pub(crate) mod object;

use common::{
    contracts::{
        catalogue::Product,
        checkout::{Line, MAX_LINES, MAX_QUANTITY, RequestFingerprint},
    },
    ids::{IdempotencyKey, Sku},
    money::Money,
    service::http::{FieldError, Problem, media_type},
};
use http::HeaderMap;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::object::Object;
use crate::config::DefaultProduct;

/// What somebody wants to buy, before anybody has looked into the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cart {
    /// Nothing was named: one of the shop's default product.
    Default,
    /// These, in the order of the request; at least one, each SKU once.
    Items(Vec<Item>),
}

/// One line of a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Which article.
    pub(crate) sku: Sku,
    /// How many, 1 to [`MAX_QUANTITY`].
    pub(crate) quantity: u32,
}

/// A checkout request as it came, read and checked in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartRequest {
    /// What is wanted.
    pub(crate) cart: Cart,
    /// The key in a browser's form; a header's key goes before it.
    pub(crate) form_key: Option<IdempotencyKey>,
    /// Whether a browser's form sent it, which wants to be led on, not to be told JSON.
    pub(crate) is_form: bool,
}

/// Whether a body is a browser's form.
pub(crate) fn is_form(headers: &HeaderMap, body: &[u8]) -> bool {
    !body.is_empty() && media_type(headers).as_deref() == Some("application/x-www-form-urlencoded")
}

impl StartRequest {
    /// Read a request's body by its content type. No body asks for the default product.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Problem> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { cart: Cart::Default, form_key: None, is_form: false });
        }
        match media_type(headers).as_deref() {
            Some("application/json") => Ok(Self { cart: read_json(body)?, form_key: None, is_form: false }),
            Some("application/x-www-form-urlencoded") => read_form(body),
            _ => Err(Problem::unsupported_media_type(
                "Send the cart as application/json, or as the form of the store page.",
            )),
        }
    }
}

type NullOrItems = Option<Vec<Object<RawItem>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCart {
    /// Outer: whether it is there at all.
    #[serde(default, deserialize_with = "present")]
    items: Option<NullOrItems>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    #[serde(default)]
    sku: Value,
    #[serde(default)]
    quantity: Value,
}

fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<NullOrItems>, D::Error> {
    Option::deserialize(field).map(Some)
}

fn read_json(body: &[u8]) -> Result<Cart, Problem> {
    // Unknown members (a price, say) and members that stand twice are refused by serde: nobody should believe that
    // they have an effect.
    let raw: RawCart = object::from_slice(body).map_err(|error| {
        let detail = error.to_string();
        invalid([FieldError { pointer: String::new(), detail }])
    })?;
    match raw.items {
        None => Ok(Cart::Default),
        Some(None) => Err(invalid([error("/items", "must be a list; leave it out to buy the default product")])),
        Some(Some(items)) => check_items(&items),
    }
}

fn check_items(raw: &[Object<RawItem>]) -> Result<Cart, Problem> {
    if raw.is_empty() {
        return Err(invalid([error("/items", "must have at least one line")]));
    }
    if raw.len() > MAX_LINES {
        return Err(invalid([error("/items", &format!("has {} lines, at most {MAX_LINES} are allowed", raw.len()))]));
    }
    let (mut items, mut errors) = (Vec::<Item>::new(), Vec::new());
    for (place, Object(raw)) in raw.iter().enumerate() {
        let sku = check_sku(&raw.sku).map_err(|detail| error(&format!("/items/{place}/sku"), &detail));
        let quantity =
            check_quantity(&raw.quantity).map_err(|detail| error(&format!("/items/{place}/quantity"), &detail));
        match (sku, quantity) {
            (Ok(sku), Ok(_)) if items.iter().any(|item| item.sku == sku) => {
                let detail = format!("{sku} stands in the cart twice; send one line with the sum");
                errors.push(error(&format!("/items/{place}/sku"), &detail));
            }
            (Ok(sku), Ok(quantity)) => items.push(Item { sku, quantity }),
            (sku, quantity) => errors.extend(sku.err().into_iter().chain(quantity.err())),
        }
    }
    if errors.is_empty() { Ok(Cart::Items(items)) } else { Err(invalid(errors)) }
}

fn check_sku(value: &Value) -> Result<Sku, String> {
    match value {
        Value::String(text) => text.parse::<Sku>().map_err(|error| error.to_string()),
        Value::Null => Err("is missing".into()),
        _ => Err("must be a text".into()),
    }
}

/// A whole number from 1 to the most that may be bought.
pub(crate) fn check_quantity(value: &Value) -> Result<u32, String> {
    let expected = || format!("must be a whole number from 1 to {MAX_QUANTITY}");
    if value.is_null() {
        return Err("is missing".into());
    }
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or_else(expected)?;
    if (1..=MAX_QUANTITY).contains(&number) { Ok(number) } else { Err(expected()) }
}

#[derive(Deserialize)]
struct RawForm {
    sku: Option<String>,
    quantity: Option<String>,
    idempotency_key: Option<String>,
}

fn read_form(body: &[u8]) -> Result<StartRequest, Problem> {
    let form: RawForm = serde_html_form::from_bytes(body)
        .map_err(|problem| invalid([error("", &format!("the form cannot be read ({problem})"))]))?;
    let Some(sku) = form.sku else {
        return Err(invalid([error(
            "sku",
            "is missing; if this was meant as JSON, send the header Content-Type: application/json",
        )]));
    };
    let quantity = form.quantity.as_deref().map_or(Ok(1), |text| text.trim().parse::<u64>());
    let raw = RawItem { sku: Value::from(sku), quantity: quantity.map_or(Value::Bool(false), Value::from) };
    let form_key = form.idempotency_key.map(|key| check_key(&key)).transpose()?;
    Ok(StartRequest { cart: check_items(&[Object(raw)])?, form_key, is_form: true })
}

/// The idempotency key in a request's headers, if there is one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::validation("There must be one Idempotency-Key, not several."));
    }
    // A value that is not text is not ASCII either; its bytes are of no use in the message.
    check_key(value.to_str().unwrap_or("\u{fffd}")).map(Some)
}

fn check_key(text: &str) -> Result<IdempotencyKey, Problem> {
    text.parse().map_err(|problem: common::ids::InvalidName| {
        Problem::validation("The idempotency key is not valid.").with_error("Idempotency-Key", problem.to_string())
    })
}

impl Cart {
    /// A hash of what was asked for, the same however it was written: the order of lines, spaces and the spelling of
    /// JSON do not matter, and prices are not part of the request.
    pub(crate) fn fingerprint(&self) -> RequestFingerprint {
        let mut lines: Vec<String> = match self {
            Self::Default => vec!["default".into()],
            Self::Items(items) => items.iter().map(|item| format!("{}={}", item.sku, item.quantity)).collect(),
        };
        lines.sort_unstable();
        // Names the form, so that another one can be told from it one day. A SKU holds neither "=" nor a line end.
        let canonical = format!("checkout 1\n{}", lines.join("\n"));
        RequestFingerprint(hex::encode(Sha256::digest(canonical)))
    }

    /// Look everything up in the catalogue, freeze the prices, and add up.
    pub(crate) fn price<'a>(
        &self,
        default: &DefaultProduct,
        first: Option<&Product>,
        find: impl Fn(&Sku) -> Option<&'a Product>,
    ) -> Result<(Vec<Line>, Money), Problem> {
        let items = match (self, default) {
            (Self::Items(items), _) => items.clone(),
            (Self::Default, DefaultProduct::None) => {
                return Err(invalid([error("/items", "is missing: say what to buy")]));
            }
            (Self::Default, DefaultProduct::Sku(sku)) => vec![Item { sku: sku.clone(), quantity: 1 }],
            (Self::Default, DefaultProduct::First) => {
                let product =
                    first.ok_or_else(|| Problem::unavailable("The catalogue is empty: there is nothing to buy."))?;
                vec![Item { sku: product.sku.clone(), quantity: 1 }]
            }
        };
        let (mut lines, mut errors) = (Vec::with_capacity(items.len()), Vec::new());
        for (place, Item { sku, quantity }) in items.into_iter().enumerate() {
            match find(&sku) {
                Some(product) => {
                    lines.push(Line { sku, name: product.name.clone(), quantity, unit_price: product.price });
                }
                None => errors.push(error(&format!("/items/{place}/sku"), &format!("{sku} is not in the catalogue"))),
            }
        }
        if !errors.is_empty() {
            return Err(invalid(errors));
        }
        let total = sum(&lines)?;
        Ok((lines, total))
    }
}

fn sum(lines: &[Line]) -> Result<Money, Problem> {
    let mut total: Option<Money> = None;
    for (place, line) in lines.iter().enumerate() {
        let currency = total.map_or(line.unit_price.currency, |total| total.currency);
        if line.unit_price.currency != currency {
            let detail = format!(
                "{} is priced in {}, the lines before it in {currency}: pay for them in separate checkouts",
                line.sku, line.unit_price.currency
            );
            return Err(invalid([error(&format!("/items/{place}/sku"), &detail)]));
        }
        let so_far = total.unwrap_or(Money { amount: 0, currency });
        let sum = line.unit_price.times(line.quantity).and_then(|price| so_far.plus(price));
        total = Some(sum.ok_or_else(|| {
            invalid([error(&format!("/items/{place}/quantity"), "the total is too large to be paid")])
        })?);
    }
    total.ok_or_else(|| invalid([error("/items", "must have at least one line")]))
}

fn error(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}

fn invalid(errors: impl IntoIterator<Item = FieldError>) -> Problem {
    Problem::validation("The request is not valid; see errors.").with_errors(errors)
}

#[cfg(test)]
mod tests;
