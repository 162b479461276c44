//! What a checkout does, told as stories: single decisions by theme, whole ways, recorded histories.
//! Random worlds are in `tests/model`.

mod cancelling;
mod deadlines;
mod fixtures;
mod golden;
mod late_money;
mod provider_trouble;
mod shapes;
mod starting;
mod stock;
mod total;
mod ways;
mod webhooks;
