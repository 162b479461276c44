//! One history through the code of this build, record by record.

use common::{
    ids::WorkflowKind,
    payment::CreateSession,
    record::{ChainEnd, Record, joined_types},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use workflow_worker::{
    workflow::{Next, Step, Workflow},
    workflows::{checkout::Checkout, refund::Refund},
};

use super::{
    history::{OwedHeaders, StoredHistory},
    result::Divergence,
};

/// What this build makes of one history.
#[derive(Debug)]
pub(super) struct Replayed {
    /// Hash over the workflow and, for each record, the state's word and what is owed.
    pub(super) hash: [u8; 32],
    /// The first place where this build differs; what comes after it is only a consequence.
    pub(super) divergence: Option<Divergence>,
}

/// Replay one history.
pub(super) fn replay(history: &StoredHistory) -> Replayed {
    match history.workflow.kind {
        WorkflowKind::Checkout => replay_as::<Checkout>(history),
        WorkflowKind::Refund => replay_as::<Refund>(history),
    }
}

fn replay_as<W: Workflow>(history: &StoredHistory) -> Replayed {
    let (mut state, mut chain) = (W::default(), ChainEnd::default());
    let mut hash = Sha256::new();
    let mut divergence = None;
    hash.update(format!("{}\n", history.workflow));
    for stored in &history.records {
        let index = chain.next_index;
        let mut differs = |what: &'static str, recorded: String, replayed: String| {
            divergence.get_or_insert_with(|| Divergence {
                workflow: history.workflow.to_string(),
                index,
                sequence: stored.sequence,
                what,
                recorded,
                replayed,
            });
        };
        let record: Record<W::Event> = match chain.read_next(&stored.payload) {
            Ok(record) => record,
            Err(broken) => {
                differs("record", "a record of a sound history".into(), broken.to_string());
                hash.update(format!("{index} unreadable\n"));
                break;
            }
        };
        state = record.events.iter().fold(state, W::evolve);
        let next = state.next(history.workflow.id);
        let types = joined_types(&record.events);
        if types != record.types {
            differs("type", record.types, types);
        }
        if state.status() != record.status {
            differs("status", record.status, state.status().to_owned());
        }
        let owed = header_words(&next);
        // A record without these headers was not written by a worker; the doctor speaks of it.
        if stored.headers.next.is_some() && stored.headers != owed {
            differs("owed next", words(&stored.headers), words(&owed));
        }
        hash.update(format!("{index} {} {}\n", state.status(), owed_in_full(&next)));
    }
    Replayed { hash: hash.finalize().into(), divergence }
}

/// What a worker of this build would write into the headers.
fn header_words(next: &Next) -> OwedHeaders {
    let (next, until) = match next {
        Next::Run(_) => ("run", None),
        Next::Wait { until } => ("wait", *until),
        Next::Done => ("done", None),
    };
    OwedHeaders { next: Some(next.to_owned()), wait_until: until.map(|until| until.to_string()) }
}

fn words(headers: &OwedHeaders) -> String {
    let next = headers.next.as_deref().unwrap_or("nothing");
    headers.wait_until.as_ref().map_or_else(|| next.to_owned(), |until| format!("{next} until {until}"))
}

/// What is owed, with everything that it would say outside. The words are written down here, apart from the types, so that
/// a type that is only renamed does not change the hash.
fn owed_in_full(next: &Next) -> Value {
    let step = match next {
        Next::Wait { until } => return json!({ "wait": until }),
        Next::Done => return json!("done"),
        Next::Run(step) => step,
    };
    let name = step.type_name();
    match step {
        Step::ReserveStock(lines) => json!({ "run": name, "lines": lines }),
        Step::CommitStock | Step::ReleaseStock => json!({ "run": name }),
        Step::OpenSession(create) => json!({ "run": name, "create": session(create) }),
        Step::CloseSession(close) => {
            json!({ "run": name, "session": close.session_id, "created_by": session(&close.created_by) })
        }
        Step::Refund(refund) => json!({
            "run": name, "reference": refund.reference, "key": refund.idempotency_key,
            "session": refund.session_id, "amount": refund.amount,
        }),
    }
}

fn session(create: &CreateSession) -> Value {
    json!({
        "reference": create.reference, "key": create.idempotency_key, "lines": create.lines,
        "amount": create.amount, "expires_at": create.expires_at,
    })
}
