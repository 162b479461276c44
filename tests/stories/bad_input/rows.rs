//! The table of bad requests.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use stories::{OPERATOR_TOKEN, Shop};

use super::{GOOD_CART, JSON, START, UNKNOWN, sign};

/// A request, and how it must be refused.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) request: RequestBuilder,
    pub(super) status: u16,
    pub(super) code: &'static str,
}

/// Rows for one shop.
struct Table<'a> {
    shop: &'a Shop,
    rows: Vec<Row>,
}

impl Table<'_> {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.shop.http.request(method, format!("{}{path}", self.shop.shop_url()))
    }

    fn add(&mut self, name: impl Into<String>, request: RequestBuilder, status: u16, code: &'static str) {
        self.rows.push(Row { name: name.into(), request, status, code });
    }

    /// A cart as JSON that means nothing.
    fn cart(&mut self, name: &str, body: impl Into<Vec<u8>>) {
        let request = self.request(Method::POST, START).header("content-type", JSON).body(body.into());
        self.add(name, request, 400, "validation");
    }

    /// A good cart with a key that is none.
    fn key(&mut self, name: &str, key: &[u8]) {
        let request = self.request(Method::POST, START).header("content-type", JSON).body(GOOD_CART);
        let key = reqwest::header::HeaderValue::from_bytes(key).expect("a header value");
        self.add(name, request.header("Idempotency-Key", key), 400, "validation");
    }
}

/// Every row, against one shop.
pub(super) fn rows(shop: &Shop) -> Vec<Row> {
    let mut table = Table { shop, rows: Vec::new() };
    carts(&mut table);
    bodies(&mut table);
    keys(&mut table);
    addresses(&mut table);
    restocks(&mut table);
    webhooks(&mut table);
    table.rows
}

fn carts(table: &mut Table<'_>) {
    for (name, quantity) in [
        ("zero", "0"),
        ("negative", "-1"),
        ("31 bits", "2147483648"),
        ("64 bits and more", "18446744073709551617"),
        ("a half", "1.5"),
        ("not a number", "NaN"),
        ("a text", r#""1""#),
        ("an exponent", "1e0"),
        ("null", "null"),
    ] {
        table.cart(&format!("quantity: {name}"), format!(r#"{{"items":[{{"sku":"MUG-01","quantity":{quantity}}}]}}"#));
    }
    for sku in ["NOBODY-HAS-THIS", "", "a.b", "*", ">", "MUG 01", "../MUG-01", "ＭＵＧ", &"x".repeat(300)] {
        table.cart(&format!("sku {sku:.20}"), json!({ "items": [{ "sku": sku, "quantity": 1 }] }).to_string());
    }
    table.cart("an empty cart", r#"{"items":[]}"#);
    table.cart("a price of their own", r#"{"items":[{"sku":"MUG-01","quantity":1,"price":1}]}"#);
    table.cart("a total of their own", r#"{"items":[{"sku":"MUG-01","quantity":1}],"total":1}"#);
    table.cart("items twice", r#"{"items":[{"sku":"MUG-01","quantity":1}],"items":[{"sku":"MUG-01","quantity":2}]}"#);
    table.cart("quantity twice", r#"{"items":[{"sku":"MUG-01","quantity":1,"quantity":2}]}"#);
    table
        .cart("one article in two lines", r#"{"items":[{"sku":"MUG-01","quantity":1},{"sku":"MUG-01","quantity":1}]}"#);
    table.cart("half of it", &GOOD_CART.as_bytes()[..20]);
    table.cart("two of them", format!("{GOOD_CART}{GOOD_CART}"));
    table.cart("a list", r#"[{"sku":"MUG-01","quantity":1}]"#);
    table.cart("nothing but zeros", vec![0_u8; 1_000]);
    table.cart("UTF-16", GOOD_CART.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    table.cart("not UTF-8", [&br#"{"items":[{"sku":"MUG-01"#[..], b"\xff\xfe", br#"","quantity":1}]}"#].concat());
    let lines: Vec<Value> = (0..1_000).map(|number| json!({ "sku": format!("A-{number}"), "quantity": 1 })).collect();
    table.cart("1,000 lines", json!({ "items": lines }).to_string());
    table.cart("20,000 empty lines", format!(r#"{{"items":[{}]}}"#, vec!["{}"; 20_000].join(",")));
    table.cart("deep lists", format!(r#"{{"items":{}"#, "[".repeat(60_000)));
    table.cart(
        "a deep sku",
        format!(r#"{{"items":[{{"sku":{}1{},"quantity":1}}]}}"#, "[".repeat(1_000), "]".repeat(1_000)),
    );
    table.cart("deep objects", format!(r#"{{"items":{}"#, r#"{"items":"#.repeat(5_000)));
}

fn bodies(table: &mut Table<'_>) {
    let post =
        |table: &Table<'_>, kind: &str| table.request(Method::POST, START).header("content-type", kind.to_owned());
    let large = json!({ "items": vec![json!({ "sku": "MUG-01", "quantity": 1 }); 100_000] }).to_string();
    table.add("100,000 lines", post(table, JSON).body(large), 413, "too_large");
    table.add("1 MB", post(table, JSON).body(vec![b' '; 1_000_000]), 413, "too_large");
    for kind in ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/jsonp", ""] {
        let request = post(table, kind).body(GOOD_CART);
        table.add(format!("content type {kind:?}"), request, 415, "unsupported_media_type");
    }
    let compressed = post(table, JSON).header("content-encoding", "gzip").body(GOOD_CART);
    table.add("compressed", compressed, 415, "unsupported_media_type");
}

fn keys(table: &mut Table<'_>) {
    table.key("a key of 256 characters", "k".repeat(256).as_bytes());
    table.key("a key with spaces", b"my key");
    table.key("a key with a tab", b"my\tkey");
    table.key("an empty key", b"");
    table.key("a quoted empty key", b"\"\"");
    table.key("a key with quotes in it", b"my\"key");
    table.key("a key that is not ASCII", "schlüssel".as_bytes());
    table.key("a key that is not UTF-8", b"\xff\xfe");
    let two = table.request(Method::POST, START).header("content-type", JSON).body(GOOD_CART);
    let two = two.header("Idempotency-Key", "one").header("Idempotency-Key", "two");
    table.add("two keys", two, 400, "validation");
}

fn addresses(table: &mut Table<'_>) {
    let get = |table: &Table<'_>, path: &str| table.request(Method::GET, path).header("accept", JSON);
    let long = "0".repeat(300);
    let upper = UNKNOWN.to_uppercase();
    let bare = UNKNOWN.replace('-', "");
    for id in [&*upper, &bare, &long, "1", "*", "%3E", "a.b", "%00", "%2e%2e%2fother", "%F0%9F%8E%81"] {
        for (method, rest) in
            [(Method::GET, ""), (Method::GET, "/events"), (Method::POST, "/cancel"), (Method::GET, "?wait=1")]
        {
            let request = table.request(method, &format!("{START}/{id}{rest}")).header("accept", JSON);
            table.add(format!("id {id:.40} {rest}"), request, 400, "validation");
        }
    }
    for (method, rest) in [(Method::GET, ""), (Method::GET, "/events"), (Method::POST, "/cancel")] {
        let request = table.request(method, &format!("{START}/{UNKNOWN}{rest}")).header("accept", JSON);
        table.add(format!("an unknown checkout {rest}"), request, 404, "not_found");
    }
    for wait in ["61", "-1", "1.5", "soon", ""] {
        let request = get(table, &format!("{START}/{UNKNOWN}?wait={wait}"));
        table.add(format!("wait {wait:?}"), request, 400, "validation");
    }
    for until in ["paid", ""] {
        let request = get(table, &format!("{START}/{UNKNOWN}?wait=1&until={until}"));
        table.add(format!("until {until:?}"), request, 400, "validation");
    }
    let resume = get(table, &format!("{START}/{UNKNOWN}/events")).header("Last-Event-ID", "yesterday");
    table.add("a last event id that is no number", resume, 400, "validation");
    for path in ["/api", "/api/nothing", "/api/checkout_session/x/y/z", "/.env", "/api/products/MUG-01/buy"] {
        table.add(format!("unknown path {path}"), get(table, path), 404, "not_found");
    }
    table.add("an unknown article", get(table, "/api/products/NOBODY-HAS-THIS"), 404, "not_found");
    table.add("a sku that is none", get(table, "/api/products/a.b"), 400, "validation");
}

fn restocks(table: &mut Table<'_>) {
    let post = |table: &Table<'_>, token: &str| {
        let request =
            table.request(Method::POST, "/api/products/MUG-01/restock").header("authorization", token.to_owned());
        request.header("content-type", JSON)
    };
    let good = r#"{"quantity":5}"#;
    for token in ["", "Bearer", "Bearer wrong", "Basic b3BlcmF0b3I6eA=="] {
        let request = post(table, token).header("Idempotency-Key", "delivery-1").body(good);
        table.add(format!("restock with {token:?}"), request, 401, "unauthorized");
    }
    let token = format!("Bearer {OPERATOR_TOKEN}");
    table.add("restock without a key", post(table, &token).body(good), 400, "validation");
    for body in [
        r#"{"quantity":0}"#,
        r#"{"quantity":-5}"#,
        r#"{"quantity":1.5}"#,
        "{}",
        "5",
        r#"{"quantity":5,"sku":"TEE-01"}"#,
    ] {
        let request = post(table, &token).header("Idempotency-Key", "delivery-1").body(body);
        table.add(format!("restock of {body}"), request, 400, "validation");
    }
}

fn webhooks(table: &mut Table<'_>) {
    let post = |table: &Table<'_>, kind: &str| {
        table.request(Method::POST, "/payment_webhook").header("content-type", kind.to_owned())
    };
    let signed =
        |table: &Table<'_>, body: String| post(table, JSON).header("Payment-Signature", sign(&body)).body(body);
    table.add("a webhook of 1 MB", post(table, JSON).body(vec![b' '; 1_000_000]), 413, "too_large");
    let compressed = post(table, JSON).header("content-encoding", "gzip").body("{}");
    table.add("a compressed webhook", compressed, 415, "unsupported_media_type");
    // No address and no parameter says "paid": only a signed body does.
    let paid_by_path = table.request(Method::POST, &format!("/payment_webhook/{UNKNOWN}/paid"));
    table.add("a webhook that says paid in its path", paid_by_path.header("accept", JSON), 404, "not_found");
    let by_query = format!("/payment_webhook?client_reference_id={UNKNOWN}&payment_status=paid");
    let paid_by_query = table.request(Method::POST, &by_query).header("content-type", JSON).body("{}");
    table.add("a webhook that says paid in its query", paid_by_query, 400, "webhook_refused");
    table.add("a webhook as text", post(table, "text/plain").body("{}"), 415, "unsupported_media_type");
    for body in ["", "paid", "{}", "[]", r#"{"id":"a.b"}"#, r#"{"id":"*"}"#] {
        table.add(format!("a signed webhook {body:?}"), signed(table, body.into()), 400, "webhook_refused");
    }
    let paid = |reference: Value| {
        let event = json!({
            "id": "evt_1", "type": "payment_session.paid", "payment_status": "paid", "session_id": "cs_1",
            "client_reference_id": reference, "amount": 1490, "currency": "eur",
        });
        event.to_string()
    };
    for reference in [Value::Null, json!(""), json!("a.b"), json!(UNKNOWN.to_uppercase()), json!(7)] {
        let request = signed(table, paid(reference.clone()));
        table.add(format!("a signed webhook about {reference}"), request, 400, "webhook_refused");
    }
}
