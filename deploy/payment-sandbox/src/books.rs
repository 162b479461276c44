//! What the provider does, on the tables of one write transaction: everything here is stored together or not at all.
//!
//! An operation checks first and writes last, so that one that is refused leaves no trace in its group's transaction.

use common::{ids::SessionId, money::Money, time::Timestamp};
use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    events::{Attempt, Event, Pending},
    session::{Charge, Order, PaymentStatus, Refund, Session, SessionStatus},
};

/// Sessions by id (JSON); ids are ordered by time, so new ones go to the end.
pub(crate) const SESSIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("sessions");
/// Which session an idempotency key belongs to; keys are prefixed by the call that they were used for.
const KEYS: TableDefinition<&str, &str> = TableDefinition::new("keys");
/// The sessions of each reference.
const REFERENCES: TableDefinition<(&str, &str), ()> = TableDefinition::new("references");
/// References under which no session may ever be opened, with the time of that promise.
const CLOSED_REFERENCES: TableDefinition<&str, i64> = TableDefinition::new("closed_references");
/// Webhook events by number (JSON).
pub(crate) const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
/// The events of each session.
pub(crate) const SESSION_EVENTS: TableDefinition<(&str, u64), ()> = TableDefinition::new("session_events");
/// Events that nobody has taken yet, with their session.
pub(crate) const PENDING: TableDefinition<u64, &str> = TableDefinition::new("pending");

/// Why the books do not allow something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("There is no session with this id.")]
    UnknownSession,
    #[error("This Idempotency-Key was used before with a different request.")]
    KeyReused,
    #[error("The shop has closed this reference before any session was opened for it; none will be.")]
    ReferenceClosed,
    #[error("expires_at has passed.")]
    ExpiryPassed,
    #[error("The session is {} and cannot be changed.", .0.as_str())]
    NotOpen(SessionStatus),
    #[error("Nothing has been paid in this session.")]
    NotPaid,
    #[error("Only {left} of what was paid is left to refund.")]
    MoreThanPaid { left: Money },
}

impl SessionStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BooksError {
    /// It is not allowed; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database failed; the whole transaction must be given up.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How a customer's visit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Pay,
    Decline,
    Cancel,
}

impl Decision {
    fn words(self) -> (SessionStatus, PaymentStatus) {
        match self {
            Self::Pay => (SessionStatus::Paid, PaymentStatus::Paid),
            Self::Decline => (SessionStatus::Declined, PaymentStatus::Failed),
            Self::Cancel => (SessionStatus::Cancelled, PaymentStatus::Cancelled),
        }
    }
}

/// The tables of one write transaction.
pub(crate) struct Books<'txn> {
    sessions: Table<'txn, &'static str, &'static [u8]>,
    keys: Table<'txn, &'static str, &'static str>,
    references: Table<'txn, (&'static str, &'static str), ()>,
    closed_references: Table<'txn, &'static str, i64>,
    events: Table<'txn, u64, &'static [u8]>,
    session_events: Table<'txn, (&'static str, u64), ()>,
    pending: Table<'txn, u64, &'static str>,
    /// Events of this transaction, to be delivered once it is committed.
    new_events: Vec<Pending>,
}

impl<'txn> Books<'txn> {
    /// Open the tables, and make those that are not there yet.
    pub(crate) fn open(transaction: &'txn WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS)?,
            keys: transaction.open_table(KEYS)?,
            references: transaction.open_table(REFERENCES)?,
            closed_references: transaction.open_table(CLOSED_REFERENCES)?,
            events: transaction.open_table(EVENTS)?,
            session_events: transaction.open_table(SESSION_EVENTS)?,
            pending: transaction.open_table(PENDING)?,
            new_events: Vec::new(),
        })
    }

    /// Close the tables so that the transaction can be committed; the events that it made.
    pub(crate) fn finish(self) -> Vec<Pending> {
        self.new_events
    }

    /// Open a session, or find the one that the same key opened; says whether it was there already.
    pub(crate) fn create(&mut self, key: &str, order: Order, now: Timestamp) -> Result<(Session, bool), BooksError> {
        let key = format!("create:{key}");
        if let Some(id) = self.session_of_key(&key)? {
            let session = self.session(&id)?;
            return if session.order == order { Ok((session, true)) } else { Err(Refusal::KeyReused.into()) };
        }
        if self.closed_references.get(order.client_reference_id.as_str())?.is_some() {
            return Err(Refusal::ReferenceClosed.into());
        }
        if order.expires_at <= now {
            return Err(Refusal::ExpiryPassed.into());
        }
        let session = Session {
            session_id: new_session_id()?,
            order,
            status: SessionStatus::Open,
            payment_status: PaymentStatus::Unpaid,
            created_at: now,
            charges: Vec::new(),
            refunds: Vec::new(),
        };
        let id = session.session_id.as_str();
        self.keys.insert(key.as_str(), id)?;
        self.references.insert((session.order.client_reference_id.as_str(), id), ())?;
        self.save(&session)?;
        Ok((session, false))
    }

    /// End the customer's visit. What was decided so before stays so: nobody is charged twice.
    ///
    /// `even_if_closed` lets money come late, as it does when a customer's bank is slow.
    pub(crate) fn decide(
        &mut self,
        id: &str,
        decision: Decision,
        even_if_closed: bool,
        now: Timestamp,
    ) -> Result<Session, BooksError> {
        let mut session = self.session(id)?;
        let (status, payment_status) = decision.words();
        match session.standing(now) {
            SessionStatus::Open => {}
            decided if decided == status => return Ok(session),
            SessionStatus::Paid => return Err(Refusal::NotOpen(SessionStatus::Paid).into()),
            _ if even_if_closed => {}
            closed => return Err(Refusal::NotOpen(closed).into()),
        }
        session.status = status;
        session.payment_status = payment_status;
        if decision == Decision::Pay {
            let charge_id = format!("ch_{}", Uuid::now_v7().simple());
            session.charges.push(Charge { charge_id, amount: session.order.amount, charged_at: now });
        }
        self.save(&session)?;
        self.announce(&session, now)?;
        Ok(session)
    }

    /// Make sure that nobody can pay this session any more; it may be paid already.
    pub(crate) fn expire(&mut self, id: &str, now: Timestamp) -> Result<Session, BooksError> {
        let mut session = self.session(id)?;
        if session.status == SessionStatus::Open {
            session.status = SessionStatus::Expired;
            self.save(&session)?;
        }
        session.status = session.standing(now);
        Ok(session)
    }

    /// Make sure that nobody can pay under this reference any more, also if no session has been opened yet.
    /// Answers with the session that was paid, else with the last one that was opened.
    pub(crate) fn expire_reference(&mut self, reference: &str, now: Timestamp) -> Result<Option<Session>, BooksError> {
        self.closed_references.insert(reference, now.as_millisecond())?;
        let mut last: Option<Session> = None;
        for id in self.sessions_of(reference)? {
            let session = self.expire(&id, now)?;
            if last.as_ref().is_none_or(|last| last.status != SessionStatus::Paid) {
                last = Some(session);
            }
        }
        Ok(last)
    }

    /// Give money back, once for a key and never more than was taken.
    pub(crate) fn refund(&mut self, key: &str, id: &str, amount: Money, now: Timestamp) -> Result<Refund, BooksError> {
        let stored_key = format!("refund:{key}");
        let used_by = self.session_of_key(&stored_key)?;
        let mut session = self.session(id)?;
        if let Some(used_by) = used_by {
            let same = session.refunds.into_iter().find(|refund| refund.idempotency_key == key && used_by == id);
            return same.filter(|refund| refund.amount == amount).ok_or(Refusal::KeyReused.into());
        }
        let left = Money { amount: session.refundable(), ..session.order.amount };
        if session.charges.is_empty() {
            return Err(Refusal::NotPaid.into());
        }
        if amount.currency != left.currency || amount.amount > left.amount {
            return Err(Refusal::MoreThanPaid { left }.into());
        }
        let refund = Refund {
            refund_id: format!("re_{}", Uuid::now_v7().simple()),
            idempotency_key: key.to_owned(),
            amount,
            refunded_at: now,
        };
        session.refunds.push(refund.clone());
        self.keys.insert(stored_key.as_str(), id)?;
        self.save(&session)?;
        Ok(refund)
    }

    /// Note how an attempt to deliver an event went.
    pub(crate) fn record_attempt(&mut self, number: u64, attempt: Attempt) -> Result<(), BooksError> {
        let Some(mut event) = self.events.get(number)?.map(|row| decode::<Event>(row.value())).transpose()? else {
            return Ok(());
        };
        if attempt.delivered {
            self.pending.remove(number)?;
        }
        event.note(attempt);
        self.events.insert(number, encode(&event)?.as_slice())?;
        Ok(())
    }

    fn announce(&mut self, session: &Session, now: Timestamp) -> Result<(), BooksError> {
        let number = self.events.last()?.map_or(1, |(last, _)| last.value() + 1);
        let event = Event::of(session, now);
        let id = session.session_id.as_str();
        self.events.insert(number, encode(&event)?.as_slice())?;
        self.session_events.insert((id, number), ())?;
        self.pending.insert(number, id)?;
        self.new_events.push(Pending { number, session_id: session.session_id.clone() });
        Ok(())
    }

    fn session(&self, id: &str) -> Result<Session, BooksError> {
        let row = self.sessions.get(id)?.ok_or(Refusal::UnknownSession)?;
        Ok(decode(row.value())?)
    }

    fn save(&mut self, session: &Session) -> Result<(), StorageError> {
        self.sessions.insert(session.session_id.as_str(), encode(session)?.as_slice())?;
        Ok(())
    }

    fn session_of_key(&self, key: &str) -> Result<Option<String>, StorageError> {
        Ok(self.keys.get(key)?.map(|id| id.value().to_owned()))
    }

    fn sessions_of(&self, reference: &str) -> Result<Vec<String>, StorageError> {
        // "~" sorts after every character of a session id.
        let rows = self.references.range((reference, "")..(reference, "~"))?;
        rows.map(|row| row.map(|(key, _)| key.value().1.to_owned())).collect()
    }
}

/// Unguessable, because whoever knows it can pay; ordered by time, so that the books can be read page by page.
fn new_session_id() -> Result<SessionId, StorageError> {
    let id = format!("cs_{}", Uuid::now_v7().simple());
    id.parse().map_err(|error| StorageError::Corrupted(format!("made a bad session id: {error}")))
}

/// A row as JSON, so that the books can be read without this program.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StorageError> {
    serde_json::to_vec(value).map_err(|error| StorageError::Corrupted(format!("cannot write a row: {error}")))
}

/// Read a row.
pub(crate) fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(row).map_err(|error| StorageError::Corrupted(format!("cannot read a row: {error}")))
}

#[cfg(test)]
mod tests;
