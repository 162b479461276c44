//! What people see: the store, the order page and the operator pages, as pure functions from data to HTML.
//!
//! Everything works without scripts; `live.js` only keeps what is on the screen up to date, with fragments that the
//! same functions have written. Nothing inline (no script, no style), so `default-src 'self'` holds.
//!
//! Reading order: [`store`], [`order`], [`operator`] (from an [`overview`]), [`error`] (the pages) → [`layout`],
//! [`mod@format`], [`pictures`], [`assets`] (what they share) → [`routes`] (where they are served).

pub(crate) mod assets;
pub(crate) mod error;
pub(crate) mod format;
pub(crate) mod layout;
pub(crate) mod operator;
mod operator_cookie;
pub(crate) mod order;
mod order_words;
pub(crate) mod overview;
mod pictures;
pub(crate) mod routes;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod store;
mod timeline;
