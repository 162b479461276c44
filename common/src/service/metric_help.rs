//! What each metric means, for whoever scrapes. A test compares the list with the code of all services.

/// Every metric with its meaning, as it stands behind `# HELP`.
pub(super) const HELP: &[(&str, &str)] = &[
    ("consumer_messages_waiting", "Messages that no worker has been given yet, by stream, as of the last look"),
    ("consumer_paused", "1 while an operator has paused the consumer, by stream"),
    (
        "dead_letters_total",
        "Messages that were parked because they could not be handled, by area; look at DEAD_LETTERS",
    ),
    ("gateway_operator_refused_total", "Operator requests without the right token"),
    ("gateway_rate_limited_total", "Requests refused because their client sends too many"),
    ("gateway_shed_total", "Requests refused because too many are under way"),
    ("gateway_starts_total", "Answers to requests for a checkout, by outcome"),
    ("gateway_time_to_session_seconds", "From the request for a checkout to its payment link"),
    ("gateway_webhooks_total", "Webhooks, by outcome: stored, told again, or why they were refused"),
    ("gateway_stream_used_percent", "How full a stream is, in percent of what it may hold, by stream"),
    ("http_bodies_shed_total", "Requests refused because too many large bodies were being received"),
    ("http_connections_shed_total", "Connections closed at once because too many are open"),
    ("http_server_request_duration_seconds", "HTTP requests, by route, method and status"),
    ("inventory_answers_failed_total", "Answers that could not be stored; their commands come again"),
    ("inventory_conflicts_total", "Ledger appends refused because another instance was first"),
    ("inventory_group_commands", "Commands that were decided together"),
    ("inventory_groups_total", "Groups of commands that were decided"),
    ("inventory_movements_total", "Movements of stock, by type"),
    ("inventory_refusals_total", "Inventory commands that were refused, by reason"),
    ("inventory_remembered", "Reservations and deliveries that the ledger remembers"),
    ("inventory_snapshots_failed_total", "Snapshots that could not be written"),
    ("inventory_snapshots_total", "Snapshots that were written"),
    ("journal_messages_total", "Messages that were stored, by stream and method"),
    ("journal_units_total", "Commit units, by stream and method; messages per unit is the size of a group commit"),
    ("payment_provider_call_seconds", "Calls to the payment provider, by call and result"),
    ("sweep_nudges_total", "Forgotten workflows that the sweep found; each is a defect to report"),
    ("worker_conflicts_total", "Appends refused because another worker was first; decided again"),
    ("worker_handed_back_total", "Messages handed back to be delivered again later"),
    (
        "worker_histories_total",
        "Turns, by whether their history was at hand, had to be read from the stream, or was assumed not to exist yet",
    ),
    ("worker_panics_total", "Turns that panicked; each is a defect to report"),
    (
        "worker_proofs_total",
        "Messages stored in HISTORY to prove that a state in hand is the newest; only in a cluster",
    ),
    ("worker_steps_total", "Steps that were run, by step"),
    ("workflow_status_total", "Workflows that have come to a status, by kind and status"),
    ("workflows_open", "Workflows that are not done, by kind, as of the last sweep of this worker"),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::HELP;

    #[test]
    fn every_metric_of_the_code_is_explained_and_no_other() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut in_code = BTreeSet::new();
        for folder in ["common", "gateway", "workflow-worker", "inventory-service", "deploy"] {
            collect(&root.join(folder), &mut in_code);
        }
        let explained: BTreeSet<String> = HELP.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(in_code, explained);
    }

    fn collect(path: &Path, names: &mut BTreeSet<String>) {
        if path.is_dir() {
            std::fs::read_dir(path).expect("a folder").flatten().for_each(|entry| collect(&entry.path(), names));
            return;
        }
        if path.extension().is_none_or(|kind| kind != "rs") {
            return;
        }
        let text = std::fs::read_to_string(path).expect("a source file");
        for call in ["counter!(", "gauge!(", "histogram!("] {
            let names_of_calls = text.split(call).skip(1).filter_map(|rest| {
                let name = rest.trim_start().strip_prefix('"')?.split('"').next()?;
                let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                is_name.then(|| name.to_owned())
            });
            names.extend(names_of_calls);
        }
    }
}
