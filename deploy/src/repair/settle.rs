//! To the end, step by step: the checkout's own functions say what is owed, and the provider and the inventory do it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use async_nats::HeaderMap;
use common::{
    contracts::{
        TypeName as _,
        checkout::{CheckoutCommand, PaymentOutcome},
        inventory::{InventoryCommand, StockAnswer},
    },
    crash_point, headers,
    ids::{SessionId, WorkflowRef},
    nats::{Nats, Outgoing, append::append},
    payment::{PaymentProvider, SessionState},
    streams::StreamName,
    subject::Subject,
    time::now,
};
use futures_util::StreamExt as _;
use workflow_worker::{
    steps::{StepOutcome, Steps},
    workflow::{Input, Next, Settings, Step, StepEnd, Told, Workflow as _},
    workflows::checkout::Checkout,
};

use super::{Outcome, evidence::Start};

/// How long a command to the inventory is tried.
const STORING: Duration = Duration::from_secs(15);

/// How long its answer is waited for: longer than a stand-by needs to take over.
const ANSWERING: Duration = Duration::from_secs(30);

/// A checkout's way to its end has at most four steps; one that does not come to it is a defect.
const MOST_STEPS: usize = 10;

pub(super) struct Settler<'a> {
    pub(super) nats: &'a Nats,
    pub(super) provider: Arc<dyn PaymentProvider>,
    pub(super) workflow: WorkflowRef,
}

impl Settler<'_> {
    pub(super) async fn settle(&self, start: Start) -> anyhow::Result<Outcome> {
        match start {
            Start::Order { checkout, told } => self.go_its_way(*checkout, told).await,
            Start::Session(session) => self.by_the_session(&session).await,
            Start::NoSession => self.released("cancelled").await,
        }
    }

    /// The order is known: its own functions lead.
    async fn go_its_way(&self, mut checkout: Checkout, mut told: Told<CheckoutCommand>) -> anyhow::Result<Outcome> {
        let steps = Steps::new(self.nats.clone(), Arc::clone(&self.provider));
        let mut is_sold = false;
        for _ in 0..MOST_STEPS {
            let at = now();
            let settings = Settings {
                payment_timeout: Duration::ZERO,
                provider: self.provider.name(),
                retry_wait: Duration::ZERO,
            };
            let events = checkout.decide(&Input { at, told, settings })?;
            checkout = events.iter().fold(checkout, Checkout::evolve);
            told = match checkout.next(self.workflow.id) {
                Next::Run(Step::CommitStock) => {
                    is_sold = true;
                    answered(self.ask_inventory(InventoryCommand::Commit { workflow: self.workflow }).await?)
                }
                Next::Run(Step::ReleaseStock) => {
                    answered(self.ask_inventory(InventoryCommand::Release { workflow: self.workflow }).await?)
                }
                Next::Run(step) => {
                    let name = step.type_name();
                    match steps.run(self.workflow, step, None).await? {
                        StepOutcome::Ended(StepEnd::NoAnswer { reason, .. } | StepEnd::Refused { reason, .. }) => {
                            bail!("the provider did not {}: {reason}", name.replace('_', " "))
                        }
                        StepOutcome::Ended(end) => Told::StepEnded(end),
                        StepOutcome::Sent => bail!("{name} is not a step of a checkout that is to end"),
                    }
                }
                // It was in the middle of a wait for the provider: this is its next round.
                Next::Wait { .. } => Told::TimeHasCome,
                Next::Done if is_sold && checkout.status() == "paid" => {
                    return Ok(Outcome::Sold { status: checkout.status() });
                }
                Next::Done => return Ok(Outcome::Released { status: checkout.status() }),
            };
        }
        bail!("it does not come to an end within {MOST_STEPS} steps; it is {} now", checkout.status())
    }

    /// Only the session is known: what the provider says of it decides.
    async fn by_the_session(&self, session: &SessionId) -> anyhow::Result<Outcome> {
        let state = self.provider.look_up(session).await.with_context(|| format!("look up session {session}"))?;
        match state {
            SessionState::Open => bail!(
                "session {session} can still be paid: end it in the provider's pages, or wait until it has expired"
            ),
            SessionState::Decided(notice) if notice.outcome == PaymentOutcome::Paid => {
                match self.ask_inventory(InventoryCommand::Commit { workflow: self.workflow }).await? {
                    StockAnswer::Committed {} => Ok(Outcome::Sold { status: "paid" }),
                    other => bail!("the inventory did not sell its goods: {other:?}"),
                }
            }
            SessionState::Closed | SessionState::Decided(_) => self.released("cancelled").await,
        }
    }

    async fn released(&self, status: &'static str) -> anyhow::Result<Outcome> {
        match self.ask_inventory(InventoryCommand::Release { workflow: self.workflow }).await? {
            StockAnswer::Released {} => Ok(Outcome::Released { status }),
            other => bail!("the inventory did not take its goods back: {other:?}"),
        }
    }

    /// Ask the inventory, and have the answer here: no worker could use it.
    async fn ask_inventory(&self, command: InventoryCommand) -> anyhow::Result<StockAnswer> {
        let inbox = self.nats.client.new_inbox();
        let mut answers =
            self.nats.client.subscribe(inbox.clone()).await.context("listen for the inventory's answer")?;
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, command.type_name());
        headers.insert(headers::SENDER, "repair");
        headers.insert(headers::ANSWER_TO, inbox.as_str());
        let outgoing = Outgoing {
            subject: Subject::InventoryCommand(self.workflow.id.as_uuid()),
            headers,
            payload: serde_json::to_vec(&command).context("write a command as JSON")?.into(),
            // Arriving twice is harmless: the ledger knows the workflow.
            expected: None,
        };
        crash_point!("operator.repair.before_publish");
        append(self.nats, StreamName::InventoryCommands, outgoing, STORING).await.context("ask the inventory")?;
        crash_point!("operator.repair.after_publish");
        let answer = tokio::time::timeout(ANSWERING, answers.next()).await.ok().flatten().with_context(|| {
            format!(
                "the inventory has not answered for {} s: does it run? It will do it when it does",
                ANSWERING.as_secs()
            )
        })?;
        serde_json::from_slice(&answer.payload).context("read the inventory's answer")
    }
}

fn answered(answer: StockAnswer) -> Told<CheckoutCommand> {
    Told::Asked(CheckoutCommand::StockAnswer { answer })
}
