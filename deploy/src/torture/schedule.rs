//! Which faults come, and when: an endless list that a seed repeats.

use std::time::Duration;

use common::streams::ConsumerName;
use serde_json::{Value, json};

use super::{FaultKind, random::Random, visits::call_trouble};
use crate::{faulty_link::Flow, service_process::Service};

/// Who is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Service(Service),
    /// A nats-server, by its place.
    Server(u8),
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// kill -9; started again after a while.
    Kill { target: Target, down: Duration },
    /// SIGSTOP, and SIGCONT after a while.
    Pause { target: Target, still: Duration },
    /// SIGTERM; started again when it has ended.
    Restart { target: Target },
    /// Messages that were sent before are sent again, into the stream that they were for.
    SendAgain { area: Area, count: u8, choice: u64 },
    /// Everything in the consumer's stream is delivered again.
    ResetConsumer { consumer: ConsumerName },
    /// Nothing is delivered for a while.
    PauseConsumer { consumer: ConsumerName, still: Duration },
    /// The connection of a service to NATS breaks.
    Cut { service: Service },
    /// The connection of a service to NATS misbehaves for a while.
    Link { service: Service, direction: Direction, flow: Flow, lasts: Duration },
    /// The provider misbehaves for a few calls, whoever asks.
    Provider { rule: Value },
    /// A few webhooks come twice, late, stale or wrongly signed.
    Webhooks { rule: Value },
    /// A worker's clock is wrong for a while.
    Clock { worker: u8, offset_seconds: i64, lasts: Duration },
}

/// What is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Area {
    /// Commands of workflows: starts, cancels, answers of the inventory.
    Commands,
    /// Commands of the inventory.
    InventoryCommands,
    /// Webhooks.
    Webhooks,
    /// Wake-up calls of workflows, whether they wait or not.
    Due,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    FromServer,
    Both,
}

impl Fault {
    /// Which kind it is.
    #[cfg(test)]
    pub(super) fn kind(&self) -> FaultKind {
        match self {
            Self::Kill { .. } => FaultKind::Kill,
            Self::Pause { .. } => FaultKind::Pause,
            Self::Restart { .. } => FaultKind::Restart,
            Self::SendAgain { .. } => FaultKind::Duplicate,
            Self::ResetConsumer { .. } | Self::PauseConsumer { .. } => FaultKind::Reset,
            Self::Cut { .. } | Self::Link { .. } => FaultKind::Network,
            Self::Provider { .. } => FaultKind::Provider,
            Self::Webhooks { .. } => FaultKind::Webhooks,
            Self::Clock { .. } => FaultKind::Clock,
        }
    }

    /// What it is called in the report.
    pub(super) fn name(&self) -> String {
        let of = |target: &Target| match target {
            Target::Service(service) => service.subcommand(),
            Target::Server(_) => "nats-server",
        };
        match self {
            Self::Kill { target, .. } => format!("kill -9 of a {}", of(target)),
            Self::Pause { target, .. } => format!("pause of a {}", of(target)),
            Self::Restart { target } => format!("restart of a {}", of(target)),
            Self::SendAgain { area, .. } => match area {
                Area::Commands => "commands sent again".into(),
                Area::InventoryCommands => "inventory commands sent again".into(),
                Area::Webhooks => "stored webhooks sent again".into(),
                Area::Due => "wake-up calls out of turn".into(),
            },
            Self::ResetConsumer { consumer } => format!("reset of the consumer of {}", consumer.stream().as_str()),
            Self::PauseConsumer { consumer, .. } => format!("pause of the consumer of {}", consumer.stream().as_str()),
            Self::Cut { .. } => "connection cut".into(),
            Self::Link { flow, .. } => match flow {
                Flow::Delayed(_) => "connection delayed".into(),
                Flow::Throttled { .. } => "connection throttled".into(),
                Flow::Held => "connection half open".into(),
                Flow::Lost => "connection that loses bytes".into(),
                Flow::Open => "connection healed".into(),
            },
            Self::Provider { rule } => format!("provider: {}", rule["fault"].as_str().unwrap_or_default()),
            Self::Webhooks { rule } => format!("webhooks: {}", rule["fault"].as_str().unwrap_or_default()),
            Self::Clock { .. } => "clock of a worker shifted".into(),
        }
    }
}

/// The endless list of faults of a seed.
#[derive(Debug)]
pub(super) struct Schedule {
    random: Random,
    kinds: Vec<FaultKind>,
    services: Vec<Service>,
    servers: u8,
}

impl Schedule {
    /// Faults of some kinds, at least one, against these services and so many servers.
    pub(super) fn new(seed: u64, kinds: &[FaultKind], services: Vec<Service>, servers: u8) -> Self {
        Self { random: Random::new(seed, "faults"), kinds: kinds.to_vec(), services, servers }
    }

    /// The next fault, and how long to wait before it; nothing without kinds.
    pub(super) fn next(&mut self) -> Option<(Duration, Fault)> {
        if self.kinds.is_empty() {
            return None;
        }
        let wait = self.millis(100, 1_200);
        let kind = *self.random.one_of(&self.kinds);
        Some((wait, self.fault(kind)))
    }

    fn fault(&mut self, kind: FaultKind) -> Fault {
        match kind {
            FaultKind::Kill => Fault::Kill { target: self.target(), down: self.millis(0, 2_500) },
            FaultKind::Pause => {
                // Long enough, now and then, for a lease or a pin to go to somebody else.
                let most = if self.random.percent(20) { 12_000 } else { 3_000 };
                Fault::Pause { target: self.target(), still: self.millis(200, most) }
            }
            FaultKind::Restart => Fault::Restart { target: self.target() },
            FaultKind::Duplicate => {
                let area = *self.random.one_of(&[Area::Commands, Area::InventoryCommands, Area::Webhooks, Area::Due]);
                let (count, choice) = (self.random.small(1, 40), self.random.within(0, u64::MAX));
                Fault::SendAgain { area, count, choice }
            }
            FaultKind::Reset => {
                let consumer = *self.random.one_of(&ConsumerName::ALL);
                if self.random.percent(60) {
                    Fault::ResetConsumer { consumer }
                } else {
                    Fault::PauseConsumer { consumer, still: self.millis(500, 4_000) }
                }
            }
            FaultKind::Network => self.network(),
            FaultKind::Provider => {
                let call = *self.random.one_of(&["create_session", "expire_session", "refund", "any"]);
                let mut rule = call_trouble(call, &mut self.random);
                rule["times"] = json!(self.random.within(3, 25));
                Fault::Provider { rule }
            }
            FaultKind::Webhooks => Fault::Webhooks { rule: self.webhooks() },
            FaultKind::Clock => {
                let seconds = i64::try_from(self.random.within(1, 240)).unwrap_or(1);
                let offset_seconds = if self.random.percent(50) { seconds } else { -seconds };
                Fault::Clock { worker: self.random.small(0, 3), offset_seconds, lasts: self.millis(2_000, 12_000) }
            }
        }
    }

    fn target(&mut self) -> Target {
        // A server that is down stops everything, so it is not meant as often as its share.
        if self.random.percent(10) {
            Target::Server(self.random.small(0, self.servers))
        } else {
            Target::Service(*self.random.one_of(&self.services))
        }
    }

    fn network(&mut self) -> Fault {
        let connected: Vec<Service> =
            self.services.iter().copied().filter(|service| *service != Service::Sandbox).collect();
        let service = *self.random.one_of(&connected);
        let direction = *self.random.one_of(&[Direction::ToServer, Direction::FromServer, Direction::Both]);
        let flow = match self.random.within(0, 5) {
            0 => return Fault::Cut { service },
            1 => Flow::Delayed(self.millis(20, 400)),
            2 => Flow::Throttled { bytes_per_second: usize::from(self.random.small(1, 20)) * 1_000 },
            3 => Flow::Held,
            _ => Flow::Lost,
        };
        let most = if self.random.percent(20) { 14_000 } else { 3_000 };
        Fault::Link { service, direction, flow, lasts: self.millis(300, most) }
    }

    fn webhooks(&mut self) -> Value {
        let fault = *self.random.one_of(&["duplicate", "delay", "delay", "wrong_signature", "stale"]);
        let times = self.random.within(2, 15);
        match fault {
            "duplicate" => {
                json!({ "call": "webhook", "fault": fault, "times": times, "copies": self.random.within(1, 6) })
            }
            // Random for each rule, so that webhooks of different checkouts overtake each other.
            "delay" => {
                json!({ "call": "webhook", "fault": fault, "times": times, "millis": self.random.within(50, 3_000) })
            }
            _ => json!({ "call": "webhook", "fault": fault, "times": times }),
        }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.within(from, to))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use payment_sandbox::faults::FaultRule;

    use super::*;

    fn faults(seed: u64, kinds: &[FaultKind]) -> Vec<(Duration, Fault)> {
        let services = vec![Service::Worker(0), Service::Inventory(0), Service::Gateway(0), Service::Sandbox];
        let mut schedule = Schedule::new(seed, kinds, services, 1);
        (0..2_000).map_while(|_| schedule.next()).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_schedule_and_every_kind_comes() {
        let all = faults(42, &FaultKind::ALL);
        assert_eq!(all, faults(42, &FaultKind::ALL));
        assert_ne!(all, faults(43, &FaultKind::ALL));
        let kinds: BTreeSet<FaultKind> = all.iter().map(|(_, fault)| fault.kind()).collect();
        assert_eq!(kinds, FaultKind::ALL.into());
        assert!(faults(42, &[FaultKind::Kill]).iter().all(|(_, fault)| fault.kind() == FaultKind::Kill));
        assert!(faults(42, &[]).is_empty());
    }

    #[test]
    fn every_rule_can_do_something() {
        for (_, fault) in faults(1, &[FaultKind::Provider, FaultKind::Webhooks]) {
            let (Fault::Provider { rule } | Fault::Webhooks { rule }) = fault else { panic!("another kind") };
            let rule: FaultRule = serde_json::from_value(rule).expect("a rule");
            assert_eq!(rule.check(), Ok(()), "{rule:?}");
        }
    }
}
