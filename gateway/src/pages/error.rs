//! What a browser shows when something cannot be shown.

use common::service::http::Problem;
use http::StatusCode;
use maud::{Markup, html};

use super::{layout, layout::Frame};

/// A page that says what went wrong and where to go on.
pub(crate) fn page(status: StatusCode, headline: &str, explanation: &str) -> Markup {
    let content = html! {
        div.narrow {
            section.card.state data-mood="bad" aria-labelledby="headline" {
                p.status-code { (status.as_u16()) }
                h1 #headline { (headline) }
                p.explanation { (explanation) }
                div.actions { a.button.primary href="/" { "Go to the store" } }
            }
        }
    };
    layout::page(Frame { title: headline, ..Frame::default() }, &content)
}

/// The page for a refusal that the API would tell as a problem document.
pub(crate) fn of_problem(problem: &Problem) -> Markup {
    let (headline, explanation) = in_words(problem);
    page(problem.status(), headline, explanation)
}

fn in_words(problem: &Problem) -> (&'static str, &str) {
    match problem.code() {
        "out_of_stock" => ("Sorry, there is not enough in stock", problem.detail()),
        "idempotency_conflict" => (
            "This page of the store is out of date",
            "You have ordered from it before. Open the store again and order from there; you have not ordered twice.",
        ),
        "not_found" => ("There is nothing here", problem.detail()),
        "rate_limited" => ("One at a time, please", "You are a little fast for us. Please try again in a moment."),
        "unauthorized" => ("For operators only", "Please sign in with the operator token as the password."),
        "payment_unavailable" => (
            "Payment is not possible at the moment",
            "The payment provider could not open a payment page. You have not been charged; please try again later.",
        ),
        "unavailable" | "timeout" => (
            "The shop takes a short break",
            "We cannot reach our order book at the moment. Nothing is lost: please try again in a few seconds.",
        ),
        "internal" => ("Something went wrong on our side", problem.detail()),
        _ => ("That did not work", problem.detail()),
    }
}

/// There is no checkout of this id.
pub(crate) fn unknown_order() -> Markup {
    page(
        StatusCode::NOT_FOUND,
        "We cannot find this order",
        "There is no order under this address. Perhaps a character got lost when it was copied?",
    )
}

/// What stands where an order number should be is none.
pub(crate) fn not_an_order_number() -> Markup {
    page(
        StatusCode::BAD_REQUEST,
        "This is not an order number",
        "An order number looks like 0198c0de-0000-7000-8000-000000000000. Please check the address.",
    )
}

/// There is no such page.
pub(crate) fn not_found() -> Markup {
    page(StatusCode::NOT_FOUND, "There is nothing here", "This address does not lead anywhere in our shop.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_page_says_what_went_wrong_and_leads_on() {
        let html = page(StatusCode::NOT_FOUND, "<b>", "why").into_string();
        assert!(html.contains("404") && html.contains("&lt;b&gt;") && html.contains("why"), "{html}");
        assert!(html.contains(r#"href="/""#));
    }

    #[test]
    fn a_problem_is_told_in_words() {
        let html = |problem: Problem| of_problem(&problem).into_string();
        assert!(html(Problem::unavailable("NATS is away")).contains("The shop takes a short break"));
        assert!(html(Problem::validation("quantity is 0")).contains("quantity is 0"));
        let conflict = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_conflict", "other body");
        assert!(html(conflict).contains("This page of the store is out of date"));
    }
}
