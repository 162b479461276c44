//! What one checkout looks like from outside: its history folded into what an answer or a page needs. Pure.

use common::{
    contracts::{
        checkout::{
            CancelledBy, CheckoutCommand, CheckoutEvent, CheckoutStatus, Line, PaymentNotice, PaymentStep,
            RefundStatus, RequestFingerprint,
        },
        inventory::Lacking,
    },
    ids::{ProviderName, SessionId, WorkflowId},
    money::Money,
    record::{BrokenHistory, ChainEnd, Record},
    time::Timestamp,
};

/// A checkout as its history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckoutView {
    /// Which checkout.
    pub(crate) id: WorkflowId,
    /// Stream sequence of the newest record; 0 while the start is accepted but not yet recorded.
    pub(crate) revision: u64,
    /// Where it stands, as its newest record says.
    pub(crate) status: CheckoutStatus,
    /// What is bought.
    pub(crate) lines: Vec<Line>,
    /// What it costs; none only while the start is not yet recorded and its command is gone.
    pub(crate) total: Option<Money>,
    /// What was asked, to tell a repeat from a conflict.
    pub(crate) fingerprint: Option<RequestFingerprint>,
    /// Who takes the money.
    pub(crate) provider: Option<ProviderName>,
    /// Where the customer pays or has paid.
    pub(crate) session: Option<Session>,
    /// Until when it can be paid.
    pub(crate) payment_deadline: Option<Timestamp>,
    /// Where money stands that came too late, wrong or for nothing.
    pub(crate) refund: Option<RefundStatus>,
    /// What there was too little of.
    pub(crate) lacking: Vec<Lacking>,
    /// What keeps it waiting at the moment: a provider that does not answer.
    pub(crate) trouble: Option<Trouble>,
    /// Why a person should look at it.
    pub(crate) attention: Vec<String>,
    /// What has happened, oldest first; one entry for each record.
    pub(crate) timeline: Vec<Entry>,
    chain: ChainEnd,
}

/// A payment session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The provider's name for it.
    pub(crate) session_id: SessionId,
    /// Where the customer pays.
    pub(crate) payment_url: String,
}

/// A call to the provider that failed and will be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What was tried.
    pub(crate) step: PaymentStep,
    /// When it will be tried again.
    pub(crate) retry_at: Timestamp,
}

/// One record of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place in the stream; the id of its server-sent event.
    pub(crate) sequence: u64,
    /// Its place in the history: 0, 1, 2, …
    pub(crate) index: u64,
    /// When it was decided.
    pub(crate) at: Timestamp,
    /// Where the checkout stood after it.
    pub(crate) status: CheckoutStatus,
    /// What happened, in order.
    pub(crate) events: Vec<CheckoutEvent>,
    /// The same in words.
    pub(crate) sentence: String,
}

impl CheckoutView {
    /// A checkout that was accepted and of which nothing is recorded yet; `start` is its command, if still at hand.
    pub(crate) fn accepted(id: WorkflowId, start: Option<CheckoutCommand>) -> Self {
        let mut view = Self {
            id,
            revision: 0,
            status: CheckoutStatus::Reserving,
            lines: Vec::new(),
            total: None,
            fingerprint: None,
            provider: None,
            session: None,
            payment_deadline: None,
            refund: None,
            lacking: Vec::new(),
            trouble: None,
            attention: Vec::new(),
            timeline: Vec::new(),
            chain: ChainEnd::default(),
        };
        if let Some(CheckoutCommand::Start { lines, total, fingerprint }) = start {
            view.lines = lines;
            view.total = Some(total);
            view.fingerprint = Some(fingerprint);
        }
        view
    }

    /// Fold a stored history; `None` when there is none.
    ///
    /// # Errors
    /// When a record cannot be read or one is missing: nothing can be said of such a checkout.
    pub(crate) fn read<'a>(
        id: WorkflowId,
        stored: impl IntoIterator<Item = (u64, &'a [u8])>,
    ) -> Result<Option<Self>, BrokenHistory> {
        let mut view = Self::accepted(id, None);
        for (sequence, payload) in stored {
            view.take_in(sequence, payload)?;
        }
        Ok((view.revision > 0).then_some(view))
    }

    /// Go on with the next record; one that was taken in before changes nothing.
    ///
    /// # Errors
    /// When it cannot be read or is not the next one: read the whole history again.
    pub(crate) fn take_in(&mut self, sequence: u64, payload: &[u8]) -> Result<(), BrokenHistory> {
        if sequence <= self.revision {
            return Ok(());
        }
        let record: Record<CheckoutEvent> = self.chain.read_next(payload)?;
        let status = read_status(&record)?;
        for event in &record.events {
            self.apply(event);
        }
        self.revision = sequence;
        self.status = status;
        self.timeline.push(Entry {
            sequence,
            index: record.index,
            at: record.at,
            status,
            sentence: sentence(&record.events),
            events: record.events,
        });
        Ok(())
    }

    /// Whether it is decided, settled, and no money is on its way back: nothing more is expected to happen.
    pub(crate) fn is_settled(&self) -> bool {
        self.status.is_terminal() && self.refund != Some(RefundStatus::Pending)
    }

    fn apply(&mut self, event: &CheckoutEvent) {
        match event {
            CheckoutEvent::CheckoutStarted { lines, total, fingerprint, provider, .. } => {
                self.lines.clone_from(lines);
                self.total = Some(*total);
                self.fingerprint = Some(fingerprint.clone());
                self.provider = Some(provider.clone());
            }
            CheckoutEvent::StockReserved { payment_deadline } => self.payment_deadline = Some(*payment_deadline),
            CheckoutEvent::StockRefused { lacking } => self.lacking.clone_from(lacking),
            CheckoutEvent::PaymentSessionOpened { session_id, payment_url } => {
                self.session = Some(Session { session_id: session_id.clone(), payment_url: payment_url.clone() });
                self.trouble = None;
            }
            CheckoutEvent::PaymentStepFailed { step, retry_at, .. } => {
                self.trouble = Some(Trouble { step: *step, retry_at: *retry_at });
            }
            CheckoutEvent::PaymentStepRetried { .. }
            | CheckoutEvent::PaymentRefused { .. }
            | CheckoutEvent::PaymentGivenUp { .. }
            | CheckoutEvent::PaymentSessionClosed {}
            | CheckoutEvent::PaymentReceived { .. } => self.trouble = None,
            CheckoutEvent::WrongAmountReceived { notice } => {
                self.money_goes_back(format!("the provider took {}, which is not the price", notice.amount));
            }
            CheckoutEvent::LatePaymentReceived { notice } => {
                self.money_goes_back(format!("{} arrived after the checkout had ended", notice.amount));
            }
            CheckoutEvent::SaleRefused { reason } => {
                self.money_goes_back(format!("it was paid, but the sale could not be booked: {reason}"));
            }
            CheckoutEvent::Refunded { .. } => {
                self.refund = Some(RefundStatus::Refunded);
                self.trouble = None;
            }
            CheckoutEvent::RefundNeedsAttention { reason } => {
                self.refund = Some(RefundStatus::NeedsAttention);
                self.trouble = None;
                self.attention.push(format!("the money could not be given back: {reason}"));
            }
            CheckoutEvent::PaymentDeclined { .. }
            | CheckoutEvent::PaymentCancelled { .. }
            | CheckoutEvent::CancelRequested { .. }
            | CheckoutEvent::DeadlinePassed {}
            | CheckoutEvent::StockSold {}
            | CheckoutEvent::StockReleased {} => {}
        }
    }

    fn money_goes_back(&mut self, why: String) {
        self.refund = Some(RefundStatus::Pending);
        self.attention.push(why);
    }
}

fn read_status(record: &Record<CheckoutEvent>) -> Result<CheckoutStatus, BrokenHistory> {
    CheckoutStatus::ALL.into_iter().find(|status| status.as_str() == record.status).ok_or_else(|| {
        let reason = format!("its status {:?} is not one that this version knows", record.status);
        BrokenHistory::Unreadable { index: record.index, reason }
    })
}

/// What one record's events mean, for people.
fn sentence(events: &[CheckoutEvent]) -> String {
    events.iter().map(in_words).collect::<Vec<_>>().join(" ")
}

fn in_words(event: &CheckoutEvent) -> String {
    match event {
        CheckoutEvent::CheckoutStarted { total, .. } => format!("The order over {total} was accepted."),
        CheckoutEvent::StockReserved { .. } => "The goods were set aside.".into(),
        CheckoutEvent::StockRefused { lacking } => {
            let skus: Vec<&str> = lacking.iter().map(|lacking| lacking.sku.as_str()).collect();
            format!("There was too little in stock of {}; nothing was set aside.", skus.join(", "))
        }
        CheckoutEvent::PaymentSessionOpened { .. } => "The payment page was opened.".into(),
        CheckoutEvent::PaymentRefused { .. } => "The payment provider refused to open a payment page.".into(),
        CheckoutEvent::PaymentStepFailed { step, attempt, .. } => {
            format!("The payment provider did not answer when asked to {} (try {attempt}).", purpose(*step))
        }
        CheckoutEvent::PaymentStepRetried { step, .. } => {
            format!("The payment provider was asked again to {}.", purpose(*step))
        }
        CheckoutEvent::PaymentReceived { notice } => format!("{} were paid.", amount(notice)),
        CheckoutEvent::WrongAmountReceived { notice } => format!("A wrong amount was paid: {}.", amount(notice)),
        CheckoutEvent::PaymentDeclined { .. } => "The payment was declined.".into(),
        CheckoutEvent::PaymentCancelled { .. } => "The customer gave up at the payment provider.".into(),
        CheckoutEvent::CancelRequested { by: CancelledBy::Customer } => "The customer cancelled.".into(),
        CheckoutEvent::CancelRequested { by: CancelledBy::Operator } => "An operator cancelled.".into(),
        CheckoutEvent::DeadlinePassed {} => "The time to pay ran out.".into(),
        CheckoutEvent::PaymentGivenUp { .. } => "No payment page could be opened in time.".into(),
        CheckoutEvent::PaymentSessionClosed {} => "The payment page was closed.".into(),
        CheckoutEvent::StockSold {} => "The goods were sold: the order is paid.".into(),
        CheckoutEvent::SaleRefused { .. } => "The sale could not be booked; the money goes back.".into(),
        CheckoutEvent::StockReleased {} => "The goods went back into stock.".into(),
        CheckoutEvent::LatePaymentReceived { notice } => {
            format!("{} arrived after the order had ended; the money goes back.", amount(notice))
        }
        CheckoutEvent::Refunded { .. } => "The money was given back.".into(),
        CheckoutEvent::RefundNeedsAttention { .. } => "The money could not be given back by itself.".into(),
    }
}

fn amount(notice: &PaymentNotice) -> String {
    notice.amount.to_string()
}

fn purpose(step: PaymentStep) -> &'static str {
    match step {
        PaymentStep::OpenSession => "open the payment page",
        PaymentStep::CloseSession => "close the payment page",
        PaymentStep::Refund => "give the money back",
    }
}

#[cfg(test)]
pub(crate) mod tests;
