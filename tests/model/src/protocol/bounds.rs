//! How big the world is, how often each thing may go wrong in it, and which mechanism is taken out.

/// A world to be checked. Each fault has a budget for the whole run: without one there would be no end of states.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Checkouts of one unit each, 1 or 2.
    pub checkouts: u8,
    /// Units of the one article.
    pub stock: u8,
    /// Processes that take turns of checkouts, 1 or 2.
    pub workers: u8,
    /// Processes that believe to be the one that keeps the ledger, 1 or 2.
    pub inventories: u8,
    /// How often a worker or an inventory may die. What it was about to publish may still arrive.
    pub crashes: u8,
    /// How often a message that was published once arrives once more: redelivery after an ack, a publish whose sender had
    /// given up, a consumer that was reset, a webhook or a wake-up call that is told twice.
    pub repeats: u8,
    /// How often a call to the provider gets no answer, whether it was carried out or not.
    pub unanswered: u8,
    /// How often the provider takes money for a session that is closed, or refuses for good to open one.
    pub provider_faults: u8,
    /// How often a worker decides on a copy that is not the newest: its cache, or a replica that is behind.
    pub old_copies: u8,
    /// Whether customers may cancel and be declined.
    pub customers_change_their_minds: bool,
    /// The mechanism that is missing, to see that the checker notices.
    pub without: Option<Mechanism>,
}

impl Bounds {
    /// One checkout, two of each process, no faults.
    #[must_use]
    pub fn one_checkout() -> Self {
        Self {
            checkouts: 1,
            stock: 1,
            workers: 2,
            inventories: 2,
            crashes: 0,
            repeats: 0,
            unanswered: 0,
            provider_faults: 0,
            old_copies: 0,
            customers_change_their_minds: true,
            without: None,
        }
    }

    /// Two checkouts that want the last unit, two of each process, no faults.
    #[must_use]
    pub fn two_checkouts() -> Self {
        Self { checkouts: 2, customers_change_their_minds: false, ..Self::one_checkout() }
    }

    /// A world in words: `checkouts=2 crashes=1 repeats=1`; what is not named is as in [`Bounds::one_checkout`].
    ///
    /// # Errors
    /// A text that says which word is not understood.
    pub fn in_words(words: &str) -> Result<Self, String> {
        let mut bounds = Self::one_checkout();
        for word in words.split_whitespace() {
            let wrong = || {
                format!(
                    "{word:?} is not one of checkouts, stock, workers, inventories, crashes, repeats, unanswered, provider_faults, old_copies, changes with =number"
                )
            };
            let (name, number) = word.split_once('=').ok_or_else(wrong)?;
            let number = number.parse().map_err(|_| wrong())?;
            match name {
                "checkouts" => bounds.checkouts = number,
                "stock" => bounds.stock = number,
                "workers" => bounds.workers = number,
                "inventories" => bounds.inventories = number,
                "crashes" => bounds.crashes = number,
                "repeats" => bounds.repeats = number,
                "unanswered" => bounds.unanswered = number,
                "provider_faults" => bounds.provider_faults = number,
                "old_copies" => bounds.old_copies = number,
                "changes" => bounds.customers_change_their_minds = number > 0,
                _ => return Err(wrong()),
            }
        }
        let is_one_or_two = |number: u8| (1..=2).contains(&number);
        if [bounds.checkouts, bounds.workers, bounds.inventories].into_iter().all(is_one_or_two) {
            Ok(bounds)
        } else {
            Err("checkouts, workers and inventories are 1 or 2".to_owned())
        }
    }

    /// The same world without a mechanism.
    #[must_use]
    pub fn without(self, mechanism: Mechanism) -> Self {
        Self { without: Some(mechanism), ..self }
    }
}

/// What keeps the promises. Taken out one at a time, each must be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// A record is appended only after the one that the decision was made on.
    ExpectedSequenceOfHistory,
    /// An entry is appended to the ledger only after the one that the group was decided on.
    ExpectedSequenceOfLedger,
    /// An answer that moves nothing has an entry of the ledger, too, and goes out when that is stored.
    EntryBeforeAnswer,
    /// A command is acked only after what it led to is stored.
    AckAfterAppend,
    /// "Nothing happens" counts on the newest state only.
    NewestStateBeforeAck,
    /// An inventory command is acked only after its answer is stored.
    AckAfterAnswer,
    /// The session is closed at the provider before the goods go back.
    CloseBeforeRelease,
    /// A release that overtakes its reserve is remembered.
    Tombstone,
    /// Repeated calls for a session are one session.
    SessionKey,
    /// Repeated calls for a refund are one refund.
    RefundKey,
    /// A workflow that waits for a time is woken.
    Timer,
}

impl Mechanism {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::ExpectedSequenceOfHistory,
        Self::ExpectedSequenceOfLedger,
        Self::EntryBeforeAnswer,
        Self::AckAfterAppend,
        Self::NewestStateBeforeAck,
        Self::AckAfterAnswer,
        Self::CloseBeforeRelease,
        Self::Tombstone,
        Self::SessionKey,
        Self::RefundKey,
        Self::Timer,
    ];
}
