//! The highest sequence of each stream that the server has acked to this process: what is durable for certain.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::streams::StreamName;

/// The highest acked sequence of every stream; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Acked {
    by_stream: Arc<[AtomicU64; StreamName::ALL.len()]>,
}

impl Acked {
    /// The highest sequence that was acked to this process; 0 when nothing was.
    #[must_use]
    pub fn highest(&self, stream: StreamName) -> u64 {
        self.place(stream.as_str()).map_or(0, |highest| highest.load(Ordering::Relaxed))
    }

    /// A message is stored for certain. A stream that is not ours is not noted.
    pub(super) fn note(&self, stream: &str, sequence: u64) {
        if let Some(highest) = self.place(stream) {
            highest.fetch_max(sequence, Ordering::Relaxed);
        }
    }

    fn place(&self, stream: &str) -> Option<&AtomicU64> {
        let position = StreamName::ALL.iter().position(|name| name.as_str() == stream)?;
        self.by_stream.get(position)
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
        assert_eq!((acked.highest(StreamName::History), acked.highest(StreamName::Commands)), (9, 0));
    }
}
