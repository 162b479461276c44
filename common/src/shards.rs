//! Histories and commands in several streams each.
//!
//! One stream is one log: one commit after another, kept by one group of servers. A shop that needs more spreads its workflows
//! over several streams of the same kind, by their ids; everything of one workflow stays in one stream, in order. How many
//! there are is decided once, when the streams are provisioned, and is noted in the metadata of `COMMANDS`: every service
//! finds it there, so no two of them can disagree.
//!
//! The first part has the names that a shop with one part has (`HISTORY`, `history.<kind>.<id>`); the others have their number
//! in both (`HISTORY_2`, `history.2.<kind>.<id>`).

use std::{fmt, num::NonZeroU8, str::FromStr, sync::LazyLock};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    ids::{InvalidName, WorkflowId},
    nats::Nats,
    streams::{ConsumerName, StreamName},
    subject::Subject,
};

/// The metadata key of `COMMANDS` that tells how many parts there are; without it there is one.
pub const SHARDS_KEY: &str = "checkout-shards";

/// Most parts: with a few thousand checkouts a second each, more than any shop needs.
pub const MOST_SHARDS: u8 = 64;

/// How many streams share the histories, and how many the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shards(NonZeroU8);

/// One of several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shard {
    /// The first, whose names have no number.
    First,
    /// One of the others, from 1.
    Numbered(NonZeroU8),
}

impl Shard {
    fn of_number(number: u8) -> Self {
        NonZeroU8::new(number).map_or(Self::First, Self::Numbered)
    }

    /// Its place, from 0.
    #[must_use]
    pub fn place(self) -> usize {
        match self {
            Self::First => 0,
            Self::Numbered(number) => usize::from(number.get()),
        }
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Shards {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let number = text.parse::<NonZeroU8>().ok().filter(|number| number.get() <= MOST_SHARDS);
        number.map(Self).ok_or_else(|| InvalidName {
            what: "number of shards",
            value: text.chars().take(80).collect(),
            expected: "1 to 64",
        })
    }
}

impl Shards {
    /// Everything in one stream of each kind.
    pub const ONE: Self = Self(NonZeroU8::MIN);

    /// Every part.
    pub fn all(self) -> impl Iterator<Item = Shard> + use<> {
        (0..self.0.get()).map(Shard::of_number)
    }

    /// The part that a workflow is in. Ids are random in their last bits, whether drawn or derived from a key.
    #[must_use]
    pub fn of(self, id: WorkflowId) -> Shard {
        let (_, low) = id.as_uuid().as_u64_pair();
        // The two highest bits of this half are the same in every id (RFC 9562, variant).
        let random = low & (u64::MAX >> 2);
        let number = random % u64::from(self.0.get());
        Shard::of_number(u8::try_from(number).unwrap_or(0))
    }

    /// All streams of a kind.
    pub fn streams(self, kind: StreamName) -> impl Iterator<Item = StreamName> + use<> {
        let parts = if kind.has_parts() { self } else { Self::ONE };
        parts.all().map(move |shard| kind.part(shard))
    }

    /// All streams of several kinds.
    #[must_use]
    pub fn all_streams(self, kinds: &[StreamName]) -> Vec<StreamName> {
        kinds.iter().flat_map(|&kind| self.streams(kind)).collect()
    }

    /// All consumers of several kinds.
    #[must_use]
    pub fn all_consumers(self, kinds: &[ConsumerName]) -> Vec<ConsumerName> {
        let parts = |kind: ConsumerName| {
            let parts = if kind.stream().has_parts() { self } else { Self::ONE };
            parts.all().map(move |shard| kind.part(shard))
        };
        kinds.iter().flat_map(|&kind| parts(kind)).collect()
    }

    /// Every consumer of streams of these kinds.
    #[must_use]
    pub fn consumers_of(self, kinds: &[StreamName]) -> Vec<ConsumerName> {
        let mut consumers = ConsumerName::ALL.to_vec();
        consumers.retain(|consumer| kinds.contains(&consumer.stream()));
        self.all_consumers(&consumers)
    }

    /// The part that a subject belongs to.
    #[must_use]
    pub fn of_subject(self, subject: &Subject) -> Shard {
        match subject {
            Subject::Command(workflow) | Subject::History(workflow) | Subject::LiveHistory(workflow) => {
                self.of(workflow.id)
            }
            _ => Shard::First,
        }
    }

    /// A subject as it is written at the server.
    #[must_use]
    pub fn wire(self, subject: &Subject) -> String {
        subject.in_shard(self.of_subject(subject))
    }
}

impl Nats {
    /// Find out in how many parts the streams are.
    ///
    /// # Errors
    /// When the server cannot be asked for a minute, or the streams are not provisioned, with what to do.
    pub async fn with_shards(self) -> anyhow::Result<Self> {
        let commands = crate::nats::check::stream_config(&self, StreamName::Commands).await?;
        let shards = match commands.metadata.get(SHARDS_KEY) {
            None => Shards::ONE,
            Some(noted) => noted.parse().context("read in how many parts the streams are")?,
        };
        Ok(Self { shards, ..self })
    }
}

/// `HISTORY`, `HISTORY_1`, `HISTORY_2`, …: made once, so that a stream's name is as cheap as a constant.
pub(crate) struct Names(LazyLock<Vec<String>>);

impl Names {
    pub(crate) const fn of_histories() -> Self {
        Self(LazyLock::new(|| numbered("HISTORY")))
    }

    pub(crate) const fn of_commands() -> Self {
        Self(LazyLock::new(|| numbered("COMMANDS")))
    }

    pub(crate) fn get(&'static self, number: NonZeroU8) -> &'static str {
        self.0.get(usize::from(number.get())).map_or("", String::as_str)
    }
}

fn numbered(base: &str) -> Vec<String> {
    (0..=u8::MAX).map(|number| if number == 0 { base.to_owned() } else { format!("{base}_{number}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{WorkflowKind, WorkflowRef};

    fn shards(number: u8) -> Shards {
        number.to_string().parse().expect("a number of shards")
    }

    fn workflow() -> WorkflowRef {
        WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() }
    }

    #[test]
    fn one_part_has_the_names_that_everybody_knows() {
        let workflow = workflow();
        assert_eq!(Shards::ONE.wire(&Subject::History(workflow)), format!("history.checkout.{}", workflow.id));
        let names: Vec<&str> = Shards::ONE.streams(StreamName::History).map(StreamName::as_str).collect();
        assert_eq!(names, ["HISTORY"]);
    }

    #[test]
    fn several_parts_have_their_numbers_and_a_subject_in_a_part_is_read_back() {
        let names: Vec<&str> = shards(3).streams(StreamName::Commands).map(StreamName::as_str).collect();
        assert_eq!(names, ["COMMANDS", "COMMANDS_1", "COMMANDS_2"]);
        let mut seen = [false; 3];
        for _ in 0..1_000 {
            let workflow = workflow();
            for subject in [Subject::History(workflow), Subject::LiveHistory(workflow), Subject::Command(workflow)] {
                let wire = shards(3).wire(&subject);
                assert_eq!(wire.parse(), Ok(subject), "{wire}");
                let place = shards(3).of(workflow.id).place();
                assert_eq!(wire.contains(&format!(".{place}.")), place != 0, "{wire}");
                seen[place] = true;
            }
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn workflows_are_spread_evenly_whether_their_ids_are_drawn_or_derived() {
        let key = |number: u32| {
            let key = format!("order-{number}").parse().expect("a key");
            WorkflowId::from_idempotency_key("", &key)
        };
        let drawn = |_| WorkflowId::random();
        for ids in [(0..8_000).map(drawn).collect::<Vec<_>>(), (0..8_000).map(key).collect()] {
            let mut parts = [0_u32; 8];
            ids.into_iter().for_each(|id| parts[shards(8).of(id).place()] += 1);
            assert!(parts.iter().all(|count| (850..1_150).contains(count)), "{parts:?}");
        }
    }

    #[test]
    fn streams_without_parts_have_none() {
        assert_eq!(shards(4).streams(StreamName::Timers).count(), 1);
        assert_eq!(shards(4).all_streams(&[StreamName::Timers, StreamName::History]).len(), 5);
        assert_eq!(shards(4).all_consumers(&ConsumerName::ALL).len(), 5 + 3);
    }

    #[test]
    fn a_number_of_parts_is_one_to_sixty_four() {
        for wrong in ["0", "65", "-1", "x", ""] {
            assert!(wrong.parse::<Shards>().is_err(), "{wrong}");
        }
    }
}
