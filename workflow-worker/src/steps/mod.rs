//! The only code that acts outside. Every step may be run any number of times by any worker: remote steps are
//! idempotent by workflow id, provider calls by a key that follows from it.

mod inventory;
mod payment;

use std::sync::Arc;

use common::{
    ids::WorkflowRef,
    nats::{AppendError, Nats, Publish},
    payment::PaymentProvider,
};

use crate::workflow::{Step, StepEnd};

/// How a step came out.
#[derive(Debug)]
pub enum StepOutcome {
    /// It was run here and has ended.
    Ended(StepEnd),
    /// It was handed to another service, whose answer comes back as a command.
    Sent,
}

/// A step that could not even be handed on; the command that owes it is handed back and comes again.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command for another service could not be stored.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The command could not be written as JSON.
    #[error("a command for the inventory cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// What can be done outside.
pub struct Steps {
    inventory: inventory::InventoryCommands,
    provider: Arc<dyn PaymentProvider>,
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").field("provider", &self.provider.name()).finish_non_exhaustive()
    }
}

impl Steps {
    /// Steps over one connection and one payment provider.
    #[must_use]
    pub fn new(nats: Nats, provider: Arc<dyn PaymentProvider>) -> Self {
        Self { inventory: inventory::InventoryCommands::new(nats), provider }
    }

    /// Steps whose commands to the inventory are stored elsewhere, such as in a simulation.
    #[must_use]
    pub fn over(inventory_commands: Arc<dyn Publish>, provider: Arc<dyn PaymentProvider>) -> Self {
        Self { inventory: inventory::InventoryCommands::over(inventory_commands), provider }
    }

    /// Do what a workflow owes.
    ///
    /// # Errors
    /// [`StepError`] when it could not be handed on. A provider that fails is not an error here but an outcome.
    pub async fn run(
        &self,
        workflow: WorkflowRef,
        step: Step,
        trace_parent: Option<&str>,
    ) -> Result<StepOutcome, StepError> {
        metrics::counter!("worker_steps_total", "step" => step.type_name()).increment(1);
        let outcome = match step {
            Step::ReserveStock(lines) => self.inventory.reserve(workflow, lines, trace_parent).await?,
            Step::CommitStock => self.inventory.commit(workflow, trace_parent).await?,
            Step::ReleaseStock => self.inventory.release(workflow, trace_parent).await?,
            Step::OpenSession(request) => payment::open(&*self.provider, &request).await,
            Step::CloseSession(request) => payment::close(&*self.provider, &request).await,
            Step::Refund(request) => payment::refund(&*self.provider, &request).await,
        };
        Ok(outcome)
    }
}
