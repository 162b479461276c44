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
    nats::{Journal, Nats, Outgoing, Publish, journal::Folded},
    streams::StreamName,
    subject::Subject,
};
use uuid::Uuid;

use super::{StepError, StepOutcome};

/// As for appends to the history.
const PATIENCE: Duration = Duration::from_secs(15);

/// Most bytes of a group: a quarter of what a server accepts in one message (1 MiB), so that no reckoning has to be exact.
const MOST_GROUP_BYTES: usize = 256 * 1024;

/// Where commands to the inventory go.
#[derive(Debug)]
pub(super) struct InventoryCommands {
    journal: Arc<dyn Publish>,
}

impl InventoryCommands {
    pub(super) fn new(nats: Nats) -> Self {
        Self::over(Arc::new(Journal::folding(nats, StreamName::InventoryCommands, PATIENCE, in_groups)))
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

/// Commands that are stored in one commit go as one message, as [`InventoryGroup`] says.
fn in_groups(unit: Vec<Outgoing>) -> Vec<Folded> {
    let mut groups: Vec<(Vec<usize>, Vec<u8>)> = Vec::with_capacity(1);
    for (place, command) in unit.iter().enumerate() {
        match groups.last_mut().filter(|(_, body)| body.len() + command.payload.len() < MOST_GROUP_BYTES) {
            Some((places, body)) => {
                places.push(place);
                body.push(b',');
                body.extend_from_slice(&command.payload);
            }
            None => groups.push((vec![place], command.payload.to_vec())),
        }
    }
    groups.into_iter().map(|(places, commands)| folded(&unit, places, &commands)).collect()
}

fn folded(unit: &[Outgoing], places: Vec<usize>, commands: &[u8]) -> Folded {
    if let [place] = places[..] {
        return Folded { message: unit[place].clone(), places };
    }
    // Named after its first command: the name tells people something, and means nothing.
    let id = match places.first().map(|place| &unit[*place].subject) {
        Some(Subject::InventoryCommand(id)) => *id,
        _ => Uuid::nil(),
    };
    let mut headers = HeaderMap::new();
    headers.insert(headers::TYPE, "group");
    headers.insert(headers::SENDER, crate::SERVICE);
    let payload = [br#"{"type":"group","commands":["#, commands, b"]}"].concat().into();
    Folded { message: Outgoing { subject: Subject::InventoryGroup(id), headers, payload, expected: None }, places }
}

#[cfg(test)]
mod tests {
    use common::{
        contracts::inventory::InventoryGroup,
        ids::{WorkflowId, WorkflowKind},
    };

    use super::*;

    fn command(lines: usize) -> (InventoryCommand, Outgoing) {
        let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::random() };
        let line = StockLine { sku: "A-LONG-ARTICLE-NUMBER".parse().expect("a sku"), quantity: 1 };
        let command = InventoryCommand::Reserve { workflow, lines: vec![line; lines] };
        let payload = serde_json::to_vec(&command).expect("writable").into();
        let subject = Subject::InventoryCommand(workflow.id.as_uuid());
        (command, Outgoing { subject, headers: HeaderMap::new(), payload, expected: None })
    }

    #[test]
    fn a_unit_is_one_message_with_all_its_commands_in_order() {
        let (commands, unit): (Vec<_>, Vec<_>) = (0..3).map(|_| command(1)).unzip();
        let [group] = &in_groups(unit)[..] else { panic!("one message") };
        assert_eq!(group.places, [0, 1, 2]);
        let read: InventoryGroup = serde_json::from_slice(&group.message.payload).expect("a group");
        assert_eq!(read.commands, commands);
    }

    #[test]
    fn no_group_is_too_large_for_a_server_and_what_stands_alone_stays_as_it_is() {
        let large = MOST_GROUP_BYTES / 40;
        let unit: Vec<Outgoing> = [1, 1, large, 1].into_iter().map(|lines| command(lines).1).collect();
        let (last, groups) = (unit[2].payload.clone(), in_groups(unit));
        let places: Vec<_> = groups.iter().map(|group| group.places.clone()).collect();
        assert_eq!(places, [vec![0, 1], vec![2], vec![3]]);
        assert_eq!(groups[1].message.payload, last);
    }
}
