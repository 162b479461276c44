//! The stored shape of events: which there are, and how they look in JSON.

use std::collections::BTreeSet;

use common::contracts::TypeName;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The names of all variants of an event type, as its own reader tells them. So a variant that nobody has given an
/// example of cannot hide.
///
/// # Panics
/// When the reader does not tell.
pub fn variant_names<E: DeserializeOwned>() -> BTreeSet<String> {
    let refused = serde_json::from_value::<E>(json!({ "type": "there is no such event" })).err();
    let message = refused.expect("there is no such event").to_string();
    // unknown variant `there is no such event`, expected one of `checkout_started`, `stock_reserved`, …
    let names: BTreeSet<String> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(names.len() > 1, "the reader no longer lists what it expects: {message}");
    names
}

/// The JSON of one example of each variant, in the order of their names.
///
/// # Panics
/// When an example lacks, or does not read back as it was written, or is called otherwise than its type says.
pub fn json_of_each<E>(examples: &[E]) -> Vec<Value>
where
    E: Serialize + DeserializeOwned + TypeName + PartialEq + std::fmt::Debug,
{
    let mut shapes: Vec<Value> = Vec::new();
    for example in examples {
        let shape = serde_json::to_value(example).expect("an event can be written as JSON");
        assert_eq!(shape["type"], example.type_name());
        assert_eq!(serde_json::from_value::<E>(shape.clone()).expect("an event reads back"), *example);
        shapes.push(shape);
    }
    let shown: BTreeSet<String> = examples.iter().map(|example| example.type_name().to_owned()).collect();
    assert_eq!(shown, variant_names::<E>(), "each variant has an example");
    shapes.sort_by_key(|shape| shape["type"].to_string());
    shapes
}
