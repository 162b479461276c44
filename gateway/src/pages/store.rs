//! The store: every article with its picture, price, live stock and a form that buys it.

use common::{contracts::checkout::MAX_QUANTITY, ids::IdempotencyKey};
use maud::{Markup, html};

use super::{format, layout, layout::Frame, pictures};
use crate::catalogue::Article;

/// From how many on the store says that only a few are left.
const FEW: u64 = 5;

/// The store. Each form has a key of its own, made for this page view: pressing a button twice is one checkout.
pub(crate) fn page(articles: &[Article], mut fresh_key: impl FnMut() -> IdempotencyKey) -> Markup {
    let content = html! {
        div.wide {
            div.intro {
                h1 { "Good things, kept simple" }
                p { "Choose one, and it is set aside for you the moment you press Buy. You pay on the payment provider’s own page." }
            }
            @if articles.is_empty() {
                div.card.message {
                    h2 { "The shelves are empty" }
                    p { "There is nothing in the catalogue yet. Please look in again later." }
                }
            } @else {
                ul.articles data-poll="/stock" {
                    @for article in articles {
                        li { (card(article, &fresh_key())) }
                    }
                }
            }
        }
    };
    layout::page(Frame { title: "Store", ..Frame::default() }, &content)
}

/// Only what changes in the store, for `live.js`: the same elements as in the page, by the same functions.
pub(crate) fn stock_fragment(articles: &[Article]) -> Markup {
    html! {
        @for article in articles {
            (stock(article))
            input id=(quantity_id(article)) max=(most(article)) disabled[is_sold_out(article)];
            button id=(buy_id(article)) disabled[is_sold_out(article)] {}
        }
    }
}

fn card(article: &Article, key: &IdempotencyKey) -> Markup {
    let product = &article.product;
    let heading = format!("name-{}", product.sku);
    html! {
        article.card.article aria-labelledby=(heading) {
            div.picture { (pictures::of(&product.picture)) }
            div.about {
                h2 id=(heading) { (product.name) }
                p.description { (product.description) }
            }
            div.facts {
                p.price { (format::price(product.price)) }
                (stock(article))
            }
            (buy_form(article, key))
        }
    }
}

fn stock(article: &Article) -> Markup {
    let available = article.balance.available;
    let (tone, words) = match available {
        0 => ("none", "Sold out".to_owned()),
        1..=FEW => ("few", format!("Only {available} left")),
        _ => ("plenty", format!("{} in stock", format::count(available))),
    };
    html! {
        p.stock id={ "stock-" (article.product.sku) } data-live data-tone=(tone) { (words) }
    }
}

fn buy_form(article: &Article, key: &IdempotencyKey) -> Markup {
    let product = &article.product;
    html! {
        // Browsers restore what was typed when one comes back; the key must be this page view's own.
        form.buy method="post" action="/api/checkout_session" autocomplete="off" {
            input type="hidden" name="idempotency_key" value=(key.as_str());
            input type="hidden" name="sku" value=(product.sku);
            div.quantity {
                label for=(quantity_id(article)) { "Quantity" span.visually-hidden { " of " (product.name) } }
                input id=(quantity_id(article)) type="number" name="quantity" inputmode="numeric" required
                    min="1" max=(most(article)) value="1" data-live-limits disabled[is_sold_out(article)];
            }
            button.primary id=(buy_id(article)) type="submit" data-live-limits disabled[is_sold_out(article)] {
                "Buy" span.visually-hidden { " " (product.name) }
            }
        }
    }
}

fn is_sold_out(article: &Article) -> bool {
    article.balance.available == 0
}

/// The most that may be asked for: what there is, at least 1 so that the field stays valid.
fn most(article: &Article) -> u64 {
    article.balance.available.clamp(1, u64::from(MAX_QUANTITY))
}

fn quantity_id(article: &Article) -> String {
    format!("quantity-{}", article.product.sku)
}

fn buy_id(article: &Article) -> String {
    format!("buy-{}", article.product.sku)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::samples;

    fn store_with(available: u64) -> String {
        page(&[samples::article("MUG-1", "Stoneware mug", available)], samples::key).into_string()
    }

    #[test]
    fn an_article_can_be_bought_by_a_plain_form() {
        let html = store_with(12);
        for part in [
            r#"method="post" action="/api/checkout_session""#,
            r#"name="sku" value="MUG-1""#,
            r#"name="idempotency_key" value="key-of-this-view""#,
            r#"min="1" max="12" value="1""#,
            "€18.50",
            "12 in stock",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        assert!(!html.contains(" disabled"));
    }

    #[test]
    fn stock_is_told_in_words() {
        assert!(store_with(1234).contains("1,234 in stock"));
        assert!(store_with(5).contains("Only 5 left"));
        assert!(store_with(1).contains("Only 1 left"));
        assert!(store_with(0).contains("Sold out"));
    }

    #[test]
    fn a_sold_out_article_cannot_be_bought() {
        let html = store_with(0);
        assert_eq!(html.matches(" disabled").count(), 2, "the quantity and the button: {html}");
    }

    #[test]
    fn every_article_has_a_key_of_its_own() {
        let articles = [samples::article("A", "A", 1), samples::article("B", "B", 1)];
        let mut made = 0;
        let html = page(&articles, || {
            made += 1;
            format!("key-{made}").parse().expect("a key")
        })
        .into_string();
        assert!(html.contains(r#"value="key-1""#) && html.contains(r#"value="key-2""#), "{html}");
    }

    #[test]
    fn a_hostile_name_stays_text() {
        let mut article = samples::article("MUG-1", samples::HOSTILE, 3);
        article.product.description = samples::HOSTILE.into();
        article.product.picture = samples::HOSTILE.into();
        let html = page(&[article], samples::key).into_string();
        assert!(!html.contains(samples::HOSTILE) && html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn the_fragment_repeats_what_the_page_says() {
        let article = samples::article("MUG-1", "Stoneware mug", 3);
        let fragment = stock_fragment(std::slice::from_ref(&article)).into_string();
        assert!(fragment.contains(&stock(&article).into_string()));
        assert!(fragment.contains(r#"<input id="quantity-MUG-1" max="3">"#), "{fragment}");
        assert!(store_with(3).contains(&stock(&article).into_string()));
    }

    #[test]
    fn an_empty_catalogue_says_so() {
        assert!(page(&[], samples::key).into_string().contains("The shelves are empty"));
    }
}
