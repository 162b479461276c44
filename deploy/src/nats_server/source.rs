//! Use a server that somebody else runs, or start one.

/// Where the shop's nats-server comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsSource {
    /// Somebody else runs it at this address: use it, never start or stop one.
    Running {
        /// As in `NATS_URL`, for example `nats://localhost:4222`.
        url: String,
    },
    /// Nobody named one: find or install nats-server and start it.
    StartOurs,
}

impl NatsSource {
    /// Decides by the address that a person gave with a flag or in `NATS_URL`. A blank address is none, because
    /// `NATS_URL= cargo run` is how a shell takes a variable away.
    pub fn from_url(url: Option<&str>) -> Self {
        match url.map(str::trim) {
            None | Some("") => Self::StartOurs,
            Some(url) => Self::Running { url: url.to_owned() },
        }
    }

    /// Decides by the environment variable `NATS_URL` alone.
    pub fn from_environment() -> Self {
        Self::from_url(std::env::var("NATS_URL").ok().as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_started_only_when_no_address_is_given() {
        assert_eq!(NatsSource::from_url(None), NatsSource::StartOurs);
        assert_eq!(NatsSource::from_url(Some("  ")), NatsSource::StartOurs);
        let running = NatsSource::Running { url: "nats://shop:4222".to_owned() };
        assert_eq!(NatsSource::from_url(Some(" nats://shop:4222")), running);
    }
}
