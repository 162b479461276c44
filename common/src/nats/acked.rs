//! The highest sequence of each stream that the server has acked to this process: what is durable for certain.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::streams::StreamName;

/// The highest acked sequence of every stream; clones share it.
#[derive(Debug, Clone)]
pub struct Acked {
    by_stream: Arc<[AtomicU64]>,
}

impl Default for Acked {
    fn default() -> Self {
        Self { by_stream: (0..StreamName::PLACES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Acked {
    /// The highest sequence that was acked to this process; 0 when nothing was.
    #[must_use]
    pub fn highest(&self, stream: StreamName) -> u64 {
        self.by_stream.get(stream.place()).map_or(0, |highest| highest.load(Ordering::Relaxed))
    }

    /// A message is stored for certain. A stream that is not ours is not noted.
    pub(super) fn note(&self, stream: &str, sequence: u64) {
        let place = StreamName::of_name(stream).map(StreamName::place);
        if let Some(highest) = place.and_then(|place| self.by_stream.get(place)) {
            highest.fetch_max(sequence, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_counts_whatever_the_order_of_the_acks() {
        let acked = Acked::default();
        let clone = acked.clone();
        for sequence in [3, 9, 4] {
            clone.note("HISTORY", sequence);
        }
        clone.note("ANOTHER", 100);
        clone.note("HISTORY_63", 5);
        assert_eq!((acked.highest(StreamName::History), acked.highest(StreamName::Commands)), (9, 0));
        let last = StreamName::of_name("HISTORY_63").expect("a part");
        assert_eq!(acked.highest(last), 5);
    }
}
