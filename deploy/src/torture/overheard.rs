//! Messages that passed by, kept for a while so that they can be sent again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use async_nats::{HeaderMap, HeaderName, Message, header};
use bytes::Bytes;
use common::{headers, nats::Nats, subject::Subject};
use futures_util::StreamExt as _;
use tokio_util::task::AbortOnDropHandle;
use workflow_worker::sweep::SWEEPER;

use super::schedule::Area;

/// Messages kept of each area: old enough ones to be about checkouts that have long ended.
const KEPT: usize = 2_000;

/// Marks what was sent again, so that it is not taken for the services' own.
const AGAIN: HeaderName = HeaderName::from_static("Torture-Again");

/// What is heard.
const SUBJECTS: [(&str, Area); 3] =
    [("command.>", Area::Commands), ("inventory.command.>", Area::InventoryCommands), ("webhook.>", Area::Webhooks)];

/// Everything that was overheard lately.
pub(super) struct Overheard {
    nats: Nats,
    heard: Arc<Heard>,
    _listening: Vec<AbortOnDropHandle<()>>,
}

#[derive(Default)]
struct Heard {
    messages: Mutex<HashMap<Area, VecDeque<Message>>>,
    nudges: AtomicU64,
}

impl Overheard {
    /// Listen to everything that services send into the streams.
    pub(super) async fn listen(nats: &Nats) -> anyhow::Result<Self> {
        let heard = Arc::new(Heard::default());
        let mut listening = Vec::new();
        for (subject, area) in SUBJECTS {
            let mut messages = nats.client.subscribe(subject).await.with_context(|| format!("listen to {subject}"))?;
            let heard = Arc::clone(&heard);
            listening.push(AbortOnDropHandle::new(tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    heard.keep(area, message);
                }
            })));
        }
        Ok(Self { nats: nats.clone(), heard, _listening: listening })
    }

    /// How often the sweep had to wake a workflow that had been forgotten.
    pub(super) fn nudges(&self) -> u64 {
        self.heard.nudges.load(Ordering::Relaxed)
    }

    /// Send some messages again; how many the streams have taken.
    pub(super) async fn send_again(&self, area: Area, count: u8, choice: u64) -> u64 {
        let mut taken = 0;
        for message in self.heard.choose(area, count, choice) {
            let (subject, headers, payload) = again(area, message);
            let sent = self.nats.jetstream.publish_with_headers(subject, headers, payload).await;
            if let Ok(stored) = sent
                && stored.await.is_ok()
            {
                taken += 1;
            }
        }
        taken
    }
}

impl Heard {
    fn keep(&self, area: Area, message: Message) {
        let text = |name: HeaderName| message.headers.as_ref().and_then(|all| all.get(name)).map(ToString::to_string);
        // What services ask at their start to learn what they may do expects a stream that does not exist: no stream has
        // taken it, and sent again without that it would be.
        let was_never_stored = text(header::NATS_EXPECTED_STREAM).is_some();
        if text(AGAIN).is_some() || was_never_stored {
            return;
        }
        if area == Area::Commands && text(headers::SENDER).as_deref() == Some(SWEEPER) {
            self.nudges.fetch_add(1, Ordering::Relaxed);
        }
        let mut messages = self.lock();
        let kept = messages.entry(area).or_default();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(message);
    }

    /// Neighbours in the order in which they came.
    fn choose(&self, area: Area, count: u8, choice: u64) -> Vec<Message> {
        // A wake-up call is made of any command: whoever it is for may wait for something else, or have ended.
        let of = if area == Area::Due { Area::Commands } else { area };
        let messages = self.lock();
        let Some(kept) = messages.get(&of).filter(|kept| !kept.is_empty()) else { return Vec::new() };
        let length = u64::try_from(kept.len()).unwrap_or(1);
        let first = usize::try_from(choice % length).unwrap_or_default();
        kept.iter().skip(first).take(count.into()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Area, VecDeque<Message>>> {
        // Nothing in here can panic half way.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same message without what the server or the journal had said about it, or a wake-up call for the same workflow.
fn again(area: Area, message: Message) -> (async_nats::Subject, HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(AGAIN, "true");
    if area == Area::Due
        && let Ok(Subject::Command(workflow)) = message.subject.parse()
    {
        return (Subject::Due(workflow).into(), headers, Bytes::new());
    }
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        if !name.to_string().starts_with("Nats-") {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    (message.subject, headers, message.payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(headers: &[(HeaderName, &str)]) -> Message {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(name.clone(), *value);
        }
        Message {
            subject: "command.checkout.0198c0de-0000-7000-8000-00000000000a".into(),
            reply: None,
            payload: Bytes::from_static(b"{}"),
            headers: Some(all),
            status: None,
            description: None,
            length: 0,
        }
    }

    fn heard(headers: &[(HeaderName, &str)]) -> usize {
        let heard = Heard::default();
        heard.keep(Area::Commands, command(headers));
        heard.choose(Area::Commands, 9, 0).len()
    }

    #[test]
    fn only_what_a_service_has_stored_is_sent_again() {
        assert_eq!(heard(&[(headers::TYPE, "start"), (header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0")]), 1);
        assert_eq!(heard(&[(header::NATS_EXPECTED_STREAM, "PERMISSION-CHECK")]), 0);
        assert_eq!(heard(&[(headers::TYPE, "start"), (AGAIN, "true")]), 0);
    }

    #[test]
    fn whom_the_sweep_has_found_is_counted() {
        let heard = Heard::default();
        let nudge = |sender| command(&[(headers::TYPE, "nudge"), (headers::SENDER, sender)]);
        heard.keep(Area::Commands, nudge(SWEEPER));
        // A wake-up call for many, of which one could not be told at once.
        heard.keep(Area::Commands, nudge("workflow-worker"));
        assert_eq!(heard.nudges.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_sent_again_says_nothing_of_the_first_time_and_a_call_has_no_body() {
        let message = command(&[(headers::TYPE, "start"), (header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0")]);
        let (subject, sent, payload) = again(Area::Commands, message.clone());
        assert_eq!((subject.as_str(), &payload[..]), (message.subject.as_str(), &b"{}"[..]));
        assert!(sent.get("Nats-Expected-Last-Subject-Sequence").is_none() && sent.get(headers::TYPE).is_some());
        let (subject, _, payload) = again(Area::Due, message);
        assert_eq!((subject.as_str(), payload.len()), ("due.checkout.0198c0de-0000-7000-8000-00000000000a", 0));
    }
}
