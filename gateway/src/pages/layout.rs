//! The frame around every page.

use maud::{DOCTYPE, Markup, html};

use super::assets;

/// What a page says about itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Frame<'a> {
    /// The title in the tab, without the shop's name.
    pub(crate) title: &'a str,
    /// Reload after so many seconds where scripts are off; `None` for pages that do not change by themselves.
    pub(crate) refresh_without_scripts: Option<u32>,
    /// Whether this is an operator page.
    pub(crate) operator: bool,
}

/// A whole page around `content`.
pub(crate) fn page(frame: Frame<'_>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="same-origin";
                title { (frame.title) " · Harbour Goods" }
                link rel="icon" type="image/svg+xml" href=(assets::icon_address());
                link rel="stylesheet" href=(assets::style_address());
                script src=(assets::live_address()) defer {}
                @if let Some(seconds) = frame.refresh_without_scripts {
                    noscript { meta http-equiv="refresh" content=(seconds); }
                }
            }
            body {
                a.skip-link href="#content" { "Skip to the content" }
                (header(frame.operator))
                main #content tabindex="-1" { (content) }
                (footer())
            }
        }
    }
}

fn header(operator: bool) -> Markup {
    html! {
        header.site-header {
            div.wide {
                a.brand href="/" {
                    img src=(assets::icon_address()) alt="" width="32" height="32";
                    span { "Harbour Goods" }
                }
                nav aria-label="Main" {
                    @if operator {
                        a href="/operator" { "Operator" }
                    }
                    a href="/" { "Store" }
                }
            }
        }
    }
}

fn footer() -> Markup {
    html! {
        footer.site-footer {
            div.wide {
                p { "You are charged once, or not at all. If an order is not paid in time, nothing is taken and the goods go back on the shelf." }
                p.links {
                    a href="/openapi.json" { "API" }
                    a href="/operator" { "For operators" }
                }
            }
        }
    }
}
