//! The public contract: one file for each group of paths.
//!
//! Handlers never reject, they answer a `Problem`; rejections only say "not this route", so that one route's refusal
//! never becomes another route's attempt.

pub(crate) mod cancel;
pub(crate) mod checkout;
pub(crate) mod events;
pub(crate) mod machines;
pub(crate) mod products;
pub(crate) mod refund;
pub(crate) mod restock;
pub(crate) mod start;
pub(crate) mod webhook;

use std::{convert::Infallible, sync::Arc};

use common::{
    ids::WorkflowId,
    service::http::{ClientAddress, Problem, ServedPath},
};
use http::HeaderMap;
use warp::{Filter, Rejection, filters::BoxedFilter, reply::Response};

use crate::app::{App, Asked};

/// Every path of the API and for machines; the pages have a table of their own.
pub(crate) const PATHS: &[ServedPath] = &[
    ServedPath { template: "/api/checkout_session", methods: &["POST"] },
    ServedPath { template: "/api/checkout_session/{id}", methods: &["GET"] },
    ServedPath { template: "/api/checkout_session/{id}/events", methods: &["GET"] },
    ServedPath { template: "/api/checkout_session/{id}/cancel", methods: &["POST"] },
    ServedPath { template: "/api/checkout_session/{id}/refund", methods: &["POST"] },
    ServedPath { template: "/payment_webhook", methods: &["POST"] },
    ServedPath { template: "/api/products", methods: &["GET"] },
    ServedPath { template: "/api/products/{sku}", methods: &["GET"] },
    ServedPath { template: "/api/products/{sku}/restock", methods: &["POST"] },
    ServedPath { template: "/livez", methods: &["GET"] },
    ServedPath { template: "/readyz", methods: &["GET"] },
    ServedPath { template: "/metrics", methods: &["GET"] },
    ServedPath { template: "/openapi.json", methods: &["GET"] },
];

/// Everything but the pages.
pub(crate) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    // The order does not matter: paths do not overlap.
    any_of([
        start::routes(app),
        checkout::routes(app),
        events::routes(app),
        cancel::routes(app),
        refund::routes(app),
        webhook::routes(app),
        products::routes(app),
        restock::routes(app),
        machines::routes(app),
    ])
}

/// The first of these that matches. Boxed at every step: the types of long chains would take minutes to compile.
pub(crate) fn any_of<const N: usize>(routes: [BoxedFilter<(Response,)>; N]) -> BoxedFilter<(Response,)> {
    let none = warp::any().and_then(|| async { Err::<Response, Rejection>(warp::reject::not_found()) }).boxed();
    routes.into_iter().fold(none, |all, route| all.or(route).unify().boxed())
}

/// The gateway's state, and what a handler knows of the request besides its path and body.
pub(crate) fn asked(
    app: &Arc<App>,
) -> impl Filter<Extract = (Arc<App>, Asked), Error = Infallible> + Clone + Send + Sync + 'static {
    let app = app.clone();
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::any().map(move || app.clone()).and(
        warp::header::headers_cloned()
            .and(warp::ext::optional::<ClientAddress>())
            .and(query)
            .map(|headers: HeaderMap, client: Option<ClientAddress>, query: String| Asked { headers, client, query }),
    )
}

/// The id in a path.
pub(crate) fn read_id(text: &str) -> Result<WorkflowId, Problem> {
    text.parse().map_err(|error: common::ids::InvalidName| Problem::validation(error.to_string()))
}

/// There is no such checkout.
pub(crate) fn unknown_checkout(id: WorkflowId) -> Problem {
    Problem::not_found(format!("There is no checkout {id}."))
}
