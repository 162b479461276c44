//! What the ledger remembers, for how long, and how it is written down.

use std::{collections::VecDeque, time::Duration};

use common::{record::RecordHash, time::Timestamp};
use jiff::SignedDuration;

use super::{COMMAND_MAX_AGE, DELIVERY_MEMORY, FINISHED_MEMORY, Ledger, books::Reservation};

/// A written state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the state cannot be read")]
pub struct UnreadableState(#[from] serde_json::Error);

impl Ledger {
    /// The whole state as one line of JSON, the same bytes for the same state.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which is a defect.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Read what [`Ledger::to_bytes`] has written.
    ///
    /// # Errors
    /// [`UnreadableState`] when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadableState> {
        let mut ledger: Self = serde_json::from_slice(bytes)?;
        ledger.line_up_for_forgetting();
        Ok(ledger)
    }

    /// The hash of the whole state: two ledgers with the same hash answer every command the same.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which is a defect.
    pub fn hash(&self) -> serde_json::Result<RecordHash> {
        Ok(RecordHash::of(&self.to_bytes()?))
    }

    /// Whether a command that the server took in at `at` is too old to be booked, by the ledger's own time.
    pub(super) fn is_too_old(&self, at: Timestamp) -> bool {
        at < before(self.latest, COMMAND_MAX_AGE)
    }

    /// Forget what finished longer ago than anybody may ask for. Held reservations stay for ever.
    pub(super) fn forget_the_old(&mut self) {
        let horizon = before(self.latest, FINISHED_MEMORY);
        while let Some((at, workflow)) = pop_before(&mut self.finished, horizon) {
            // Out of stock and released later: it stands in line twice, and the second place counts.
            if self.reservations.get(&workflow).and_then(Reservation::finished_at) == Some(at) {
                self.reservations.remove(&workflow);
            }
        }
        let horizon = before(self.latest, DELIVERY_MEMORY);
        while let Some((_, restock_id)) = pop_before(&mut self.delivered, horizon) {
            self.deliveries.remove(&restock_id);
        }
    }

    fn line_up_for_forgetting(&mut self) {
        let finished = self
            .reservations
            .iter()
            .filter_map(|(workflow, reservation)| Some((reservation.finished_at()?, *workflow)));
        let mut finished: Vec<_> = finished.collect();
        finished.sort_unstable();
        self.finished = finished.into();
        let mut delivered: Vec<_> = self.deliveries.iter().map(|(id, delivery)| (delivery.at, *id)).collect();
        delivered.sort_unstable();
        self.delivered = delivered.into();
    }

    /// How many reservations and deliveries are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.reservations.len() + self.deliveries.len()
    }
}

fn pop_before<T>(line: &mut VecDeque<(Timestamp, T)>, horizon: Timestamp) -> Option<(Timestamp, T)> {
    if line.front()?.0 < horizon { line.pop_front() } else { None }
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_sub(span).ok()).unwrap_or(Timestamp::MIN)
}

/// A map whose keys are not text, as a list of pairs in the order of the keys.
pub(super) mod as_pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K, V, S>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
