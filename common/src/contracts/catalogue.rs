//! The catalogue: what the shop sells and for how much. How many there are is the inventory's affair.

use serde::{Deserialize, Serialize};

use crate::{ids::Sku, money::Money};

/// The last message of `catalogue.<sku>`: one article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Always `product`; stands first so that the stream is legible.
    #[serde(rename = "type")]
    pub product_type: ProductType,
    /// Which article.
    pub sku: Sku,
    /// What people call it.
    pub name: String,
    /// One or two sentences about it.
    pub description: String,
    /// What one costs; a checkout freezes it when it starts.
    pub price: Money,
    /// What it is drawn as in the store: one of the pictures that the store knows, such as `mug`.
    #[serde(default)]
    pub picture: String,
}

/// The only kind of catalogue entry so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductType {
    /// An article.
    Product,
}
