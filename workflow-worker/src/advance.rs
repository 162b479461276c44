//! One loop drives every kind: decide, append, do what is owed, tell the outcome, until the workflow waits or is done.

use std::{sync::Arc, time::Duration};

use common::{
    ids::{WorkflowId, WorkflowRef},
    nats::AppendError,
    record::BrokenHistory,
    time,
};
use tokio::time::Instant;

use crate::{
    history::{History, HistoryCache, HistoryError, Replayed},
    steps::{StepError, StepOutcome, Steps},
    timers::Timers,
    workflow::{Input, Next, Rejection, Settings, Told, Workflow},
};

/// Two writers of one workflow meet now and then; more meetings in one turn than this is a defect, and the command is
/// handed back so that the defect shows.
const MOST_CONFLICTS: u32 = 50;

/// Before records are called lost, the stream's leader is asked so often: together as long as a leader without followers
/// takes to notice that it is none any more (10 s).
const LOSS_CHECKS: u32 = 10;
const LOSS_CHECK_PAUSE: Duration = Duration::from_secs(1);

/// What one turn needs; one for all turns of a kind.
#[derive(Debug)]
pub struct Lane<W> {
    /// Where histories are read and continued.
    pub history: History,
    /// Histories at hand.
    pub cache: HistoryCache<W>,
    /// What can be done outside.
    pub steps: Arc<Steps>,
    /// Wake-up calls.
    pub timers: Timers,
    /// What a decision may depend on.
    pub settings: Settings,
}

/// Why a turn did not end as it should; the input was not used up.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The input does not fit: what becomes of it depends on the kind of rejection.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// The history could not be read, or cannot be trusted.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// What was decided could not be stored.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What is owed could not be handed on.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Somebody else wrote to this workflow again and again.
    #[error("{0} was moved on by somebody else {MOST_CONFLICTS} times in one turn")]
    TooManyConflicts(WorkflowRef),
}

/// An input with what comes along with it.
#[derive(Debug)]
pub struct Turn<C> {
    /// Whose turn it is.
    pub id: WorkflowId,
    /// The server's time of the message.
    pub at: time::Timestamp,
    /// What is told.
    pub told: Told<C>,
    /// Whether it may have been told before.
    pub is_repeat: bool,
    /// The trace that it belongs to.
    pub trace_parent: Option<String>,
}

impl<W: Workflow> Lane<W> {
    /// Apply an input, then keep going until the workflow waits for someone or is done.
    ///
    /// Safe to stop anywhere: what is appended is kept, and what is owed is found again from the history.
    ///
    /// # Errors
    /// [`AdvanceError`]; the message that brought the input must not be acked, except as its kind says.
    pub async fn advance(&self, turn: Turn<W::Command>) -> Result<(), AdvanceError> {
        let Turn { id, at, told, is_repeat, trace_parent } = turn;
        let began = Instant::now();
        let woken = matches!(told, Told::TimeHasCome);
        let mut input = Input { at, told, settings: self.settings.clone() };
        let (mut replayed, from) = match self.cache.take(id) {
            Some(replayed) => (replayed, "at_hand"),
            None if !is_repeat && begins::<W>(&input) => (Replayed::default(), "assumed_new"),
            None => (self.history.load(id).await?, "stream"),
        };
        metrics::counter!("worker_histories_total", "kind" => W::KIND.as_str(), "from" => from).increment(1);
        let trace_parent = trace_parent.or_else(|| replayed.trace_parent.clone());
        if woken {
            // It has gone off; if the workflow still waits, it must be set again.
            replayed.timer = None;
        }
        loop {
            replayed = decide_and_append(&self.history, id, replayed, &input, trace_parent.as_deref()).await?;
            match replayed.state.next(id) {
                Next::Run(step) => {
                    common::panic_point!("worker.step", id);
                    match self.steps.run(WorkflowRef { kind: W::KIND, id }, step, trace_parent.as_deref()).await? {
                        StepOutcome::Ended(end) => {
                            input = Input { at: server_time(at, began), told: Told::StepEnded(end), ..input }
                        }
                        // The answer comes back as a command.
                        StepOutcome::Sent => break,
                    }
                }
                Next::Wait { until: Some(until) } => {
                    let workflow = WorkflowRef { kind: W::KIND, id };
                    replayed.timer = Some(self.timers.set(workflow, until, replayed.timer).await?);
                    break;
                }
                Next::Wait { until: None } | Next::Done => break,
            }
        }
        if replayed.revision > 0 {
            self.cache.put(id, replayed);
        }
        Ok(())
    }
}

/// Whether this is what a workflow begins with. Then it need not be read that there is no history: nothing is done before the
/// first record is stored, and that is refused when there is one. It saves a request to the server for each checkout, and its
/// time before the payment page.
fn begins<W: Workflow>(input: &Input<W::Command>) -> bool {
    W::default().decide(input).is_ok_and(|events| !events.is_empty())
}

/// When a step of a turn has ended: the server's time of the message that began the turn, and what has passed since. A
/// machine's clock that is hours wrong would otherwise give checkouts up too early, or have them wait for days. A message
/// that waited long makes this too early, which only brings the next round forward.
fn server_time(at: time::Timestamp, began: Instant) -> time::Timestamp {
    time::to_milliseconds(time::after(at, began.elapsed()))
}

/// Decide on the state in hand; when it turns out to be old, on the newer one.
async fn decide_and_append<W: Workflow>(
    history: &History,
    id: WorkflowId,
    mut replayed: Replayed<W>,
    input: &Input<W::Command>,
    trace_parent: Option<&str>,
) -> Result<Replayed<W>, AdvanceError> {
    let workflow = WorkflowRef { kind: W::KIND, id };
    for _ in 0..MOST_CONFLICTS {
        common::panic_point!("worker.decide", id);
        let events = match replayed.state.decide(input) {
            Ok(events) if !events.is_empty() => events,
            // "Nothing happens" and "no" use the message up without an append that would prove the state in hand to be
            // the newest: another worker may have moved the workflow since. So they count on the newest state only.
            answer => {
                let newest = history.newest_revision::<W>(id).await?;
                if newest == replayed.revision {
                    return Ok(answer.map(|_| replayed)?);
                }
                replayed = newer(history, id, replayed.revision, newest).await?;
                continue;
            }
        };
        let (was, known) = (replayed.state.status(), replayed.revision);
        match history.append(id, replayed, events, input.at, trace_parent).await {
            Ok(appended) => {
                tell(workflow, &input.told, was, &appended);
                return Ok(appended);
            }
            Err(AppendError::Conflict { found, .. }) => {
                metrics::counter!("worker_conflicts_total", "kind" => W::KIND.as_str()).increment(1);
                replayed = newer(history, id, known, found).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdvanceError::TooManyConflicts(workflow))
}

/// The newer history, after somebody else has moved the workflow from `known` to `found`.
async fn newer<W: Workflow>(
    history: &History,
    id: WorkflowId,
    known: u64,
    found: u64,
) -> Result<Replayed<W>, HistoryError> {
    let found = if found < known { no_shorter::<W>(history, id, known).await? } else { found };
    history.load_at_least(id, found).await
}

/// The newest revision, after one was told that lies before `known`. A node that led the stream, hung and has not heard yet
/// that another one leads now tells what used to be true: only a history that stays shorter has lost records.
async fn no_shorter<W: Workflow>(history: &History, id: WorkflowId, known: u64) -> Result<u64, HistoryError> {
    let mut found = 0;
    for _ in 0..LOSS_CHECKS {
        tokio::time::sleep(LOSS_CHECK_PAUSE).await;
        found = history.newest_revision::<W>(id).await?;
        if found >= known {
            return Ok(found);
        }
    }
    let workflow = WorkflowRef { kind: W::KIND, id };
    Err(HistoryError::Broken { workflow, source: BrokenHistory::Shrunk { known, found } })
}

/// One line per decision, and the counters that a shop needs first.
fn tell<W: Workflow, C: common::contracts::TypeName>(
    workflow: WorkflowRef,
    told: &Told<C>,
    was: &'static str,
    now: &Replayed<W>,
) {
    let status = now.state.status();
    tracing::info!(
        kind = workflow.kind.as_str(),
        id = %workflow.id,
        told = told.type_name(),
        record = now.chain.next_index - 1,
        sequence = now.revision,
        was,
        status,
        "decided"
    );
    if was != status {
        metrics::counter!("workflow_status_total", "kind" => workflow.kind.as_str(), "status" => status).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use async_trait::async_trait;
    use common::{
        contracts::{
            checkout::CheckoutCommand,
            inventory::{Lacking, StockAnswer},
        },
        nats::{
            Outgoing,
            read::{ReadError, Stored},
        },
    };

    use super::*;
    use crate::{
        history::{HistoryStore, MemoryHistory},
        workflows::{
            checkout::Checkout,
            stories::{at, id, input},
        },
    };

    fn start() -> Told<CheckoutCommand> {
        let line = r#"{"sku":"A","name":"a","quantity":1,"unit_price":{"amount":5,"currency":"eur"}}"#;
        let body =
            format!(r#"{{"type":"start","lines":[{line}],"total":{{"amount":5,"currency":"eur"}},"fingerprint":"f"}}"#);
        Told::Asked(serde_json::from_str(&body).expect("a start"))
    }

    fn answered(answer: StockAnswer) -> Told<CheckoutCommand> {
        Told::Asked(CheckoutCommand::StockAnswer { answer })
    }

    async fn step(
        history: &History,
        on: Replayed<Checkout>,
        told: Told<CheckoutCommand>,
    ) -> Result<Replayed<Checkout>, AdvanceError> {
        decide_and_append(history, id(), on, &input(at(1), told), None).await
    }

    /// A worker that has cached an old state must not use a message up that only means something to the newest one.
    #[tokio::test]
    async fn a_message_is_not_lost_on_an_old_state() {
        let history = History::new(Arc::new(MemoryHistory::default()));
        // This worker has seen nothing of the checkout yet; another has started it meanwhile.
        let old = history.load(id()).await.expect("an empty history");
        step(&history, history.load(id()).await.expect("a history"), start()).await.expect("a start");
        let now = step(&history, old, answered(StockAnswer::Reserved {})).await.expect("an answer");
        assert_eq!(now.state.status(), "opening_payment");
    }

    /// A start is not read for, but what it would begin with is refused where something has begun.
    #[tokio::test]
    async fn a_start_that_was_taken_for_the_first_changes_nothing_where_one_was_before() {
        let history = History::new(Arc::new(MemoryHistory::default()));
        step(&history, Replayed::default(), start()).await.expect("a start");
        step(&history, history.load(id()).await.expect("a history"), answered(StockAnswer::Reserved {}))
            .await
            .expect("an answer");
        let now = step(&history, Replayed::default(), start()).await.expect("a repeat");
        assert_eq!((now.state.status(), now.chain.next_index), ("opening_payment", 2));
    }

    #[test]
    fn only_a_start_begins_a_checkout() {
        assert!(begins::<Checkout>(&input(at(1), start())));
        for other in [answered(StockAnswer::Reserved {}), Told::TimeHasCome, Told::Asked(CheckoutCommand::Nudge)] {
            assert!(!begins::<Checkout>(&input(at(1), other)));
        }
    }

    /// A store whose leader has hung: for a while it tells what was true before.
    struct Stale {
        store: MemoryHistory,
        stale_answers: AtomicU32,
    }

    #[async_trait]
    impl HistoryStore for Stale {
        async fn read(&self, workflow: WorkflowRef) -> Result<Vec<Stored>, ReadError> {
            self.store.read(workflow).await
        }

        async fn newest_revision(&self, workflow: WorkflowRef) -> Result<u64, ReadError> {
            let newest = self.store.newest_revision(workflow).await?;
            let is_stale = self.stale_answers.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            Ok(if is_stale { newest - 1 } else { newest })
        }

        async fn append(&self, outgoing: Outgoing) -> Result<u64, AppendError> {
            self.store.append(outgoing).await
        }
    }

    async fn told_again(stale_answers: u32) -> Result<Replayed<Checkout>, AdvanceError> {
        let store = Stale { store: MemoryHistory::default(), stale_answers: AtomicU32::new(stale_answers) };
        let history = History::new(Arc::new(store));
        let started = step(&history, history.load(id()).await.expect("a history"), start()).await.expect("a start");
        step(&history, started, start()).await
    }

    /// FP12: a leader that wakes up tells of a shorter history at first; nothing is lost, so nothing is quarantined.
    #[tokio::test(start_paused = true)]
    async fn a_history_that_only_looks_shorter_is_looked_at_again() {
        let now = told_again(3).await.expect("a repeat changes nothing");
        assert_eq!(now.state.status(), "reserving");
    }

    /// FD4: one that stays shorter has lost records, and nothing is done for it.
    #[tokio::test(start_paused = true)]
    async fn a_history_that_stays_shorter_is_broken() {
        let broken = told_again(u32::MAX).await.expect_err("a shorter history");
        assert!(
            matches!(
                broken,
                AdvanceError::History(HistoryError::Broken {
                    source: BrokenHistory::Shrunk { known: 1, found: 0 },
                    ..
                })
            ),
            "{broken}"
        );
    }

    /// FT2: a step's end is told by the server's time of its message and a clock that only measures spans.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_step_is_told_in_the_server_s_time() {
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(3_000)).await;
        assert_eq!(server_time(at(1), began), at(4));
    }

    /// Two that decide on the same state: one wins, the other decides again on what the winner has left.
    #[tokio::test]
    async fn the_loser_of_a_race_decides_again() {
        let history = History::new(Arc::new(MemoryHistory::default()));
        step(&history, history.load(id()).await.expect("a history"), start()).await.expect("a start");
        let (one, two) = (history.load(id()).await.expect("a read"), history.load(id()).await.expect("a read"));
        step(&history, one, answered(StockAnswer::Reserved {})).await.expect("the winner");
        let lacking = vec![Lacking { sku: "A".parse().expect("a sku"), requested: 1, available: 0 }];
        let lost = step(&history, two, answered(StockAnswer::OutOfStock { lacking })).await.expect("the loser");
        assert_eq!(lost.state.status(), "opening_payment", "the second answer came too late and changes nothing");
        assert_eq!(lost.chain.next_index, 2);
    }
}
