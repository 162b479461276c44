//! Every bad input as a row of a table, and the fingerprint's canonical form.

use common::contracts::catalogue::ProductType;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn headers(content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().expect("a header value"));
    headers
}

fn json(body: &str) -> Result<StartRequest, Problem> {
    StartRequest::read(&headers("application/json"), body.as_bytes())
}

fn items(items: &[(&str, u32)]) -> Cart {
    let item = |(sku, quantity): &(&str, u32)| Item { sku: sku.parse().expect("a sku"), quantity: *quantity };
    Cart::Items(items.iter().map(item).collect())
}

fn product(sku: &str, price: Money) -> Product {
    Product {
        product_type: ProductType::Product,
        sku: sku.parse().expect("a sku"),
        name: sku.into(),
        description: String::new(),
        price,
        picture: String::new(),
    }
}

fn price(cart: &Cart, default: &DefaultProduct) -> Result<(Vec<Line>, Money), Problem> {
    let yen = Money { amount: 100, currency: "jpy".parse().expect("a currency") };
    let catalogue = [
        product("DEAR", Money::eur(i64::MAX)),
        product("MUG", Money::eur(500)),
        product("TEA", Money::eur(300)),
        product("WASHI", yen),
    ];
    cart.price(default, catalogue.first(), |sku| catalogue.iter().find(|product| product.sku == *sku))
}

#[rstest]
#[case::not_json("{", "")]
#[case::not_an_object("[]", "")]
#[case::a_number("1", "")]
#[case::unknown_member(r#"{"items":[{"sku":"MUG","quantity":1}],"coupon":"x"}"#, "")]
#[case::a_price_of_the_clients_own(r#"{"items":[{"sku":"MUG","quantity":1,"price":1}]}"#, "")]
#[case::items_twice(r#"{"items":[{"sku":"MUG","quantity":1}],"items":[]}"#, "")]
#[case::quantity_twice(r#"{"items":[{"sku":"MUG","quantity":1,"quantity":2}]}"#, "")]
#[case::items_null(r#"{"items":null}"#, "/items")]
#[case::items_not_a_list(r#"{"items":"MUG"}"#, "")]
#[case::empty_cart(r#"{"items":[]}"#, "/items")]
#[case::a_line_as_a_list(r#"{"items":[["MUG",1]]}"#, "")]
#[case::a_line_that_is_no_object(r#"{"items":["MUG"]}"#, "")]
#[case::no_sku(r#"{"items":[{"quantity":1}]}"#, "/items/0/sku")]
#[case::sku_not_text(r#"{"items":[{"sku":7,"quantity":1}]}"#, "/items/0/sku")]
#[case::sku_with_a_dot(r#"{"items":[{"sku":"a.b","quantity":1}]}"#, "/items/0/sku")]
#[case::sku_with_a_wildcard(r#"{"items":[{"sku":">","quantity":1}]}"#, "/items/0/sku")]
#[case::sku_empty(r#"{"items":[{"sku":"","quantity":1}]}"#, "/items/0/sku")]
#[case::no_quantity(r#"{"items":[{"sku":"MUG"}]}"#, "/items/0/quantity")]
#[case::quantity_zero(r#"{"items":[{"sku":"MUG","quantity":0}]}"#, "/items/0/quantity")]
#[case::quantity_negative(r#"{"items":[{"sku":"MUG","quantity":-1}]}"#, "/items/0/quantity")]
#[case::quantity_broken(r#"{"items":[{"sku":"MUG","quantity":1.5}]}"#, "/items/0/quantity")]
#[case::quantity_whole_but_float(r#"{"items":[{"sku":"MUG","quantity":1.0}]}"#, "/items/0/quantity")]
#[case::quantity_text(r#"{"items":[{"sku":"MUG","quantity":"1"}]}"#, "/items/0/quantity")]
#[case::quantity_over_the_most(r#"{"items":[{"sku":"MUG","quantity":1000001}]}"#, "/items/0/quantity")]
#[case::quantity_over_32_bits(r#"{"items":[{"sku":"MUG","quantity":4294967297}]}"#, "/items/0/quantity")]
#[case::quantity_nan(r#"{"items":[{"sku":"MUG","quantity":NaN}]}"#, "")]
#[case::the_second_line(r#"{"items":[{"sku":"MUG","quantity":1},{"sku":"TEA","quantity":0}]}"#, "/items/1/quantity")]
#[case::a_sku_twice(r#"{"items":[{"sku":"MUG","quantity":1},{"sku":"MUG","quantity":1}]}"#, "/items/1/sku")]
fn a_cart_that_is_not_valid_is_refused_with_a_pointer(#[case] body: &str, #[case] pointer: &str) {
    let problem = json(body).expect_err("not valid");
    assert_eq!((problem.status().as_u16(), problem.code()), (400, "validation"), "{problem}");
    assert_eq!(problem.errors()[0].pointer, pointer, "{problem:?}");
    assert!(!problem.errors()[0].detail.is_empty());
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let problem = json(r#"{"items":[{"sku":"a.b","quantity":0},{"sku":"MUG","quantity":-2}]}"#).expect_err("not valid");
    let pointers: Vec<_> = problem.errors().iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/items/0/sku", "/items/0/quantity", "/items/1/quantity"]);
}

#[test]
fn too_many_lines_and_too_deep_json_are_refused() {
    let lines = |count: usize| {
        let lines: Vec<String> = (0..count).map(|n| format!(r#"{{"sku":"S{n}","quantity":1}}"#)).collect();
        json(&format!(r#"{{"items":[{}]}}"#, lines.join(",")))
    };
    assert!(lines(MAX_LINES).is_ok());
    assert_eq!(lines(MAX_LINES + 1).expect_err("too many").errors()[0].pointer, "/items");
    let deep = format!(r#"{{"items":[{{"sku":{}1{},"quantity":1}}]}}"#, "[".repeat(1000), "]".repeat(1000));
    assert_eq!(json(&deep).expect_err("too deep").code(), "validation");
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let body = b"{\"items\":[{\"sku\":\"\xff\",\"quantity\":1}]}";
    assert_eq!(StartRequest::read(&headers("application/json"), body).expect_err("not UTF-8").code(), "validation");
}

#[rstest]
#[case::none(None, 415)]
#[case::text(Some("text/plain"), 415)]
#[case::multipart(Some("multipart/form-data; boundary=x"), 415)]
#[case::json_with_charset(Some("application/json; charset=utf-8"), 200)]
#[case::json_in_capitals(Some("Application/JSON"), 200)]
fn the_content_type_decides_how_a_body_is_read(#[case] content_type: Option<&str>, #[case] status: u16) {
    let headers = content_type.map(headers).unwrap_or_default();
    let read = StartRequest::read(&headers, br#"{"items":[{"sku":"MUG","quantity":1}]}"#);
    assert_eq!(read.map_or_else(|problem| problem.status().as_u16(), |_| 200), status);
}

#[test]
fn no_body_or_no_items_is_the_default_product() {
    let default = StartRequest { cart: Cart::Default, form_key: None, is_form: false };
    assert_eq!(StartRequest::read(&HeaderMap::new(), b""), Ok(default.clone()));
    assert_eq!(StartRequest::read(&headers("application/x-www-form-urlencoded"), b""), Ok(default.clone()));
    assert_eq!(json(" \n"), Ok(default.clone()));
    assert_eq!(json("{}"), Ok(default));
}

#[test]
fn a_form_is_read_with_its_key() {
    let form = |body: &str| StartRequest::read(&headers("application/x-www-form-urlencoded"), body.as_bytes());
    let read = form("sku=MUG&quantity=2&idempotency_key=view-1").expect("a valid form");
    assert_eq!(read.cart, items(&[("MUG", 2)]));
    assert_eq!(read.form_key, Some("view-1".parse().expect("a key")));
    assert!(read.is_form);
    assert_eq!(form("sku=MUG").expect("one is meant").cart, items(&[("MUG", 1)]));
    for bad in
        ["quantity=2", "sku=MUG&quantity=", "sku=MUG&quantity=x", "sku=a.b", "sku=MUG&idempotency_key=a%20b", "{}"]
    {
        assert_eq!(form(bad).expect_err(bad).code(), "validation", "{bad}");
    }
}

#[test]
fn a_key_comes_quoted_or_bare_but_once_and_in_ascii() {
    let key = |values: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", http::HeaderValue::from_bytes(value).expect("a header value"));
        }
        idempotency_key(&headers)
    };
    assert_eq!(key(&[]), Ok(None));
    assert_eq!(key(&[b"\"k-1\""]), Ok(Some("k-1".parse().expect("a key"))));
    assert_eq!(key(&[b"a.*.>/../b"]).map(|key| key.is_some()), Ok(true), "it never becomes part of a subject");
    for bad in [&[b"".as_slice()] as &[&[u8]], &[b"a b"], &[b"\xff"], &[&[b'x'; 256]], &[b"a", b"b"]] {
        assert_eq!(key(bad).expect_err("not a key").code(), "validation");
    }
}

#[test]
fn prices_are_frozen_and_added_up() {
    let (lines, total) = price(&items(&[("TEA", 2), ("MUG", 1)]), &DefaultProduct::None).expect("in the catalogue");
    assert_eq!(total, Money::eur(1100));
    assert_eq!(lines[0].unit_price, Money::eur(300));
    let (lines, total) = price(&Cart::Default, &DefaultProduct::Sku("TEA".parse().expect("a sku"))).expect("there");
    assert_eq!((lines.len(), lines[0].quantity, total), (1, 1, Money::eur(300)));
}

#[test]
fn carts_that_cannot_be_priced_are_refused() {
    let pointer = |cart: &Cart| price(cart, &DefaultProduct::None).expect_err("no price").errors()[0].pointer.clone();
    assert_eq!(pointer(&items(&[("MUG", 1), ("NOTHING", 1)])), "/items/1/sku");
    assert_eq!(pointer(&items(&[("MUG", 1), ("WASHI", 1)])), "/items/1/sku", "two currencies");
    assert_eq!(pointer(&items(&[("DEAR", 2)])), "/items/0/quantity", "one line overflows");
    assert_eq!(pointer(&items(&[("DEAR", 1), ("MUG", 1)])), "/items/1/quantity", "the sum overflows");
    assert_eq!(pointer(&Cart::Default), "/items", "there is no default product");
}

#[test]
fn the_fingerprint_never_changes() {
    assert_eq!(items(&[("MUG", 2)]).fingerprint().0, hex::encode(Sha256::digest("checkout 1\nMUG=2")));
    assert_eq!(Cart::Default.fingerprint().0, hex::encode(Sha256::digest("checkout 1\ndefault")));
}

#[test]
fn the_fingerprint_is_about_what_is_asked_not_how() {
    let one = json(r#"{"items":[{"sku":"MUG","quantity":1},{"sku":"TEA","quantity":2}]}"#).expect("valid").cart;
    let other =
        json(r#" {"items":[ {"quantity":2,"sku":"TEA"}, {"quantity":1,"sku":"\u004dUG"} ]} "#).expect("valid").cart;
    assert_eq!(one.fingerprint(), other.fingerprint());
}

proptest! {
    /// Different carts never share a fingerprint, also not by lines that run into each other.
    #[test]
    fn different_carts_have_different_fingerprints(
        one in prop::collection::btree_map("[A-Z0-9_-]{1,4}", 1_u32..100, 1..4),
        other in prop::collection::btree_map("[A-Z0-9_-]{1,4}", 1_u32..100, 1..4),
    ) {
        let cart = |lines: &std::collections::BTreeMap<String, u32>| {
            items(&lines.iter().map(|(sku, quantity)| (sku.as_str(), *quantity)).collect::<Vec<_>>())
        };
        prop_assert_eq!(cart(&one).fingerprint() == cart(&other).fingerprint(), one == other);
    }

    /// No body, whatever is in it, makes the reader panic; what it accepts is within bounds.
    #[test]
    fn what_is_accepted_is_within_bounds(body in ".{0,200}") {
        if let Ok(StartRequest { cart: Cart::Items(items), .. }) = json(&body) {
            let within = items.iter().all(|item| (1..=MAX_QUANTITY).contains(&item.quantity));
            prop_assert!(within && !items.is_empty() && items.len() <= MAX_LINES);
        }
    }
}
