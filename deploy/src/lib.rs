//! How the shop is run and operated: all of it on one machine ([`up`]), the streams ([`provision`](provision::provision)),
//! the first articles ([`catalogue`]), the proof of the promises ([`doctor`]), what could not be handled
//! ([`dead_letters`]), a checkout that no worker may touch
//! ([`repair`]), a new build before it is deployed ([`replay`]), nats-server itself ([`nats_server`]), a connection that
//! misbehaves on demand ([`faulty_link`]), services as processes ([`hosting`], [`service_process`], [`signals`]), the
//! whole shop under every fault at once ([`torture`]), how fast it is ([`bench`](mod@bench)), and what all of them print ([`output`]).

pub mod accept_loss;
pub mod bench;
pub mod catalogue;
pub mod cli;
pub mod dead_letters;
pub mod doctor;
pub mod faulty_link;
pub mod hosting;
pub mod nats_server;
pub mod output;
pub mod provision;
pub mod repair;
pub mod replay;
pub mod service_process;
pub mod signals;
pub mod torture;
pub mod up;
