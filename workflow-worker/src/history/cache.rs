//! Histories of this worker that are likely to be needed again: a hit saves a read, a stale one costs one refused append.

use std::{num::NonZeroUsize, sync::Mutex};

use common::ids::WorkflowId;
use lru::LruCache;

use super::Replayed;

/// The most recently used histories of one kind, folded; bounded by number.
#[derive(Debug)]
pub struct HistoryCache<W> {
    entries: Mutex<LruCache<WorkflowId, Replayed<W>>>,
}

impl<W> HistoryCache<W> {
    /// A cache of at most so many histories.
    #[must_use]
    pub fn new(most: NonZeroUsize) -> Self {
        Self { entries: Mutex::new(LruCache::new(most)) }
    }

    /// Take a history out. Whoever takes it puts it back after its turn, unless the turn failed: then nobody may use
    /// it again. Turns of one workflow are taken one at a time in a process, so nobody misses it meanwhile.
    pub fn take(&self, id: WorkflowId) -> Option<Replayed<W>> {
        self.lock().pop(&id)
    }

    /// Put a history back.
    pub fn put(&self, id: WorkflowId, replayed: Replayed<W>) {
        self.lock().put(id, replayed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<WorkflowId, Replayed<W>>> {
        // A panic while the lock was held cannot leave the map half changed: each use is one call of it.
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
