//! Remote steps: commands to the inventory service.

use std::{sync::Arc, time::Duration};

use async_nats::HeaderMap;
use common::{
    contracts::{
        TypeName as _,
        inventory::{InventoryCommand, StockLine},
    },
    headers,
    ids::WorkflowRef,
    nats::{Journal, Nats, Outgoing, Publish},
    streams::StreamName,
    subject::Subject,
};

use super::{StepError, StepOutcome};

/// As for appends to the history.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where commands to the inventory go.
#[derive(Debug)]
pub(super) struct InventoryCommands {
    journal: Arc<dyn Publish>,
}

impl InventoryCommands {
    pub(super) fn new(nats: Nats) -> Self {
        Self::over(Arc::new(Journal::start(nats, StreamName::InventoryCommands, PATIENCE)))
    }

    pub(super) fn over(journal: Arc<dyn Publish>) -> Self {
        Self { journal }
    }

    pub(super) async fn reserve(
        &self,
        workflow: WorkflowRef,
        lines: Vec<StockLine>,
        trace_parent: Option<&str>,
    ) -> Result<StepOutcome, StepError> {
        self.send(workflow, InventoryCommand::Reserve { workflow, lines }, trace_parent).await
    }

    pub(super) async fn commit(
        &self,
        workflow: WorkflowRef,
        trace_parent: Option<&str>,
    ) -> Result<StepOutcome, StepError> {
        self.send(workflow, InventoryCommand::Commit { workflow }, trace_parent).await
    }

    pub(super) async fn release(
        &self,
        workflow: WorkflowRef,
        trace_parent: Option<&str>,
    ) -> Result<StepOutcome, StepError> {
        self.send(workflow, InventoryCommand::Release { workflow }, trace_parent).await
    }

    async fn send(
        &self,
        workflow: WorkflowRef,
        command: InventoryCommand,
        trace_parent: Option<&str>,
    ) -> Result<StepOutcome, StepError> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, command.type_name());
        headers.insert(headers::SENDER, crate::SERVICE);
        if let Some(trace_parent) = trace_parent {
            headers.insert(headers::TRACE_PARENT, trace_parent);
        }
        let payload = serde_json::to_vec(&command)?.into();
        let subject = Subject::InventoryCommand(workflow.id.as_uuid());
        common::crash_point!("worker.inventory_command.before_publish");
        // Arriving twice is harmless: the ledger knows the workflow.
        self.journal.append(Outgoing { subject, headers, payload, expected: None }).await?;
        common::crash_point!("worker.inventory_command.after_publish");
        Ok(StepOutcome::Sent)
    }
}
