//! What is being stored in histories right now, told to those in this process who wait for it.
//!
//! One core subscription for the whole gateway, however many wait. Core messages can be lost (a reconnect, a slow
//! moment), so they are only the fast way: a jump in the stream's sequence tells everybody to read again, and every
//! waiter reads again by itself after a while; see [`crate::follow`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::Message;
use bytes::Bytes;
use common::{ids::WorkflowRef, nats::Nats, subject::Subject};
use futures_util::StreamExt as _;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Where all histories are told live.
const ALL_HISTORIES: &str = "live.history.>";

/// News that one waiter may be behind before it has to read the history again: more than one checkout has records
/// on its usual way.
const BACKLOG: usize = 16;

/// How long to wait before subscribing again when the subscription ended.
const RESUBSCRIBE_AFTER: Duration = Duration::from_millis(200);

/// Something that waiters are told.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// A record was stored.
    Record {
        /// Its sequence in the stream.
        sequence: u64,
        /// Its body.
        payload: Bytes,
    },
    /// Something may have been missed: read the history again.
    Missed,
}

type Waiters = HashMap<WorkflowRef, broadcast::Sender<News>>;

/// The dispatcher; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    waiters: Arc<Mutex<Waiters>>,
}

/// One waiter for one workflow.
#[derive(Debug)]
pub(crate) struct Watch {
    live: Live,
    workflow: WorkflowRef,
    news: broadcast::Receiver<News>,
}

impl Live {
    /// Subscribe, and dispatch until `stop`. The server takes what one connection sends in order: once it has answered
    /// anything that is asked after this, it tells everything that is stored.
    pub(crate) async fn start(nats: Nats, stop: CancellationToken) -> anyhow::Result<Self> {
        let live = Self::default();
        let subscription = nats.client.subscribe(ALL_HISTORIES).await?;
        tokio::spawn(live.clone().dispatch(nats, subscription, stop));
        Ok(live)
    }

    /// Be told of what is stored for a workflow from now on.
    pub(crate) fn watch(&self, workflow: WorkflowRef) -> Watch {
        let mut waiters = self.lock();
        let sender = waiters.entry(workflow).or_insert_with(|| broadcast::channel(BACKLOG).0);
        Watch { live: self.clone(), workflow, news: sender.subscribe() }
    }

    async fn dispatch(self, nats: Nats, mut subscription: async_nats::Subscriber, stop: CancellationToken) {
        let mut last_sequence = None;
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return,
                message = subscription.next() => message,
            };
            if let Some(message) = message {
                self.take(&message, &mut last_sequence);
                continue;
            }
            tokio::time::sleep(RESUBSCRIBE_AFTER).await;
            if let Ok(again) = nats.client.subscribe(ALL_HISTORIES).await {
                subscription = again;
                last_sequence = None;
                self.tell_all(&News::Missed);
            }
        }
    }

    fn take(&self, message: &Message, last_sequence: &mut Option<u64>) {
        let Some(sequence) = sequence(message) else { return };
        // All messages of the stream are told here, in order, so a jump means that some were lost on the way.
        let is_next = last_sequence.is_none_or(|last| sequence == last + 1);
        *last_sequence = Some(sequence);
        if !is_next {
            self.tell_all(&News::Missed);
        }
        if let Ok(Subject::LiveHistory(workflow)) = message.subject.parse() {
            self.tell(workflow, sequence, &message.payload);
        }
    }

    fn tell(&self, workflow: WorkflowRef, sequence: u64, payload: &Bytes) {
        if let Some(sender) = self.lock().get(&workflow) {
            // Nobody listens any more: the last one is just leaving.
            let _ = sender.send(News::Record { sequence, payload: payload.clone() });
        }
    }

    fn tell_all(&self, news: &News) {
        for sender in self.lock().values() {
            let _ = sender.send(news.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        // The map is whole after a panic elsewhere: every change of it is one call.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// The next news; a waiter that was too slow is told to read again.
    pub(crate) async fn next(&mut self) -> News {
        // The sender lives as long as this receiver, so the only error is having been too slow.
        self.news.recv().await.unwrap_or(News::Missed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiters = self.live.lock();
        // This one still counts.
        if waiters.get(&self.workflow).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiters.remove(&self.workflow);
        }
    }
}

fn sequence(message: &Message) -> Option<u64> {
    message.headers.as_ref()?.get(async_nats::header::NATS_SEQUENCE)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use common::ids::{WorkflowId, WorkflowKind};

    use super::*;

    fn workflow() -> WorkflowRef {
        WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() }
    }

    fn message(workflow: WorkflowRef, sequence: u64) -> Message {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_SEQUENCE, sequence.to_string());
        Message {
            subject: Subject::LiveHistory(workflow).into(),
            reply: None,
            payload: Bytes::from_static(b"{}"),
            headers: Some(headers),
            status: None,
            description: None,
            length: 2,
        }
    }

    #[tokio::test]
    async fn a_waiter_is_told_of_its_own_workflow_only() {
        let (live, own, other) = (Live::default(), workflow(), workflow());
        let (mut watch, mut last) = (live.watch(own), None);
        live.take(&message(other, 7), &mut last);
        live.take(&message(own, 8), &mut last);
        assert!(matches!(watch.next().await, News::Record { sequence: 8, .. }));
    }

    #[tokio::test]
    async fn a_jump_in_the_sequence_tells_everybody_to_read_again() {
        let (live, own, other) = (Live::default(), workflow(), workflow());
        let (mut watch, mut last) = (live.watch(own), None);
        live.take(&message(other, 7), &mut last);
        live.take(&message(other, 9), &mut last);
        assert!(matches!(watch.next().await, News::Missed));
    }

    #[tokio::test]
    async fn a_waiter_that_is_too_slow_reads_again() {
        let (live, own) = (Live::default(), workflow());
        let (mut watch, mut last) = (live.watch(own), None);
        for sequence in 1..=20 {
            live.take(&message(own, sequence), &mut last);
        }
        assert!(matches!(watch.next().await, News::Missed));
        assert!(matches!(watch.next().await, News::Record { sequence: 5, .. }));
    }

    #[test]
    fn nothing_is_kept_for_waiters_that_have_left() {
        let (live, own) = (Live::default(), workflow());
        let (first, second) = (live.watch(own), live.watch(own));
        drop(first);
        assert_eq!(live.lock().len(), 1);
        drop(second);
        assert_eq!(live.lock().len(), 0);
    }
}
