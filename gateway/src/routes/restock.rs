//! `POST /api/products/{sku}/restock`: an operator books goods that have come in.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    contracts::inventory::{InventoryCommand, RestockAnswer},
    crash_point,
    ids::{IdempotencyKey, WorkflowId},
    service::http::{Problem, body, media_type},
    subject::Subject,
};
use futures_util::StreamExt as _;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{
    asked,
    products::{read_sku, unknown_product},
};
use crate::{
    app::{App, Asked},
    reply,
    validation::{check_quantity, idempotency_key, object},
};

/// How long the inventory's answer is waited for before 202: it answers within milliseconds when it runs.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// What came in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RestockRequest)]
pub(crate) struct RestockBody {
    /// How many, 1 to 1,000,000.
    #[serde(default)]
    #[schema(value_type = u32, example = 10)]
    pub(crate) quantity: Value,
}

/// The article's balance after it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Restocked)]
pub(crate) struct RestockedBody {
    /// The delivery's id: the same key is the same delivery.
    restock_id: Uuid,
    /// Which article.
    sku: String,
    /// How many can be bought.
    available: u64,
    /// How many are held for checkouts that are not decided.
    reserved: u64,
    /// How many have been sold.
    sold: u64,
}

/// The delivery is stored and will be booked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RestockAccepted)]
pub(crate) struct RestockAcceptedBody {
    /// The delivery's id: the same key is the same delivery.
    restock_id: Uuid,
    /// Always `accepted`.
    status: &'static str,
}

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "products" / String / "restock")
        .and(warp::post())
        .and(asked(app))
        .and(body(app.config.max_body_bytes))
        .then(|sku: String, app: Arc<App>, asked: Asked, body: Result<Bytes, Problem>| async move {
            reply::send(restock(&app, &sku, &asked, body).await)
        })
        .boxed()
}

/// Book goods that have come in, once per key.
#[utoipa::path(
    post, path = "/api/products/{sku}/restock", tag = "operator",
    params(
        ("sku" = String, Path, description = "The article"),
        ("Idempotency-Key" = String, Header, description = "Which delivery it is: the same key is booked once"),
    ),
    request_body = RestockBody,
    responses(
        (status = 200, description = "Booked, now or before", body = RestockedBody),
        (status = 202, description = "Stored; the inventory will book it. Repeat with the same key to see", body = RestockAcceptedBody),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 401, description = "unauthorized", body = reply::ProblemBody),
        (status = 404, description = "not_found", body = reply::ProblemBody),
        (status = 409, description = "restock_refused", body = reply::ProblemBody),
        (status = 415, description = "unsupported_media_type", body = reply::ProblemBody),
        (status = 503, description = "unavailable", body = reply::ProblemBody),
    ),
    security(("operator" = []))
)]
pub(crate) async fn restock(
    app: &App,
    sku: &str,
    asked: &Asked,
    body: Result<Bytes, Problem>,
) -> Result<Response, Problem> {
    app.admit(asked)?;
    let operator = app.must_be_operator(asked)?;
    let sku = read_sku(sku)?;
    let key = idempotency_key(&asked.headers)?.ok_or_else(|| {
        Problem::validation("Goods that come in need an Idempotency-Key, so that they are booked once.")
            .with_error("Idempotency-Key", "is missing")
    })?;
    let quantity = read_quantity(asked, &body?)?;
    app.must_know_catalogue()?;
    app.catalogue.find(&sku).ok_or_else(|| unknown_product(&sku))?;
    app.must_be_connected()?;
    let restock_id = restock_id(&key);
    let command = InventoryCommand::Restock { restock_id, sku: sku.clone(), quantity, by: Some(operator.clone()) };
    let answer = ask_inventory(app, asked, restock_id, &command).await?;
    tracing::info!(%restock_id, %sku, quantity, by = %operator, booked = answer.is_some(), "restock asked for");
    match answer {
        None => {
            let body = RestockAcceptedBody { restock_id, status: "accepted" };
            let mut response = reply::json(StatusCode::ACCEPTED, &body);
            reply::set(&mut response, header::RETRY_AFTER, "2");
            Ok(response)
        }
        Some(RestockAnswer::Restocked { balance }) => {
            let common::contracts::inventory::StockLevel { sku, balance } = balance;
            let body = RestockedBody {
                restock_id,
                sku: sku.to_string(),
                available: balance.available,
                reserved: balance.reserved,
                sold: balance.sold,
            };
            Ok(reply::json(StatusCode::OK, &body))
        }
        Some(RestockAnswer::RestockRefused { reason }) => {
            Err(Problem::new(StatusCode::CONFLICT, "restock_refused", reason))
        }
    }
}

/// One id for each key, whatever it is used for: the inventory finds out when the same key comes with other goods.
fn restock_id(key: &IdempotencyKey) -> Uuid {
    WorkflowId::from_idempotency_key("restock", key).as_uuid()
}

fn read_quantity(asked: &Asked, body: &[u8]) -> Result<u32, Problem> {
    if media_type(&asked.headers).as_deref() != Some("application/json") {
        return Err(Problem::unsupported_media_type("Send {\"quantity\": 10} as application/json."));
    }
    let invalid = |pointer: &str, detail: String| {
        Problem::validation("The request is not valid; see errors.").with_error(pointer, detail)
    };
    let RestockBody { quantity } = object::from_slice(body).map_err(|error| invalid("", error.to_string()))?;
    check_quantity(&quantity).map_err(|detail| invalid("/quantity", detail))
}

/// The inventory's answer; `None` when it does not come in time, in which case the goods are booked later.
async fn ask_inventory(
    app: &App,
    asked: &Asked,
    restock_id: Uuid,
    command: &InventoryCommand,
) -> Result<Option<RestockAnswer>, Problem> {
    let inbox = app.nats.client.new_inbox();
    let mut answers = app.nats.client.subscribe(inbox.clone()).await.map_err(|error| {
        tracing::warn!(%error, "could not listen for the inventory's answer");
        Problem::unavailable("The inventory cannot be asked at the moment; try again with the same key.")
    })?;
    crash_point!("gateway.restock.before_publish");
    app.inventory_command(Subject::InventoryCommand(restock_id), command, &inbox, asked).await?;
    crash_point!("gateway.restock.after_publish");
    let answer = tokio::select! {
        answer = tokio::time::timeout(ANSWER_PATIENCE, answers.next()) => answer.ok().flatten(),
        () = app.stop.cancelled() => None,
    };
    let answer = answer.and_then(|message| {
        serde_json::from_slice(&message.payload)
            .inspect_err(|error| tracing::error!(%restock_id, %error, "the inventory's answer cannot be read"))
            .ok()
    });
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_needed() {
        let mut headers = http::HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let asked = Asked { headers, client: None, query: String::new() };
        assert_eq!(read_quantity(&asked, br#"{"quantity":10}"#), Ok(10));
        for bad in
            ["", "{}", r#"{"quantity":0}"#, r#"{"quantity":-1}"#, r#"{"quantity":1.5}"#, r#"{"quantity":1,"x":1}"#]
        {
            assert_eq!(read_quantity(&asked, bad.as_bytes()).expect_err(bad).code(), "validation", "{bad}");
        }
    }

    #[test]
    fn the_same_key_is_the_same_delivery_and_never_a_checkout() {
        let key: IdempotencyKey = "k".parse().expect("a key");
        assert_eq!(restock_id(&key), restock_id(&key));
        assert_ne!(restock_id(&key), WorkflowId::from_idempotency_key("", &key).as_uuid());
    }
}
