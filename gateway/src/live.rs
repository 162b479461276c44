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
use common::{headers, ids::WorkflowRef, nats::Nats, shards::Shards, streams::StreamName, subject::Subject};
use futures_util::StreamExt as _;
use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::heard::{Heard, Record};

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

#[derive(Debug, Default)]
struct State {
    waiters: HashMap<WorkflowRef, broadcast::Sender<News>>,
    /// Of each part of the stream of histories, which has an order of its own.
    heard: HashMap<StreamName, Heard>,
}

/// The dispatcher; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    state: Arc<Mutex<State>>,
    shards: Shards,
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
        let live = Self { shards: nats.shards, ..Self::default() };
        let subscription = nats.client.subscribe(ALL_HISTORIES).await?;
        tokio::spawn(live.clone().dispatch(nats, subscription, stop));
        Ok(live)
    }

    /// Be told of what is stored for a workflow from now on.
    pub(crate) fn watch(&self, workflow: WorkflowRef) -> Watch {
        let mut state = self.lock();
        let sender = state.waiters.entry(workflow).or_insert_with(|| broadcast::channel(BACKLOG).0);
        Watch { live: self.clone(), workflow, news: sender.subscribe() }
    }

    /// A whole history, if it is at hand; see [`Heard`]. What is stored after it is told to whoever watches already.
    pub(crate) fn history(&self, workflow: WorkflowRef) -> Option<Vec<Record>> {
        self.lock().heard.get(&self.stream_of(workflow))?.history(workflow).map(<[Record]>::to_vec)
    }

    /// A whole history, empty when there is none, that cannot have begun before another one, if that one is at hand.
    pub(crate) fn history_after(&self, workflow: WorkflowRef, begun: WorkflowRef) -> Option<Vec<Record>> {
        let stream = self.stream_of(workflow);
        // What is heard of different parts has no common order.
        let is_comparable = stream == self.stream_of(begun);
        is_comparable.then(|| Some(self.lock().heard.get(&stream)?.history_after(workflow, begun)?.to_vec())).flatten()
    }

    /// A stream of histories was asked how far it goes.
    pub(crate) fn histories_reach(&self, stream: StreamName, last_sequence: u64, asked_at: Instant) {
        self.lock().heard.entry(stream).or_default().reaches(last_sequence, asked_at);
    }

    fn stream_of(&self, workflow: WorkflowRef) -> StreamName {
        StreamName::History.part(self.shards.of(workflow.id))
    }

    async fn dispatch(self, nats: Nats, mut subscription: async_nats::Subscriber, stop: CancellationToken) {
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return,
                message = subscription.next() => message,
            };
            if let Some(message) = message {
                self.take(&message);
                continue;
            }
            tokio::time::sleep(RESUBSCRIBE_AFTER).await;
            if let Ok(again) = nats.client.subscribe(ALL_HISTORIES).await {
                subscription = again;
                let mut state = self.lock();
                state.heard.clear();
                state.tell_all(&News::Missed);
            }
        }
    }

    fn take(&self, message: &Message) {
        let Some(sequence) = number(message, async_nats::header::NATS_SEQUENCE) else { return };
        let is_first = number(message, headers::INDEX) == Some(0);
        let workflow = match message.subject.parse() {
            Ok(Subject::LiveHistory(workflow)) => Some(workflow),
            _ => None,
        };
        let stream = header(message, async_nats::header::NATS_STREAM).and_then(StreamName::of_name);
        let mut state = self.lock();
        let heard = state.heard.entry(stream.unwrap_or(StreamName::History)).or_default();
        if heard.note(workflow, sequence, is_first, &message.payload) {
            state.tell_all(&News::Missed);
        }
        if let Some(workflow) = workflow {
            state.tell(workflow, sequence, &message.payload);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole after a panic elsewhere: no change of it stops half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&self, workflow: WorkflowRef, sequence: u64, payload: &Bytes) {
        if let Some(sender) = self.waiters.get(&workflow) {
            // Nobody listens any more: the last one is just leaving.
            let _ = sender.send(News::Record { sequence, payload: payload.clone() });
        }
    }

    fn tell_all(&self, news: &News) {
        for sender in self.waiters.values() {
            let _ = sender.send(news.clone());
        }
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
        let waiters = &mut self.live.lock().waiters;
        // This one still counts.
        if waiters.get(&self.workflow).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiters.remove(&self.workflow);
        }
    }
}

fn header(message: &Message, name: async_nats::HeaderName) -> Option<&str> {
    message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
}

fn number(message: &Message, name: async_nats::HeaderName) -> Option<u64> {
    header(message, name)?.parse().ok()
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
        let mut watch = live.watch(own);
        live.take(&message(other, 7));
        live.take(&message(own, 8));
        assert!(matches!(watch.next().await, News::Record { sequence: 8, .. }));
    }

    #[tokio::test]
    async fn a_jump_in_the_sequence_tells_everybody_to_read_again() {
        let (live, own, other) = (Live::default(), workflow(), workflow());
        let mut watch = live.watch(own);
        live.take(&message(other, 7));
        live.take(&message(other, 9));
        assert!(matches!(watch.next().await, News::Missed));
    }

    #[tokio::test]
    async fn a_waiter_that_is_too_slow_reads_again() {
        let (live, own) = (Live::default(), workflow());
        let mut watch = live.watch(own);
        for sequence in 1..=20 {
            live.take(&message(own, sequence));
        }
        assert!(matches!(watch.next().await, News::Missed));
        assert!(matches!(watch.next().await, News::Record { sequence: 5, .. }));
    }

    #[test]
    fn nothing_is_kept_for_waiters_that_have_left() {
        let (live, own) = (Live::default(), workflow());
        let (first, second) = (live.watch(own), live.watch(own));
        drop(first);
        assert_eq!(live.lock().waiters.len(), 1);
        drop(second);
        assert_eq!(live.lock().waiters.len(), 0);
    }
}
