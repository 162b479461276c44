//! The catalogue file: what the shop sells, for how much, and how many there are to begin with.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use async_nats::HeaderMap;
use common::{
    contracts::{
        catalogue::{Product, ProductType},
        inventory::InventoryCommand,
    },
    crash_point, headers,
    ids::Sku,
    money::{Currency, Money},
    nats::{Nats, Outgoing, append, read},
    streams::StreamName,
    subject::Subject,
};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

/// The catalogue that the shop opens with when it is given none.
const BUILT_IN: &str = include_str!("../catalogue.csv");

/// Namespace of the ids of first deliveries. Fixed for ever: another value would deliver again.
const FIRST_DELIVERY_NAMESPACE: Uuid = Uuid::from_u128(0x8e6f_5a10_33c9_4d57_b1de_9b6a_0f4c_7713);

/// Longest name of an article in characters: payment providers refuse longer ones.
const MAX_NAME: usize = 250;

/// Longest description of an article in characters; one message of the catalogue stays small.
const MAX_DESCRIPTION: usize = 2_000;

/// Seeding is part of starting; a server that is just being elected leader gets this long.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks into a catalogue that cannot be read yet.
const READABLE_PAUSE: Duration = Duration::from_millis(500);

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueLine {
    /// What is sold.
    pub product: Product,
    /// How many there are to begin with.
    pub stock: u32,
}

#[derive(Debug, Deserialize)]
struct RawLine {
    sku: Sku,
    name: String,
    description: String,
    price: String,
    currency: Currency,
    #[serde(default)]
    picture: String,
    stock: u32,
}

/// Read a catalogue file (CSV with the columns sku, name, description, price, currency, picture, stock), or the
/// built-in one.
///
/// # Errors
/// When the file cannot be read or a line of it is wrong; the message names the line.
pub fn read_catalogue(file: Option<&Path>) -> anyhow::Result<Vec<CatalogueLine>> {
    match file {
        None => parse(BUILT_IN).context("read the built-in catalogue"),
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("read the catalogue {}", file.display()))?;
            parse(&text).with_context(|| format!("read the catalogue {}", file.display()))
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<CatalogueLine>> {
    let mut lines = Vec::new();
    for (number, raw) in
        csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes()).deserialize().enumerate()
    {
        // The heading is line 1.
        let line = number + 2;
        let raw: RawLine = raw.with_context(|| format!("line {line}"))?;
        let amount = minor_units(&raw.price, raw.currency)
            .with_context(|| format!("line {line}: {:?} is not a price such as 12.90", raw.price))?;
        let (name, description) = (raw.name.chars().count(), raw.description.chars().count());
        ensure!((1..=MAX_NAME).contains(&name), "line {line}: the name must have 1 to {MAX_NAME} characters");
        ensure!(
            description <= MAX_DESCRIPTION,
            "line {line}: the description must have at most {MAX_DESCRIPTION} characters"
        );
        let picture = raw.picture;
        let price = Money { amount, currency: raw.currency };
        let product = Product {
            product_type: ProductType::Product,
            sku: raw.sku,
            name: raw.name,
            description: raw.description,
            price,
            picture,
        };
        ensure!(
            !lines.iter().any(|earlier: &CatalogueLine| earlier.product.sku == product.sku),
            "line {line}: {} stands twice",
            product.sku
        );
        lines.push(CatalogueLine { product, stock: raw.stock });
    }
    ensure!(!lines.is_empty(), "it has no articles");
    Ok(lines)
}

/// `12.90` as 1290; `None` when it is not a positive number with at most the currency's decimal places.
fn minor_units(text: &str, currency: Currency) -> Option<i64> {
    let places = currency.decimal_places();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits_only =
        !whole.is_empty() && [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if !digits_only || fraction.len() > places {
        return None;
    }
    let amount = format!("{whole}{fraction:0<places$}").parse::<i64>().ok()?;
    (amount > 0).then_some(amount)
}

/// Look for an article; when the stream has just been made, a node may not have heard yet where it is read from.
async fn look_up(nats: &Nats, subject: &Subject) -> Result<Option<read::Stored>, read::ReadError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match read::last(nats, StreamName::Catalogue, subject).await {
            Err(error) if Instant::now() < deadline => {
                tracing::warn!(%error, "the catalogue cannot be read yet; trying again");
                tokio::time::sleep(READABLE_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Put articles into the catalogue that are not in it yet, with their first delivery. Returns how many were new.
///
/// The delivery is told before the article: if this stops in between, the next start tells the same delivery again,
/// which the ledger knows. An article that is in the catalogue is never delivered again.
///
/// # Errors
/// When the server cannot be asked or does not take them.
pub async fn seed(nats: &Nats, lines: &[CatalogueLine]) -> anyhow::Result<usize> {
    let mut new = 0;
    for CatalogueLine { product, stock } in lines {
        let subject = Subject::Catalogue(product.sku.clone());
        let known = look_up(nats, &subject).await.context("look into the catalogue")?;
        if known.is_some() {
            continue;
        }
        if *stock > 0 {
            crash_point!("catalogue.before_delivery");
            deliver(nats, &product.sku, *stock).await?;
            crash_point!("catalogue.after_delivery");
        }
        crash_point!("catalogue.before_article");
        store(nats, StreamName::Catalogue, subject, "product", serde_json::to_vec(product)?).await?;
        crash_point!("catalogue.after_article");
        new += 1;
    }
    Ok(new)
}

async fn deliver(nats: &Nats, sku: &Sku, quantity: u32) -> anyhow::Result<()> {
    let restock_id = Uuid::new_v5(&FIRST_DELIVERY_NAMESPACE, sku.as_str().as_bytes());
    let command = InventoryCommand::Restock { restock_id, sku: sku.clone(), quantity, by: None };
    let subject = Subject::InventoryCommand(restock_id);
    store(nats, StreamName::InventoryCommands, subject, "restock", serde_json::to_vec(&command)?).await
}

async fn store(nats: &Nats, stream: StreamName, subject: Subject, what: &str, payload: Vec<u8>) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert(headers::TYPE, what);
    headers.insert(headers::SENDER, "deploy");
    let name = subject.to_string();
    let outgoing = Outgoing { subject, headers, payload: payload.into(), expected: None };
    append::append(nats, stream, outgoing, PATIENCE).await.with_context(|| format!("store {name}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_good() {
        let lines = read_catalogue(None).expect("it is part of the program");
        assert!(lines.len() >= 8);
        assert_eq!(lines[0].product.price, Money::eur(1490));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let heading = "sku,name,description,price,currency,picture,stock\n";
        for (line, problem) in [
            ("A,a,a,1.234,eur,,1", "line 2"),
            ("A,a,a,-1,eur,,1", "line 2"),
            ("A,a,a,1,euro,,1", "line 2"),
            ("A b,a,a,1,eur,,1", "line 2"),
            ("A,a,a,1,eur,,-1", "line 2"),
            ("A,,a,1,eur,,1", "the name must have 1 to 250"),
            ("A,a,a,1,eur,,1\nA,a,a,1,eur,,1", "line 3"),
            ("", "no articles"),
        ] {
            let error = format!("{:#}", parse(&format!("{heading}{line}")).expect_err(line));
            assert!(error.contains(problem), "{line}: {error}");
        }
    }

    #[test]
    fn prices_are_read_exactly() {
        let yen: Currency = "jpy".parse().expect("a currency");
        assert_eq!(minor_units("12.90", Currency::EUR), Some(1290));
        assert_eq!(minor_units("12.9", Currency::EUR), Some(1290));
        assert_eq!(minor_units("12", Currency::EUR), Some(1200));
        assert_eq!(minor_units("1200", yen), Some(1200));
        assert_eq!(minor_units("12.5", yen), None);
        assert_eq!(minor_units("0", Currency::EUR), None);
    }
}
