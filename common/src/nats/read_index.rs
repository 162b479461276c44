//! What the histories hold for certain: a look that misses nothing which was acked before it began.
//!
//! To ask the stream's leader is not enough in a cluster: a server that led it, was parted from the others and has not heard
//! of the new leader yet answers, too, with what used to be true. What it cannot do is to get a write agreed on. So a proof is
//! stored in the stream, and then a replica is read that has come as far as the proof: everything that was acked before the
//! proof was sent lies before it (the read index of Raft, with a write of ours in place of the leader's heartbeat).
//!
//! Whoever looks while a proof is on its way shares the next one, so many looks at once cost one write. Proofs are never taken
//! away: a hole in a stream of truths always means that something was lost. A server that is in no cluster is the only one
//! that can answer, and is asked without a proof.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::{sync::Mutex, time::Instant};
use uuid::Uuid;

use super::{
    append::{Outgoing, Prepared, append_prepared},
    connect::Nats,
    read::{ReadError, last_at_leader, last_of_each},
};
use crate::{
    headers,
    ids::WorkflowRef,
    shards::Shard,
    streams::{MAX_RECORDS_PER_WORKFLOW, StreamName},
    subject::Subject,
};

/// Twice what an unclean leader change takes; whoever looks comes again after that.
const PROOF_PATIENCE: Duration = Duration::from_secs(15);

/// How long a replica that answers may be behind the proof; one that is parted from the others stays behind.
const BEHIND_PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at a replica that is behind; a healthy one is milliseconds behind.
const BEHIND_PAUSE: Duration = Duration::from_millis(10);

/// A subject takes so many proofs, then the next one is begun: a subject of `HISTORY` can only take
/// [`MAX_RECORDS_PER_WORKFLOW`] messages, and each subject costs memory at the server.
const PROOFS_PER_SUBJECT: u64 = MAX_RECORDS_PER_WORKFLOW.unsigned_abs() / 2;

/// Looks into the histories; clones share the proofs.
#[derive(Debug, Clone)]
pub struct ReadIndex {
    nats: Nats,
    parts: Arc<[Proofs]>,
}

/// The proofs in one part of the histories.
#[derive(Debug, Default)]
struct Proofs {
    /// How many were begun. Changes only while `last` is locked.
    begun: AtomicU64,
    /// The last one. Locked while one is being stored.
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// Where it is, if it is stored; those who waited for it share a failure, too.
    outcome: Option<Result<Proof, ReadError>>,
    /// The subject of the next one, and how many are there.
    series: Uuid,
    in_series: u64,
}

#[derive(Debug, Clone, Copy)]
struct Proof {
    sequence: u64,
    series: Uuid,
}

impl ReadIndex {
    /// No proofs are stored before somebody looks.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        let parts = nats.shards.all().map(|_| Proofs::default()).collect();
        Self { nats, parts }
    }

    /// The sequence of the last record of a history, 0 when there is none: nothing newer was acked before this was called.
    ///
    /// # Errors
    /// [`ReadError`] when no proof can be stored or nobody has come as far as it; nothing is known then.
    pub async fn newest(&self, workflow: WorkflowRef) -> Result<u64, ReadError> {
        let shard = self.nats.shards.of(workflow.id);
        let stream = StreamName::History.part(shard);
        let subject = Subject::History(workflow).in_shard(shard);
        if self.nats.client.server_info().cluster.is_none() {
            let last = last_at_leader(&self.nats, stream, &subject).await?;
            return Ok(last.map_or(0, |last| last.sequence));
        }
        let proof = self.proof(shard).await?;
        let proofs = Subject::HistoryProof(proof.series).in_shard(shard);
        let asked_since = Instant::now();
        loop {
            let (mut newest, mut has_proof) = (0, false);
            for last in last_of_each(&self.nats, stream, &[&subject, &proofs]).await? {
                if last.subject == subject {
                    newest = last.sequence;
                } else {
                    has_proof = last.sequence >= proof.sequence;
                }
            }
            if has_proof {
                return Ok(newest);
            }
            if asked_since.elapsed() > BEHIND_PATIENCE {
                let reason = format!("whoever answers has not come as far as {} for a while", proof.sequence);
                return Err(ReadError { stream: stream.as_str(), reason });
            }
            tokio::time::sleep(BEHIND_PAUSE).await;
        }
    }

    /// A proof that was begun after this was called.
    async fn proof(&self, shard: Shard) -> Result<Proof, ReadError> {
        let stream = StreamName::History.part(shard);
        let Some(proofs) = self.parts.get(shard.place()) else {
            return Err(ReadError { stream: stream.as_str(), reason: "there was no such part at the start".into() });
        };
        let begun_before = proofs.begun.load(Ordering::SeqCst);
        let mut last = proofs.last.lock().await;
        if proofs.begun.load(Ordering::SeqCst) > begun_before
            && let Some(outcome) = &last.outcome
        {
            return outcome.clone();
        }
        if last.series.is_nil() || last.in_series >= PROOFS_PER_SUBJECT {
            (last.series, last.in_series) = (Uuid::now_v7(), 0);
        }
        proofs.begun.fetch_add(1, Ordering::SeqCst);
        last.in_series += 1;
        // Whoever waits must not take the one before for this one when this caller goes away.
        last.outcome = None;
        let outcome = self.store_proof(shard, last.series).await;
        last.outcome = Some(outcome.clone());
        outcome
    }

    async fn store_proof(&self, shard: Shard, series: Uuid) -> Result<Proof, ReadError> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::TYPE, "proof");
        // Two proofs in place of one are harmless.
        let outgoing =
            Outgoing { subject: Subject::HistoryProof(series), headers, payload: Bytes::new(), expected: None };
        let stream = StreamName::History.part(shard);
        let stored = append_prepared(&self.nats, stream, &Prepared::new(outgoing, shard), PROOF_PATIENCE).await;
        let sequence = stored.map_err(|error| ReadError { stream: stream.as_str(), reason: error.to_string() })?;
        metrics::counter!("worker_proofs_total").increment(1);
        Ok(Proof { sequence, series })
    }
}
