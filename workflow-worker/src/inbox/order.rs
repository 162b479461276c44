//! Per-workflow order: in one process, turns of one workflow are taken one at a time, in the order of arrival. Turns of
//! different workflows do not wait for each other.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use common::ids::WorkflowRef;
use tokio_util::task::TaskTracker;

type Turn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whose turns are running, and what waits behind them. A workflow without turns takes no room.
#[derive(Clone, Default)]
pub(super) struct PerWorkflowOrder {
    running: Arc<Mutex<HashMap<WorkflowRef, VecDeque<Turn>>>>,
}

impl PerWorkflowOrder {
    /// Run a turn now, or after those of the same workflow that came before it.
    pub(super) fn submit(
        &self,
        turns: &TaskTracker,
        workflow: WorkflowRef,
        turn: impl Future<Output = ()> + Send + 'static,
    ) {
        let turn: Turn = Box::pin(turn);
        let first = {
            let mut running = self.lock();
            match running.get_mut(&workflow) {
                Some(waiting) => {
                    waiting.push_back(turn);
                    None
                }
                None => {
                    running.insert(workflow, VecDeque::new());
                    Some(turn)
                }
            }
        };
        if let Some(first) = first {
            let order = self.clone();
            turns.spawn(async move { order.run_all(workflow, first).await });
        }
    }

    async fn run_all(&self, workflow: WorkflowRef, first: Turn) {
        let mut turn = first;
        loop {
            turn.await;
            let mut running = self.lock();
            match running.get_mut(&workflow).and_then(VecDeque::pop_front) {
                Some(next) => turn = next,
                None => {
                    running.remove(&workflow);
                    return;
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkflowRef, VecDeque<Turn>>> {
        // Nothing in here can panic half way.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{WorkflowId, WorkflowKind};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn one_workflow_s_turns_do_not_overlap_and_others_do_not_wait() {
        let (order, turns) = (PerWorkflowOrder::default(), TaskTracker::new());
        let workflow = || WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
        let (slow, other) = (workflow(), workflow());
        let (release, released) = oneshot::channel::<()>();
        let (done, mut finished) = mpsc::unbounded_channel();
        let tell = |name: &'static str| {
            let done = done.clone();
            move || done.send(name).expect("the test listens")
        };
        let (first, second, third) = (tell("first"), tell("second"), tell("other"));
        order.submit(&turns, slow, async move {
            released.await.expect("the test releases it");
            first();
        });
        order.submit(&turns, slow, async move { second() });
        order.submit(&turns, other, async move { third() });
        assert_eq!(finished.recv().await, Some("other"));
        release.send(()).expect("the first turn waits");
        assert_eq!(finished.recv().await, Some("first"));
        assert_eq!(finished.recv().await, Some("second"));
        turns.close();
        turns.wait().await;
        assert!(order.lock().is_empty(), "a workflow without turns takes no room");
    }
}
