//! `GET /api/products` and `GET /api/products/{sku}`: what there is to buy, with live stock.

use std::sync::Arc;

use common::{
    ids::{InvalidName, Sku},
    service::http::Problem,
};
use http::StatusCode;
use serde::Deserialize;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{any_of, asked};
use crate::{
    app::{App, Asked},
    catalogue::Catalogue,
    reply::{self, ProductBody, ProductListBody},
};

/// How many articles a page has when nobody says.
const DEFAULT_LIMIT: usize = 20;

/// The most articles of a page.
const MAX_LIMIT: usize = 100;

pub(super) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let list = warp::path!("api" / "products")
        .and(warp::get())
        .and(asked(app))
        .then(|app: Arc<App>, asked: Asked| async move { reply::send(products(&app, &asked)) })
        .boxed();
    let one = warp::path!("api" / "products" / String)
        .and(warp::get())
        .and(asked(app))
        .then(|sku: String, app: Arc<App>, asked: Asked| async move { reply::send(product(&app, &sku, &asked)) })
        .boxed();
    any_of([list, one])
}

/// What there is to buy.
#[utoipa::path(
    get, path = "/api/products", tag = "catalogue",
    params(
        ("limit" = Option<u32>, Query, description = "Articles per page, 1 to 100; 20 when left out"),
        ("starting_after" = Option<String>, Query, description = "The SKU after which the page begins"),
    ),
    responses(
        (status = 200, description = "A page of articles in the order of their SKUs", body = ProductListBody),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 429, description = "rate_limited", body = reply::ProblemBody),
        (status = 503, description = "unavailable: the catalogue is still being read", body = reply::ProblemBody),
    )
)]
pub(crate) fn products(app: &App, asked: &Asked) -> Result<Response, Problem> {
    app.admit(asked)?;
    let (after, limit) = read_page(&asked.query)?;
    app.must_know_catalogue()?;
    Ok(reply::json(StatusCode::OK, &list(&app.catalogue, after.as_ref(), limit)))
}

/// One article with its stock.
#[utoipa::path(
    get, path = "/api/products/{sku}", tag = "catalogue",
    params(("sku" = String, Path, description = "The article")),
    responses(
        (status = 200, description = "The article", body = ProductBody),
        (status = 400, description = "validation", body = reply::ProblemBody),
        (status = 404, description = "not_found", body = reply::ProblemBody),
        (status = 429, description = "rate_limited", body = reply::ProblemBody),
        (status = 503, description = "unavailable: the catalogue is still being read", body = reply::ProblemBody),
    )
)]
pub(crate) fn product(app: &App, sku: &str, asked: &Asked) -> Result<Response, Problem> {
    app.admit(asked)?;
    let sku = read_sku(sku)?;
    app.must_know_catalogue()?;
    let article = app.catalogue.find(&sku).ok_or_else(|| unknown_product(&sku))?;
    Ok(reply::json(StatusCode::OK, &ProductBody::from(article)))
}

/// The SKU in a path.
pub(super) fn read_sku(text: &str) -> Result<Sku, Problem> {
    text.parse().map_err(|error: InvalidName| Problem::validation(error.to_string()))
}

/// There is no such article.
pub(super) fn unknown_product(sku: &Sku) -> Problem {
    Problem::not_found(format!("There is no product {sku} in the catalogue."))
}

fn list(catalogue: &Catalogue, after: Option<&Sku>, limit: usize) -> ProductListBody {
    let (articles, has_more) = catalogue.page(after, limit);
    ProductListBody { data: articles.into_iter().map(ProductBody::from).collect(), has_more }
}

#[derive(Deserialize)]
struct Query {
    limit: Option<String>,
    starting_after: Option<String>,
}

fn read_page(query: &str) -> Result<(Option<Sku>, usize), Problem> {
    let invalid = |parameter: &str, detail: String| {
        Problem::validation("The request is not valid; see errors.").with_error(parameter, detail)
    };
    let query: Query =
        serde_html_form::from_str(query).map_err(|error| invalid("", format!("the query cannot be read ({error})")))?;
    let limit = match query.limit.as_deref().map(str::parse) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => return Err(invalid("limit", format!("must be a whole number from 1 to {MAX_LIMIT}"))),
    };
    let after = query.starting_after.map(|sku| sku.parse::<Sku>()).transpose();
    Ok((after.map_err(|error| invalid("starting_after", error.to_string()))?, limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::three_articles;

    #[test]
    fn a_list_says_whether_there_is_more() {
        let catalogue = three_articles();
        let body = serde_json::to_value(list(&catalogue, None, 1)).expect("JSON");
        assert_eq!(
            body,
            serde_json::json!({
                "data": [{
                    "sku": "MUG", "name": "A MUG", "description": "d", "price": {"amount": 500, "currency": "eur"},
                    "available": 7, "reserved": 2, "sold": 1,
                }],
                "has_more": true,
            })
        );
        let last = list(&catalogue, Some(&"POT".parse().expect("a sku")), 20);
        assert_eq!((last.data.len(), last.has_more), (1, false));
        assert!(list(&catalogue, Some(&"ZZZ".parse().expect("a sku")), 20).data.is_empty());
    }

    #[test]
    fn a_page_is_asked_for_within_bounds() {
        assert_eq!(read_page(""), Ok((None, 20)));
        assert_eq!(read_page("limit=100&starting_after=MUG"), Ok((Some("MUG".parse().expect("a sku")), 100)));
        for bad in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "starting_after=a.b", "starting_after="] {
            assert_eq!(read_page(bad).expect_err(bad).code(), "validation", "{bad}");
        }
    }
}
