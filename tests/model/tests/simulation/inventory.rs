//! An instance of the inventory: the real ledger, the real chain and the real guarded append, in the order in which
//! `inventory-service/src/keeper.rs` uses them. Two of them run at a time and both believe to be the active one.

use async_nats::HeaderMap;
use common::{
    contracts::{
        checkout::CheckoutCommand,
        inventory::{InventoryCommand, LedgerEntry},
    },
    nats::{AppendError, Outgoing, Publish as _, append::append, read::Stored},
    record::{ChainEnd, RecordHash},
    streams::{INVENTORY_ACK_WAIT, StreamName},
    subject::Subject,
};
use inventory_service::ledger::{Answer, Decision, GroupDecision, Ledger, Request};

use crate::{
    messages::{Body, Queued},
    server::{PATIENCE, Server, Stream, pause},
};

/// As the service's own: half of what a server accepts in one message.
const MAX_ENTRY_BYTES: usize = 512 * 1024;

/// A snapshot: the place up to which it is true, and the state with its hash.
#[derive(Debug, Clone)]
pub struct Snapshot {
    sequence: u64,
    end: ChainEnd,
    state: Vec<u8>,
    hash: RecordHash,
}

struct Instance {
    server: Server,
    ledger: Ledger,
    sequence: u64,
    end: ChainEnd,
}

/// Keep the ledger until the process dies.
pub async fn keep(server: Server) {
    let mut instance = Instance::restored(server);
    loop {
        pause().await;
        let group = instance.take();
        if !group.is_empty() {
            instance.handle(group).await;
        }
    }
}

impl Instance {
    /// From the newest snapshot that is sound, or from nothing; then the rest of the ledger.
    fn restored(server: Server) -> Self {
        let snapshot = {
            let mut world = server.lock();
            let is_damaged = world.faults && world.chance.percent(30);
            let newest = world.snapshots.last().cloned();
            newest.map(|mut snapshot| {
                if is_damaged && let Some(byte) = snapshot.state.last_mut() {
                    *byte ^= 1;
                }
                snapshot
            })
        };
        let sound = snapshot.filter(|snapshot| RecordHash::of(&snapshot.state) == snapshot.hash);
        let mut instance = match sound.and_then(|snapshot| Some((Ledger::from_bytes(&snapshot.state).ok()?, snapshot)))
        {
            Some((ledger, Snapshot { sequence, end, .. })) => Self { server, ledger, sequence, end },
            None => Self { server, ledger: Ledger::default(), sequence: 0, end: ChainEnd::default() },
        };
        instance.read_on();
        instance
    }

    /// Book what is stored after this place.
    fn read_on(&mut self) {
        let stored: Vec<Stored> = {
            let world = self.server.lock();
            world.ledger.iter().filter(|stored| stored.sequence > self.sequence).cloned().collect()
        };
        for stored in stored {
            if let Err(why) = book(&mut self.ledger, &mut self.end, &stored) {
                return self.server.lock().complain(format!("G8: the ledger cannot be trusted: {why}"));
            }
            self.sequence = stored.sequence;
        }
    }

    fn take(&mut self) -> Vec<Queued> {
        let mut world = self.server.lock();
        let world = &mut *world;
        let most = 1 + world.chance.below(4);
        (0..most).map_while(|_| world.for_inventory.deliver(&mut world.chance, |_| true, INVENTORY_ACK_WAIT)).collect()
    }

    async fn handle(&mut self, group: Vec<Queued>) {
        let read = |message: &Queued| {
            let Body::Inventory(payload) = &message.body else { return None };
            let command: InventoryCommand = serde_json::from_slice(payload).ok()?;
            Some(Request { command, at: message.at })
        };
        let requests: Vec<Request> = group.iter().filter_map(read).collect();
        if requests.len() != group.len() {
            return self.server.lock().complain("a command to the inventory cannot be read".to_owned());
        }
        let Some(decided) = self.decide_and_store(&requests).await else { return };
        self.snapshot();
        for (message, decision) in group.iter().zip(&decided.decisions) {
            if decision.refusal.is_some_and(|refusal| refusal.is_alert()) {
                let refusal = decision.refusal;
                self.server
                    .lock()
                    .complain(format!("B14: the ledger refuses what no sound workflow asks: {refusal:?}"));
            }
            self.answer(message, decision).await;
        }
    }

    /// Comes back when the ledger proves the answers; none after a defect.
    async fn decide_and_store(&mut self, requests: &[Request]) -> Option<GroupDecision> {
        loop {
            let group = match self.ledger.decide_group(requests, MAX_ENTRY_BYTES) {
                Ok(group) => group,
                Err(defect) => {
                    self.server.lock().complain(format!("the ledger's rules contradict themselves: {defect}"));
                    return None;
                }
            };
            match self.append(&group.entry(&self.end)).await {
                Ok(()) => return Some(group),
                Err(AppendError::Conflict { .. }) => self.read_on(),
                Err(AppendError::Unavailable { .. }) => {}
                Err(refused @ AppendError::Refused { .. }) => {
                    self.server.lock().complain(refused.to_string());
                    return None;
                }
            }
        }
    }

    async fn append(&mut self, entry: &LedgerEntry) -> Result<(), AppendError> {
        let payload = serde_json::to_vec(entry).unwrap_or_default();
        let outgoing = Outgoing {
            subject: Subject::InventoryLedger,
            headers: HeaderMap::new(),
            payload: payload.clone().into(),
            expected: Some(self.sequence),
        };
        let sequence = append(&self.server, StreamName::Inventory, outgoing, PATIENCE).await?;
        if let Err(impossible) = self.ledger.apply_entry(entry) {
            self.server.lock().complain(format!("an entry that was just decided is impossible: {impossible}"));
        }
        self.end.extend(&payload);
        self.sequence = sequence;
        Ok(())
    }

    fn snapshot(&self) {
        let mut world = self.server.lock();
        if world.chance.percent(10)
            && let Ok(state) = self.ledger.to_bytes()
        {
            let hash = RecordHash::of(&state);
            world.snapshots.push(Snapshot { sequence: self.sequence, end: self.end.clone(), state, hash });
        }
    }

    async fn answer(&self, message: &Queued, decision: &Decision) {
        let (Answer::Stock { workflow, answer }, None) = (&decision.answer, &decision.movement) else {
            // What moved is told by the ledger, which workers read.
            return self.server.lock().for_inventory.ack(message.number);
        };
        let command = CheckoutCommand::StockAnswer { answer: answer.clone() };
        let outgoing = Outgoing {
            subject: Subject::Command(*workflow),
            headers: HeaderMap::new(),
            payload: serde_json::to_vec(&command).unwrap_or_default().into(),
            expected: None,
        };
        let told = Stream(self.server.clone(), StreamName::Commands).append(outgoing).await;
        pause().await;
        let mut world = self.server.lock();
        match told {
            Ok(_) => world.for_inventory.ack(message.number),
            Err(_) => world.for_inventory.hand_back(message.number, std::time::Duration::from_secs(1)),
        }
    }
}

/// Book one stored entry behind the others, as a reader of the ledger does.
pub fn book(ledger: &mut Ledger, end: &mut ChainEnd, stored: &Stored) -> Result<LedgerEntry, String> {
    let entry: LedgerEntry = serde_json::from_slice(&stored.payload).map_err(|error| error.to_string())?;
    if entry.index != end.next_index || entry.previous != end.hash {
        return Err(format!("entry {} does not continue the one before it", entry.index));
    }
    ledger.apply_entry(&entry).map_err(|error| error.to_string())?;
    end.extend(&stored.payload);
    Ok(entry)
}
