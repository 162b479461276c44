//! The files that the pages name: one style sheet, one script, one icon, all part of the binary.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// A file that never changes while this binary runs.
pub(crate) struct Asset {
    /// Its path below `/static/`.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) content_type: &'static str,
    /// What is in it.
    pub(crate) text: &'static str,
}

/// How everything looks.
pub(crate) const STYLE: Asset =
    Asset { name: "style.css", content_type: "text/css; charset=utf-8", text: include_str!("style.css") };
/// What keeps an open page up to date.
pub(crate) const LIVE: Asset =
    Asset { name: "live.js", content_type: "text/javascript; charset=utf-8", text: include_str!("live.js") };
/// The sign in the browser's tab.
pub(crate) const ICON: Asset =
    Asset { name: "icon.svg", content_type: "image/svg+xml", text: include_str!("icon.svg") };

/// Every file, for the route.
pub(crate) const ALL: [&Asset; 3] = [&STYLE, &LIVE, &ICON];

static STYLE_ADDRESS: LazyLock<String> = LazyLock::new(|| STYLE.versioned_address());
static LIVE_ADDRESS: LazyLock<String> = LazyLock::new(|| LIVE.versioned_address());
static ICON_ADDRESS: LazyLock<String> = LazyLock::new(|| ICON.versioned_address());

/// Where a page finds the style sheet.
pub(crate) fn style_address() -> &'static str {
    &STYLE_ADDRESS
}

/// Where a page finds the script.
pub(crate) fn live_address() -> &'static str {
    &LIVE_ADDRESS
}

/// Where a page finds the icon.
pub(crate) fn icon_address() -> &'static str {
    &ICON_ADDRESS
}

impl Asset {
    /// The address with a piece of the content's hash, so that it may be cached for ever: another content has
    /// another address.
    fn versioned_address(&self) -> String {
        let hash = hex::encode(Sha256::digest(self.text));
        format!("/static/{}?v={}", self.name, &hash[..12])
    }
}
