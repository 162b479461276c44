//! How much one client address may ask for; webhooks are not limited here.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use common::service::http::{ClientAddress, Problem};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _, clock::DefaultClock};
use tokio_util::sync::CancellationToken;

/// Seconds' worth of requests that a client may send at once after a pause.
const BURST_SECONDS: u32 = 2;

/// How often clients that have been quiet are forgotten: the limiter never does so by itself.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The limit of every client.
#[derive(Debug)]
pub(crate) struct Limiter {
    clients: Option<DefaultKeyedRateLimiter<IpAddr>>,
    clock: DefaultClock,
}

impl Limiter {
    /// At most so many requests per second and client in the long run; 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let quota = NonZeroU32::new(per_second)
            .map(|per_second| Quota::per_second(per_second).allow_burst(per_second.saturating_mul(TWO)));
        Self { clients: quota.map(RateLimiter::keyed), clock: DefaultClock::default() }
    }

    /// Count one request.
    pub(crate) fn check(&self, client: Option<ClientAddress>) -> Result<(), Problem> {
        let (Some(clients), Some(ClientAddress(address))) = (&self.clients, client) else { return Ok(()) };
        clients.check_key(&household(address)).map_err(|not_until| {
            metrics::counter!("gateway_rate_limited_total").increment(1);
            Problem::rate_limited(not_until.wait_time_from(self.clock.now()))
        })
    }

    /// Forget quiet clients now and then, until `stop`.
    pub(crate) async fn forget_quiet_clients(&self, stop: CancellationToken) {
        let Some(clients) = &self.clients else { return };
        while stop.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_some() {
            clients.retain_recent();
            clients.shrink_to_fit();
        }
    }
}

/// [`BURST_SECONDS`] as governor wants it.
const TWO: NonZeroU32 = NonZeroU32::new(BURST_SECONDS).expect("not zero");

/// One customer has a whole /64 of IPv6 addresses: they share one limit.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Option<ClientAddress> {
        Some(ClientAddress(address.parse().expect("an address")))
    }

    #[test]
    fn a_client_that_asks_too_much_is_told_when_to_come_back() {
        let limiter = Limiter::new(1);
        assert!(limiter.check(client("1.1.1.1")).is_ok());
        assert!(limiter.check(client("1.1.1.1")).is_ok());
        let refused = limiter.check(client("1.1.1.1")).expect_err("the third within a second");
        assert_eq!(refused.code(), "rate_limited");
        assert!(limiter.check(client("2.2.2.2")).is_ok(), "others are not hurt");
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_limit() {
        let limiter = Limiter::new(1);
        let used = ["fd00::1", "fd00::2", "fd00::3"].map(|address| limiter.check(client(address)).is_ok());
        assert_eq!(used, [true, true, false]);
    }

    #[test]
    fn zero_is_no_limit() {
        let limiter = Limiter::new(0);
        assert!((0..10_000).all(|_| limiter.check(client("1.1.1.1")).is_ok()));
    }
}
