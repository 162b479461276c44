//! What an operator's refund looks like from outside. Pure.

use common::{
    contracts::{checkout::RefundStatus, refund::RefundEvent},
    record::{BrokenHistory, ChainEnd},
};

/// A refund by hand as its history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefundView {
    /// Stream sequence of the newest record.
    pub(crate) revision: u64,
    /// Where the money stands.
    pub(crate) status: RefundStatus,
    /// Why an operator gave it back.
    pub(crate) reason: String,
    /// What a person should know: the provider will not.
    pub(crate) attention: Option<String>,
}

impl RefundView {
    /// Fold a stored history; `None` when there is none.
    ///
    /// # Errors
    /// When a record cannot be read or one is missing.
    pub(crate) fn read<'a>(stored: impl IntoIterator<Item = (u64, &'a [u8])>) -> Result<Option<Self>, BrokenHistory> {
        let mut view = Self { revision: 0, status: RefundStatus::Pending, reason: String::new(), attention: None };
        let mut chain = ChainEnd::default();
        for (sequence, payload) in stored {
            let record = chain.read_next::<RefundEvent>(payload)?;
            view.revision = sequence;
            record.events.into_iter().for_each(|event| view.apply(event));
        }
        Ok((view.revision > 0).then_some(view))
    }

    fn apply(&mut self, event: RefundEvent) {
        match event {
            RefundEvent::RefundRequested { reason, .. } => self.reason = reason,
            RefundEvent::RefundFailed { .. } | RefundEvent::RefundRetried { .. } => {}
            RefundEvent::Refunded { .. } => self.status = RefundStatus::Refunded,
            RefundEvent::RefundNeedsAttention { reason } => {
                self.status = RefundStatus::NeedsAttention;
                self.attention = Some(format!("the provider will not refund: {reason}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{
        ids::WorkflowId,
        money::Money,
        record::{Record, joined_types},
        time::Timestamp,
    };

    use super::*;

    fn view_of(decisions: Vec<Vec<RefundEvent>>) -> Option<RefundView> {
        let mut chain = ChainEnd::default();
        let mut stored = Vec::new();
        for events in decisions {
            let record = Record {
                types: joined_types(&events),
                index: chain.next_index,
                status: "any".into(),
                at: Timestamp::UNIX_EPOCH,
                events,
                previous: chain.hash.clone(),
            };
            let bytes = record.to_bytes().expect("JSON");
            chain.extend(&bytes);
            stored.push((chain.next_index, bytes));
        }
        RefundView::read(stored.iter().map(|(sequence, bytes)| (*sequence, &bytes[..]))).expect("a sound history")
    }

    #[test]
    fn a_refund_is_pending_until_the_provider_has_decided() {
        let requested = RefundEvent::RefundRequested {
            checkout: WorkflowId::random(),
            provider: "sandbox".parse().expect("a provider"),
            session_id: "ps_1".parse().expect("a session"),
            amount: Money::eur(1000),
            reason: "broken".into(),
            by: None,
        };
        let refunded = RefundEvent::Refunded { refund_id: "re_1".into() };
        let refused = RefundEvent::RefundNeedsAttention { reason: "closed account".into() };
        let status = |events| view_of(events).map(|view| view.status);

        assert_eq!(status(vec![]), None);
        assert_eq!(status(vec![vec![requested.clone()]]), Some(RefundStatus::Pending));
        assert_eq!(status(vec![vec![requested.clone()], vec![refunded]]), Some(RefundStatus::Refunded));
        let needs_attention = view_of(vec![vec![requested], vec![refused]]).expect("a refund");
        assert_eq!(needs_attention.status, RefundStatus::NeedsAttention);
        assert_eq!(needs_attention.reason, "broken");
        assert!(needs_attention.attention.expect("a reason").contains("closed account"));
    }
}
