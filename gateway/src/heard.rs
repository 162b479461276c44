//! What this gateway has heard of histories lately: those that it has heard from their first record on need not be read again.
//! Pure.
//!
//! What is told live can be lost on the way (a broken connection, a route between servers). A jump in the stream's sequence
//! shows it as soon as anything else is told; for what was lost at the end, the stream itself is asked now and then how far it
//! goes, and only as long as all of that has been heard does what is remembered count.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use common::ids::WorkflowRef;
use tokio::time::Instant;

/// Histories that are remembered, the latest that began: about 30 MB with the usual five records of 600 bytes, and more than
/// begin while the slowest of 2,000 checkouts in flight takes its way.
const MOST_HISTORIES: usize = 8_192;

/// A history with more records than this is read where it is asked for: more than one has on its usual way.
const MOST_RECORDS: usize = 16;

/// For so long it counts that everything was heard: the stream is asked every second, so that one answer may get lost.
const PROOF_LASTS: Duration = Duration::from_secs(3);

/// One record that was told live.
pub(crate) type Record = (u64, Bytes);

/// The records of the histories that began lately.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// `None` for a history that has become too long.
    histories: HashMap<WorkflowRef, Option<Vec<Record>>>,
    /// In the order in which they began. The one that began first is forgotten first, so whatever began after one that is
    /// remembered is remembered, too.
    began: VecDeque<WorkflowRef>,
    last_sequence: Option<u64>,
    /// How far the stream went when it was asked, and when that was.
    asked: Option<(u64, Instant)>,
    /// When the stream was asked whose answer has been heard in full.
    proven: Option<Instant>,
}

impl Heard {
    /// Take note of a record; says whether others were lost before it.
    pub(crate) fn note(
        &mut self,
        workflow: Option<WorkflowRef>,
        sequence: u64,
        is_first: bool,
        payload: &Bytes,
    ) -> bool {
        // All messages of the stream are told here, in order.
        let is_next = self.last_sequence.is_none_or(|last| sequence == last + 1);
        if !is_next {
            self.forget();
        }
        self.last_sequence = Some(sequence);
        if let Some(workflow) = workflow {
            self.remember(workflow, sequence, is_first, payload);
        }
        self.compare();
        !is_next
    }

    fn remember(&mut self, workflow: WorkflowRef, sequence: u64, is_first: bool, payload: &Bytes) {
        if is_first {
            self.histories.insert(workflow, Some(Vec::new()));
            self.began.push_back(workflow);
            if self.began.len() > MOST_HISTORIES
                && let Some(oldest) = self.began.pop_front()
            {
                self.histories.remove(&oldest);
            }
        }
        if let Some(history) = self.histories.get_mut(&workflow) {
            match history {
                Some(records) if records.len() < MOST_RECORDS => {
                    // A copy of its own: the original is a part of everything that was read from the connection with it.
                    records.push((sequence, Bytes::copy_from_slice(payload)));
                }
                _ => *history = None,
            }
        }
    }

    /// The stream was asked how far it goes.
    pub(crate) fn reaches(&mut self, last_sequence: u64, asked_at: Instant) {
        self.asked = Some((last_sequence, asked_at));
        self.compare();
    }

    fn compare(&mut self) {
        if let (Some(heard), Some((last, asked_at))) = (self.last_sequence, self.asked)
            && heard >= last
        {
            self.proven = Some(asked_at);
            self.asked = None;
        }
    }

    /// Something may have been lost.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A whole history, if it is at hand.
    pub(crate) fn history(&self, workflow: WorkflowRef) -> Option<&[Record]> {
        self.is_proven().then(|| self.histories.get(&workflow)?.as_deref()).flatten()
    }

    /// A whole history, empty when there is none, that cannot have begun before another one that is at hand.
    pub(crate) fn history_after(&self, workflow: WorkflowRef, begun: WorkflowRef) -> Option<&[Record]> {
        self.history(begun)?;
        self.histories.get(&workflow).map_or(Some(&[]), |history| history.as_deref())
    }

    fn is_proven(&self) -> bool {
        self.proven.is_some_and(|proven| proven.elapsed() <= PROOF_LASTS)
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{WorkflowId, WorkflowKind};

    use super::*;

    fn workflow() -> WorkflowRef {
        WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() }
    }

    fn body() -> Bytes {
        Bytes::from_static(b"{}")
    }

    fn sequences(records: Option<&[Record]>) -> Option<Vec<u64>> {
        Some(records?.iter().map(|(sequence, _)| *sequence).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_history_counts_as_long_as_everything_is_known_to_be_heard() {
        let (mut heard, own) = (Heard::default(), workflow());
        assert!(!heard.note(Some(own), 7, true, &body()), "nothing was lost");
        assert!(!heard.note(Some(own), 8, false, &body()));
        assert_eq!(heard.history(own), None, "the stream was not asked yet");

        heard.reaches(9, Instant::now());
        assert_eq!(heard.history(own), None, "one is on its way, or lost");
        assert!(!heard.note(None, 9, false, &body()));
        assert_eq!(sequences(heard.history(own)), Some(vec![7, 8]));

        tokio::time::advance(PROOF_LASTS + Duration::from_millis(1)).await;
        assert_eq!(heard.history(own), None, "nobody has asked since");
        heard.reaches(9, Instant::now());
        assert_eq!(sequences(heard.history(own)), Some(vec![7, 8]));
    }

    #[tokio::test]
    async fn after_a_loss_everything_is_forgotten() {
        let (mut heard, own) = (Heard::default(), workflow());
        heard.note(Some(own), 7, true, &body());
        assert!(heard.note(None, 9, false, &body()), "8 was lost");
        heard.reaches(9, Instant::now());
        assert_eq!(heard.history(own), None);
        heard.note(Some(own), 10, false, &body());
        assert_eq!(heard.history(own), None, "its beginning is not at hand");
    }

    #[tokio::test]
    async fn only_what_was_heard_from_its_first_record_on_counts() {
        let (mut heard, old, long) = (Heard::default(), workflow(), workflow());
        heard.note(Some(old), 1, false, &body());
        heard.note(Some(long), 2, true, &body());
        for sequence in 3..=20 {
            heard.note(Some(long), sequence, false, &body());
        }
        heard.reaches(20, Instant::now());
        assert_eq!(heard.history(old), None);
        assert_eq!(heard.history(long), None, "too long to be kept");
    }

    #[tokio::test]
    async fn what_must_have_begun_later_is_known_not_to_exist() {
        let (mut heard, checkout, refund, old) = (Heard::default(), workflow(), workflow(), workflow());
        heard.note(Some(checkout), 1, true, &body());
        heard.reaches(1, Instant::now());
        assert_eq!(sequences(heard.history_after(refund, checkout)), Some(vec![]));
        assert_eq!(heard.history_after(refund, old), None, "it may have begun before anything that was heard");
        heard.note(Some(refund), 2, true, &body());
        assert_eq!(sequences(heard.history_after(refund, checkout)), Some(vec![2]));
    }

    #[tokio::test]
    async fn what_began_first_is_forgotten_first() {
        let (mut heard, first, last) = (Heard::default(), workflow(), workflow());
        heard.note(Some(first), 1, true, &body());
        for sequence in 2..=MOST_HISTORIES as u64 {
            heard.note(Some(workflow()), sequence, true, &body());
        }
        heard.reaches(1, Instant::now());
        assert!(heard.history(first).is_some());
        heard.note(Some(last), MOST_HISTORIES as u64 + 1, true, &body());
        assert!(heard.history(first).is_none() && heard.history(last).is_some());
        assert_eq!((heard.began.len(), heard.histories.len()), (MOST_HISTORIES, MOST_HISTORIES));
    }
}
