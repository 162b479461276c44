//! The order page: where a checkout stands, in big words, live.

use common::{
    contracts::checkout::{CheckoutStatus, Line},
    time::Timestamp,
};
use maud::{Markup, html};

use super::{
    format, layout,
    layout::Frame,
    order_words::{self, Mood, Words},
    timeline,
};
use crate::checkout_view::CheckoutView;

/// How often the page reloads where scripts are off, while it can still change: often enough to follow a payment,
/// seldom enough to read it.
const RELOAD_SECONDS: u32 = 5;

/// The whole page. `now` is this server's clock, so that the countdown does not depend on the reader's.
pub(crate) fn page(order: &CheckoutView, now: Timestamp) -> Markup {
    let words = order_words::of(order);
    let content = html! {
        div.narrow {
            // Outside of what is swapped: a screen reader announces only what changes in an element that stays.
            p #announcement .visually-hidden role="status" aria-live="polite" { (words.headline) }
            (body(order, &words, now))
            p #connection .connection role="status" hidden {
                "The shop does not answer at the moment. Your order is safe; this page goes on as soon as it is back."
            }
        }
    };
    let refresh_without_scripts = (!order.is_settled()).then_some(RELOAD_SECONDS);
    layout::page(Frame { title: words.headline, refresh_without_scripts, ..Frame::default() }, &content)
}

/// Only what changes, for `live.js`: the same element as in the page.
pub(crate) fn fragment(order: &CheckoutView, now: Timestamp) -> Markup {
    body(order, &order_words::of(order), now)
}

fn body(order: &CheckoutView, words: &Words, now: Timestamp) -> Markup {
    html! {
        div #order .order data-live data-revision=(order.revision) data-status=(order.status.as_str())
            data-settled=(order.is_settled()) data-now=(now)
            data-fragment={ "/checkout/" (order.id) "/fragment" }
            data-events={ "/api/checkout_session/" (order.id) "/events" } {
            (state_card(order, words, now))
            @if !order.lines.is_empty() { (receipt(order)) }
            @if !order.timeline.is_empty() { (story(order)) }
            p.order-number { "Order number " code { (order.id) } }
        }
    }
}

fn state_card(order: &CheckoutView, words: &Words, now: Timestamp) -> Markup {
    html! {
        section.card.state data-mood=(mood_name(words.mood)) aria-labelledby="headline" {
            (steps(order))
            (sign(words.mood))
            h1 #headline tabindex="-1" { (words.headline) }
            p.explanation { (words.explanation) }
            @if order.status == CheckoutStatus::OutOfStock { (lacking(order)) }
            @if let Some(about_money) = order_words::about_money(order) {
                p.about-money { (about_money) }
            }
            @if let Some(trouble) = &order.trouble {
                p.retry { "Next try at " (format::clock_time(trouble.retry_at)) "." }
            }
            @if let (CheckoutStatus::AwaitingPayment, Some(deadline)) = (order.status, order.payment_deadline) {
                (countdown(deadline, now))
            }
            (actions(order))
        }
    }
}

/// Ordered, paying, yours: only for orders that are on that way.
fn steps(order: &CheckoutView) -> Markup {
    let reached = match order.status {
        CheckoutStatus::Reserving => 0,
        CheckoutStatus::OpeningPayment | CheckoutStatus::AwaitingPayment => 1,
        CheckoutStatus::Settling if order_words::has_seen_money(order) => 1,
        CheckoutStatus::Paid => 2,
        _ => return html! {},
    };
    html! {
        ol.steps {
            @for (step, name) in ["Reserve", "Pay", "Yours"].into_iter().enumerate() {
                @let is_done = step < reached || order.status == CheckoutStatus::Paid;
                @let is_current = step == reached && !is_done;
                li.done[is_done] aria-current=[is_current.then_some("step")] {
                    (name) @if is_done { span.visually-hidden { " (done)" } }
                }
            }
        }
    }
}

fn countdown(deadline: Timestamp, now: Timestamp) -> Markup {
    let left = deadline.duration_since(now).as_secs().max(0);
    html! {
        p.countdown {
            span.left role="timer" data-countdown=(deadline) {
                (left / 60) ":" (format!("{:02}", left % 60))
            }
            span.until { "to pay, until " (format::clock_time(deadline)) }
        }
    }
}

fn actions(order: &CheckoutView) -> Markup {
    let payment_url =
        order.session.as_ref().map(|session| session.payment_url.as_str()).filter(|url| is_web_address(url));
    html! {
        div.actions {
            @if let (CheckoutStatus::AwaitingPayment, Some(url)) = (order.status, payment_url) {
                a.button.primary #pay href=(url) {
                    "Pay" @if let Some(total) = order.total { " " (format::price(total)) }
                }
            }
            @if is_cancellable(order.status) {
                form method="post" action={ "/api/checkout_session/" (order.id) "/cancel" } {
                    button.quiet #cancel type="submit" { "Cancel the order" }
                }
            }
            @if order.status.is_terminal() {
                a.button.primary[order.status != CheckoutStatus::Paid] href="/" {
                    @if order.status == CheckoutStatus::Paid { "Back to the store" } @else { "Look around the store" }
                }
            }
        }
    }
}

fn is_cancellable(status: CheckoutStatus) -> bool {
    matches!(status, CheckoutStatus::Reserving | CheckoutStatus::OpeningPayment | CheckoutStatus::AwaitingPayment)
}

/// The address comes from the provider: nothing but a web address becomes a link.
fn is_web_address(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

fn lacking(order: &CheckoutView) -> Markup {
    html! {
        ul.lacking {
            @for lacking in &order.lacking {
                li {
                    strong { (order_words::name_of(order, &lacking.sku)) } ": you wanted " (format::count(lacking.requested.into()))
                    @match lacking.available {
                        0 => ", there is none left.",
                        1 => ", there is only 1.",
                        available => { ", there are only " (format::count(available)) "." }
                    }
                }
            }
        }
    }
}

fn receipt(order: &CheckoutView) -> Markup {
    html! {
        section.card.receipt aria-labelledby="receipt-title" {
            h2 #receipt-title { "What you ordered" }
            table {
                thead.visually-hidden {
                    tr { th scope="col" { "Article" } th scope="col" { "Price" } }
                }
                tbody {
                    @for line in &order.lines { (receipt_line(line)) }
                }
                @if let Some(total) = order.total {
                    tfoot { tr { th scope="row" { "Total" } td { (format::price(total)) } } }
                }
            }
        }
    }
}

fn receipt_line(line: &Line) -> Markup {
    html! {
        tr {
            th scope="row" {
                (line.name)
                span.times { (format::count(line.quantity.into())) " × " (format::price(line.unit_price)) }
            }
            td { @if let Some(price) = line.unit_price.times(line.quantity) { (format::price(price)) } }
        }
    }
}

fn story(order: &CheckoutView) -> Markup {
    html! {
        section.card aria-labelledby="story-title" {
            h2 #story-title { "What has happened" }
            (timeline::list(order))
        }
    }
}

fn mood_name(mood: Mood) -> &'static str {
    match mood {
        Mood::Working => "working",
        Mood::YourTurn => "your-turn",
        Mood::Good => "good",
        Mood::Ended => "ended",
        Mood::Bad => "bad",
    }
}

/// A round sign above the headline; decoration, the headline says the same.
fn sign(mood: Mood) -> Markup {
    let path = match mood {
        Mood::Working => "M24 13v11l7 5",
        Mood::YourTurn => "M13 18h22v14H13zM13 22.5h22",
        Mood::Good => "m15 24.5 6.5 6.5L33.5 18",
        Mood::Ended => "M16 24h16",
        Mood::Bad => "M24 14v12M24 33v.5",
    };
    html! {
        svg.sign viewBox="0 0 48 48" aria-hidden="true" focusable="false" {
            circle cx="24" cy="24" r="23" {}
            path d=(path) {}
        }
    }
}

#[cfg(test)]
mod tests;
