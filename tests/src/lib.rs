//! A whole shop for a story: a nats-server of its own, or three; every service as a process of its own, on free ports, gone
//! at the end. Any of them can be killed and started again.

#[cfg(test)]
mod cases;
mod customers;
mod load;
mod servers;
mod shop;
mod storage;
mod streams;
mod users;
mod wait;
mod witness;

pub use customers::{Customers, SKU, Visits};
pub use deploy::service_process::Service;
pub use load::{Footprint, dribble, exchange, footprint_of};
pub use servers::{Servers, nodes_from_environment};
pub use shop::{ALICE_TOKEN, OPERATOR_TOKEN, Shop, ShopOptions, free_ports};
pub use storage::{SmallDisk, flip_a_bit, place_of};
pub use streams::Parked;
pub use users::{password_of, permissions, url_as};
pub use wait::{eventually, eventually_ok_within, eventually_within};
pub use witness::{Witness, connect_to_node, leader_of, replicas_agree};
