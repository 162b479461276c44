//! The page on which the customer pays: the true state of the session, and three buttons while something can be
//! decided. It works without scripts, is one document (its style is `page.css`), and says in big letters that it is
//! a test.

use common::money::Money;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::session::{Order, SessionLine, SessionStatus, SessionView};

/// How it looks; part of the document, so that the page needs no second request.
const STYLE: &str = include_str!("page.css");

/// The sign in the browser's tab and above the page.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 36 36'%3E\
    %3Crect width='36' height='36' rx='10' fill='%233d3bc4'/%3E\
    %3Cg fill='none' stroke='%23fff' stroke-width='2.2' stroke-linecap='round'%3E\
    %3Crect x='8' y='11' width='20' height='14' rx='3'/%3E%3Cpath d='M8 16h20M12 21h5'/%3E%3C/g%3E%3C/svg%3E";

/// What the payment page shows.
#[derive(Debug, Clone)]
pub struct PaymentPage {
    /// The session as it stands now.
    pub session: SessionView,
    /// The shop's page of this order, when the sandbox was told where the shop is.
    pub order_url: Option<String>,
}

/// The page of one session. Its form posts `action=pay|decline|cancel` to the page's own address.
#[must_use]
pub fn payment_page(view: &PaymentPage) -> Markup {
    let order = &view.session.order;
    let content = html! {
        p.amount {
            span.label { "Amount" }
            span.number { (price(order.amount)) }
        }
        (state(&view.session))
        @if !order.lines.is_empty() { (lines(order)) }
        @if let Some(url) = view.order_url.as_deref().filter(|url| is_web_address(url)) {
            p.back { a href=(url) { "Back to the shop" } }
        }
        p.small { "Order " code { (order.client_reference_id) } }
    };
    frame(&format!("Pay {}", price(order.amount)), &content)
}

/// A page that says one thing, such as that there is no such payment.
#[must_use]
pub fn message_page(heading: &str, text: &str) -> Markup {
    frame(heading, &outcome("bad", heading, text))
}

fn frame(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Sandbox Pay" }
                link rel="icon" type="image/svg+xml" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body {
                p.test-banner role="note" { strong { "Test mode." } " No real money moves here." }
                main {
                    p.brand { img src=(ICON) alt="" width="36" height="36"; span { "Sandbox Pay" } }
                    div.sheet { (content) }
                    p.small { "A payment provider to try the shop with. You press what a bank would say." }
                }
            }
        }
    }
}

fn state(session: &SessionView) -> Markup {
    match session.status {
        SessionStatus::Open => choices(&session.order),
        SessionStatus::Paid => outcome("good", "Paid", "The shop is being told. You can go back to it now."),
        SessionStatus::Declined => outcome("bad", "Declined", "The payment was declined. No money was taken."),
        SessionStatus::Cancelled => outcome("ended", "Cancelled", "You left without paying. No money was taken."),
        SessionStatus::Expired => outcome("ended", "Expired", "This payment page is closed. No money was taken."),
    }
}

fn outcome(kind: &str, headline: &str, explanation: &str) -> Markup {
    html! {
        section.outcome data-outcome=(kind) role="status" {
            h1 { (headline) }
            p { (explanation) }
        }
    }
}

fn choices(order: &Order) -> Markup {
    let amount = price(order.amount);
    html! {
        h1.visually-hidden { "Pay " (amount) }
        form method="post" {
            button.pay type="submit" name="action" value="pay" { "Pay " (amount) }
            div.others {
                button type="submit" name="action" value="decline" { "Decline" }
                button type="submit" name="action" value="cancel" { "Cancel" }
            }
        }
        p.until {
            "Open until "
            time datetime=(order.expires_at) { (order.expires_at.strftime("%-d %B %Y, %H:%M:%S UTC")) }
        }
    }
}

fn lines(order: &Order) -> Markup {
    html! {
        section.lines aria-labelledby="lines-title" {
            h2 #lines-title { "Your order" }
            ul {
                @for line in &order.lines {
                    li {
                        span { (line.quantity) " × " (line.name) }
                        @if let Some(total) = line_total(order, line) { span { (price(total)) } }
                    }
                }
            }
        }
    }
}

fn line_total(order: &Order, line: &SessionLine) -> Option<Money> {
    Money { amount: line.unit_amount, currency: order.amount.currency }.times(line.quantity)
}

/// Nothing but a web address becomes a link.
fn is_web_address(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// A price with the sign that everybody knows: `€12.34`; other currencies keep their code.
fn price(money: Money) -> String {
    let text = money.to_string();
    match text.rsplit_once(' ') {
        Some((number, "EUR")) => format!("€{number}"),
        Some((number, "USD")) => format!("${number}"),
        Some((number, "GBP")) => format!("£{number}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use common::time::Timestamp;

    use super::*;
    use crate::session::PaymentStatus;

    const HOSTILE: &str = r#""><script>alert(1)</script>"#;

    const ORDER_URL: &str = "http://127.0.0.1:8082/checkout/0198c0de-0000-7000-8000-00000000000a";

    const DECIDED: [(SessionStatus, &str); 4] = [
        (SessionStatus::Paid, "Paid"),
        (SessionStatus::Declined, "Declined"),
        (SessionStatus::Cancelled, "Cancelled"),
        (SessionStatus::Expired, "Expired"),
    ];

    fn view_of(status: SessionStatus) -> PaymentPage {
        let start: Timestamp = "2026-11-22T17:00:00Z".parse().expect("a time");
        let order = Order {
            client_reference_id: "0198c0de-0000-7000-8000-00000000000a".into(),
            amount: Money::eur(3700),
            lines: vec![SessionLine { name: "Stoneware mug".into(), quantity: 2, unit_amount: 1850 }],
            expires_at: start,
        };
        let session = SessionView {
            session_id: "ps_1".parse().expect("a session id"),
            url: "http://127.0.0.1:8086/payment/ps_1".into(),
            order,
            status,
            payment_status: PaymentStatus::Unpaid,
            created_at: start,
        };
        PaymentPage { session, order_url: Some(ORDER_URL.into()) }
    }

    fn page_of(status: SessionStatus) -> String {
        payment_page(&view_of(status)).into_string()
    }

    #[test]
    fn an_open_session_offers_every_decision() {
        let html = page_of(SessionStatus::Open);
        for action in ["pay", "decline", "cancel"] {
            assert!(html.contains(&format!(r#"name="action" value="{action}""#)), "{action}: {html}");
        }
        assert!(html.contains(r#"<form method="post">"#) && html.contains("Pay €37.00"));
        assert!(html.contains("2 × Stoneware mug</span><span>€37.00"), "{html}");
    }

    #[test]
    fn a_decided_session_offers_nothing_and_says_how_it_ended() {
        for (status, word) in DECIDED {
            let html = page_of(status);
            assert!(html.contains(&format!("<h1>{word}</h1>")), "{status:?}: {html}");
            assert!(!html.contains("<form") && !html.contains("<button"), "{status:?}: {html}");
            assert_eq!(html.contains("No money was taken"), status != SessionStatus::Paid, "{status:?}");
        }
    }

    #[test]
    fn only_a_paid_session_says_paid() {
        assert!(page_of(SessionStatus::Paid).contains("<h1>Paid"));
        for status in [SessionStatus::Open, SessionStatus::Declined, SessionStatus::Cancelled, SessionStatus::Expired] {
            assert!(!page_of(status).contains("<h1>Paid"), "{status:?}");
        }
    }

    #[test]
    fn every_page_says_that_it_is_a_test() {
        for (status, _) in DECIDED.into_iter().chain([(SessionStatus::Open, "")]) {
            assert!(page_of(status).contains("No real money moves here."), "{status:?}");
        }
        let message = message_page("No such payment", "Go back.").into_string();
        assert!(message.contains("No real money moves here.") && message.contains("<h1>No such payment</h1>"));
    }

    #[test]
    fn what_the_shop_sent_stays_text() {
        let mut view = view_of(SessionStatus::Open);
        view.session.order.lines[0].name = HOSTILE.into();
        view.session.order.client_reference_id = HOSTILE.into();
        view.order_url = Some("javascript:alert(1)".into());
        let html = payment_page(&view).into_string();
        assert!(!html.contains(HOSTILE) && html.contains("&lt;script&gt;"), "{html}");
        assert!(!html.contains("javascript:"));
    }

    #[test]
    fn the_way_back_is_a_link_if_it_is_known() {
        assert!(page_of(SessionStatus::Paid).contains(&format!(r#"<a href="{ORDER_URL}">Back to the shop</a>"#)));
        let lost = PaymentPage { order_url: None, ..view_of(SessionStatus::Paid) };
        assert!(!payment_page(&lost).into_string().contains("Back to the shop"));
    }

    #[test]
    fn the_style_cannot_end_its_element() {
        assert!(!STYLE.contains('<'));
    }
}
