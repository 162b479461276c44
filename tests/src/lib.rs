//! A whole shop for a story: a nats-server of its own, every service as a process of its own, on free ports, gone at the
//! end. Any of them can be killed and started again.

mod process;
mod shop;
mod streams;
mod wait;

pub use process::Service;
pub use shop::{OPERATOR_TOKEN, Shop, ShopOptions, free_ports};
pub use streams::Parked;
pub use wait::{eventually, eventually_within};
