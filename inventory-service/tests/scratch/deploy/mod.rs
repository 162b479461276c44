pub mod nats_server; pub mod provision;
