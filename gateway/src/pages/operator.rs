//! What an operator sees: which checkouts there are, what needs a person, the stock, and one checkout record by
//! record. Read only.

use common::contracts::checkout::CheckoutStatus;
use maud::{Markup, html};

use super::{
    format, layout,
    layout::Frame,
    overview::{Attention, LatestCheckout, Overview, StoredRecord},
};
use crate::checkout_view::CheckoutView;

/// Most checkouts in the list; the streams have the rest.
const LISTED: usize = 50;

/// The first operator page.
pub(crate) fn overview(overview: &Overview) -> Markup {
    let content = html! {
        div.wide {
            div.intro {
                h1 { "Operator" }
                p { (seen(overview)) }
                form.sign-out method="post" action="/operator/sign-out" { button.quiet type="submit" { "Sign out" } }
            }
            (counts(overview))
            (attention(&overview.attention))
            (latest(&overview.latest))
            (stock(overview))
        }
    };
    layout::page(Frame { title: "Operator", operator: true, ..Frame::default() }, &content)
}

fn seen(overview: &Overview) -> String {
    format!(
        "From the newest {} of {} messages in the history. Reload for the present state.",
        format::count(overview.messages_read),
        format::count(overview.messages_stored)
    )
}

fn counts(overview: &Overview) -> Markup {
    html! {
        section aria-labelledby="counts-title" {
            h2 #counts-title .visually-hidden { "Checkouts by state" }
            dl.counts {
                @for status in CheckoutStatus::ALL {
                    div.card { dt { (in_words(status)) } dd { (overview.count(status)) } }
                }
            }
        }
    }
}

/// `awaiting_payment` → `awaiting payment`.
fn in_words(status: CheckoutStatus) -> String {
    status.as_str().replace('_', " ")
}

fn attention(items: &[Attention]) -> Markup {
    html! {
        section.card.wide-table data-mood=[(!items.is_empty()).then_some("bad")] aria-labelledby="attention-title" {
            h2 #attention-title { "Needs attention" @if !items.is_empty() { " (" (items.len()) ")" } }
            @if items.is_empty() {
                p { "Nothing. Every message could be handled and every refund went through." }
            } @else {
                div.scroll tabindex="0" role="region" aria-labelledby="attention-title" {
                    table {
                        thead { tr { th scope="col" { "What" } th scope="col" { "Why" } th scope="col" { "Checkout" } th scope="col" { "Since" } } }
                        tbody {
                            @for item in items {
                                tr {
                                    td { (item.what) }
                                    td.reason { (item.reason) }
                                    td { @if let Some(id) = item.checkout { a href={ "/operator/checkout/" (id) } { code { (id) } } } }
                                    td { (format::day_and_time(item.at)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn latest(checkouts: &[LatestCheckout]) -> Markup {
    html! {
        section.card.wide-table aria-labelledby="latest-title" {
            h2 #latest-title { "Latest checkouts" }
            @if checkouts.is_empty() {
                p { "None yet." }
            } @else {
                div.scroll tabindex="0" role="region" aria-labelledby="latest-title" {
                    table {
                        thead { tr { th scope="col" { "Checkout" } th scope="col" { "State" } th scope="col" { "Last happened" } th scope="col" { "When" } } }
                        tbody {
                            @for checkout in checkouts.iter().take(LISTED) {
                                tr {
                                    td { a href={ "/operator/checkout/" (checkout.id) } { code { (checkout.id) } } }
                                    td { (badge(checkout.status)) }
                                    td { code { (checkout.last_happened) } }
                                    td { (format::day_and_time(checkout.at)) }
                                }
                            }
                        }
                    }
                }
                @if checkouts.len() > LISTED {
                    p { (checkouts.len() - LISTED) " older ones are not listed." }
                }
            }
        }
    }
}

fn badge(status: CheckoutStatus) -> Markup {
    let tone = match status {
        CheckoutStatus::Paid => "good",
        CheckoutStatus::Declined | CheckoutStatus::OutOfStock | CheckoutStatus::PaymentUnavailable => "bad",
        CheckoutStatus::Cancelled | CheckoutStatus::Expired => "ended",
        CheckoutStatus::Reserving
        | CheckoutStatus::OpeningPayment
        | CheckoutStatus::AwaitingPayment
        | CheckoutStatus::Settling => "open",
    };
    html! { span.badge data-tone=(tone) { (in_words(status)) } }
}

fn stock(overview: &Overview) -> Markup {
    html! {
        section.card.wide-table aria-labelledby="stock-title" {
            h2 #stock-title { "Stock" }
            div.scroll tabindex="0" role="region" aria-labelledby="stock-title" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Article" } th scope="col" { "SKU" } th.number scope="col" { "Price" }
                            th.number scope="col" { "Available" } th.number scope="col" { "Reserved" } th.number scope="col" { "Sold" }
                        }
                    }
                    tbody {
                        @for article in &overview.articles {
                            tr {
                                th scope="row" { (article.product.name) }
                                td { code { (article.product.sku) } }
                                td.number { (format::price(article.product.price)) }
                                td.number { (format::count(article.balance.available)) }
                                td.number { (format::count(article.balance.reserved)) }
                                td.number { (format::count(article.balance.sold)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where an operator signs in; `refused` says why the last try did not work.
pub(crate) fn sign_in(refused: Option<&str>) -> Markup {
    let content = html! {
        div.narrow {
            section.card.state aria-labelledby="headline" {
                h1 #headline { "For operators" }
                @if let Some(reason) = refused { p.about-money role="alert" { (reason) } }
                form.sign-in method="post" action="/operator/sign-in" {
                    label for="token" { "Operator token" }
                    input #token type="password" name="token" autocomplete="current-password" required;
                    button.primary type="submit" { "Sign in" }
                }
            }
        }
    };
    layout::page(Frame { title: "Sign in", operator: true, ..Frame::default() }, &content)
}

/// One checkout, record by record.
pub(crate) fn checkout(order: &CheckoutView, records: &[StoredRecord]) -> Markup {
    let content = html! {
        div.wide {
            div.intro {
                p { a href="/operator" { "Operator" } " / checkout" }
                h1.id { (order.id) }
                p {
                    (badge(order.status)) " "
                    @if let Some(refund) = order.refund { span.badge data-tone="bad" { "refund " (refund.as_str().replace('_', " ")) } " " }
                    @if let Some(total) = order.total { (format::price(total)) " · " }
                    "revision " (order.revision) " · " a href={ "/checkout/" (order.id) } { "what the customer sees" }
                }
            }
            section.card aria-labelledby="records-title" {
                h2 #records-title { "Records" }
                ol.records { @for record in records { li { (stored_record(record)) } } }
                p.explanation { "The same with the command line: " code { "nats stream view HISTORY --subject history.checkout." (order.id) } }
            }
        }
    };
    layout::page(Frame { title: "Checkout", operator: true, ..Frame::default() }, &content)
}

fn stored_record(record: &StoredRecord) -> Markup {
    html! {
        details {
            summary {
                span.what { @for (place, name) in record.types.split('+').enumerate() { @if place > 0 { " + " } code { (name) } } }
                span.badge data-tone="open" { (record.status.replace('_', " ")) }
                span.when { "#" (record.sequence) " · " (format::day_and_time(record.stored_at)) }
            }
            pre tabindex="0" { code { (record.json) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::samples;

    fn sample() -> Overview {
        let checkout = |status| LatestCheckout {
            id: samples::id(),
            status,
            last_happened: "stock_sold".into(),
            at: samples::at(0),
        };
        Overview {
            messages_read: 200,
            messages_stored: 12_345,
            latest: vec![
                checkout(CheckoutStatus::Paid),
                checkout(CheckoutStatus::Paid),
                checkout(CheckoutStatus::Expired),
            ],
            attention: vec![Attention {
                what: "webhook".into(),
                checkout: Some(samples::id()),
                reason: samples::HOSTILE.into(),
                at: samples::at(0),
            }],
            articles: vec![samples::article("MUG-1", samples::HOSTILE, 12)],
        }
    }

    #[test]
    fn the_overview_counts_lists_and_escapes() {
        let html = overview(&sample()).into_string();
        assert!(html.contains("<dt>paid</dt><dd>2</dd>"), "{html}");
        assert!(html.contains("<dt>expired</dt><dd>1</dd>"));
        assert!(html.contains("<dt>declined</dt><dd>0</dd>"));
        assert!(html.contains("newest 200 of 12,345"));
        assert!(html.contains("Needs attention (1)"));
        assert!(html.contains(r#"href="/operator/checkout/0198c0de-0000-7000-8000-00000000000a""#));
        assert!(!html.contains(samples::HOSTILE));
    }

    #[test]
    fn with_nothing_to_do_it_says_so() {
        let html = overview(&Overview::default()).into_string();
        assert!(html.contains("Nothing. Every message could be handled"));
        assert!(html.contains("None yet."));
    }

    #[test]
    fn one_checkout_shows_each_record_with_its_body() {
        let record = StoredRecord {
            sequence: 42,
            stored_at: samples::at(1),
            types: "payment_received+stock_sold".into(),
            status: "paid".into(),
            json: format!("{{\"type\": \"{}\"}}", samples::HOSTILE),
        };
        let paid = samples::order(CheckoutStatus::Paid, None, samples::paid());
        let html = checkout(&paid, &[record]).into_string();
        assert!(html.contains("<code>payment_received</code> + <code>stock_sold</code>"), "{html}");
        assert!(html.contains("#42") && html.contains("€37.00"));
        assert!(!html.contains(samples::HOSTILE));
    }
}
