//! How the shop is run and operated: all of it on one machine ([`up`]), the streams ([`provision`](provision::provision)),
//! the first articles ([`catalogue`]), the proof of the promises ([`doctor`]), nats-server itself ([`nats_server`]).

pub mod catalogue;
pub mod cli;
pub mod doctor;
pub mod nats_server;
pub mod provision;
pub mod up;
