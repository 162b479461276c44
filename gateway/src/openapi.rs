//! The public contract as an OpenAPI document, generated from the handlers.

use std::sync::LazyLock;

use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::routes;

/// What a cart is sent as; [`crate::validation`] reads it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation: the body is read field by field, so that errors have pointers")]
pub(crate) struct StartCheckout {
    /// What to buy, 1 to 100 lines, each SKU once; left out: one of the default product.
    items: Option<Vec<StartItem>>,
}

/// One line of a cart.
#[derive(ToSchema)]
#[schema(as = CartItem)]
#[expect(dead_code, reason = "documentation: the body is read field by field, so that errors have pointers")]
pub(crate) struct StartItem {
    /// Which article.
    #[schema(example = "MUG-1")]
    sku: String,
    /// How many.
    #[schema(example = 1, minimum = 1, maximum = 1_000_000)]
    quantity: u32,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Checkout gateway",
        description = "Start a checkout, send the customer to the payment page, follow what happens. Refusals are RFC 9457 problem documents with a stable `code`."
    ),
    paths(
        routes::start::start,
        routes::checkout::checkout,
        routes::events::events,
        routes::cancel::cancel,
        routes::refund::refund,
        routes::webhook::webhook,
        routes::products::products,
        routes::products::product,
        routes::restock::restock,
        routes::machines::alive,
        routes::machines::ready,
        routes::machines::metrics,
        routes::machines::contract,
    ),
    modifiers(&OperatorToken)
)]
struct Api;

struct OperatorToken;

impl Modify for OperatorToken {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("operator", scheme);
    }
}

/// The document as JSON; made once.
pub(crate) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| Api::openapi().to_json().unwrap_or_default());
    &DOCUMENT
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::routes::PATHS;

    fn parsed() -> Value {
        serde_json::from_str(document()).expect("JSON")
    }

    #[test]
    fn the_document_has_exactly_the_paths_that_are_served() {
        let document = parsed();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.keys().map(|method| (path.clone(), method.to_uppercase())).collect::<Vec<_>>()
            })
            .collect();
        let served: BTreeSet<(String, String)> = PATHS
            .iter()
            .flat_map(|row| row.methods.iter().map(|method| (row.template.to_owned(), (*method).to_owned())))
            .collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        found.push(reference.clone());
                    }
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = parsed();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn it_says_which_version_of_the_format_and_of_the_api_it_is() {
        let document = parsed();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["info"]["license"]["name"], "Apache-2.0");
    }
}
