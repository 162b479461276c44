//! What a checkout does, told as stories: single decisions by theme, whole ways, random worlds, recorded histories.

mod cancelling;
mod deadlines;
mod fixtures;
mod golden;
mod late_money;
mod properties;
mod provider_trouble;
mod shapes;
mod starting;
mod stock;
mod total;
mod ways;
mod webhooks;
mod world;
