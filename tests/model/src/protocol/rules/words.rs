//! What can be said in the model.

use super::TimeId;

/// What a checkout can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// The customer's order.
    Start,
    /// The customer cancels.
    Cancel,
    /// The inventory: held.
    Reserved,
    /// The inventory: too few.
    OutOfStock,
    /// The inventory: sold.
    Committed,
    /// The inventory: nothing is held.
    Released,
    /// The inventory refuses to hold.
    ReserveRefused,
    /// The inventory refuses to sell.
    CommitRefused,
    /// The inventory refuses to take back.
    ReleaseRefused,
    /// A webhook: paid.
    Paid,
    /// A webhook: declined.
    Declined,
    /// A webhook: another session that names this checkout is paid.
    PaidAnotherSession,
    /// The sweep suspects that it was forgotten.
    Nudge,
    /// A wake-up call.
    Due(TimeId),
}

/// Those with a number of their own; wake-up calls are numbered after them.
const NUMBERED: [Message; 13] = [
    Message::Start,
    Message::Cancel,
    Message::Reserved,
    Message::OutOfStock,
    Message::Committed,
    Message::Released,
    Message::ReserveRefused,
    Message::CommitRefused,
    Message::ReleaseRefused,
    Message::Paid,
    Message::Declined,
    Message::PaidAnotherSession,
    Message::Nudge,
];

impl Message {
    /// So many moments a wake-up call can be for.
    pub const MOST_TIMES: TimeId = 32 - 13;

    /// Its place in a [`super::super::state::Queue`].
    ///
    /// # Panics
    /// Never: every message is listed.
    #[must_use]
    pub fn bit(self) -> u8 {
        match self {
            Self::Due(time) => 13 + time,
            other => {
                let place = NUMBERED.iter().position(|message| *message == other).expect("every message is listed");
                u8::try_from(place).expect("there are few")
            }
        }
    }

    /// The message in a place.
    #[must_use]
    pub fn from_bit(bit: u8) -> Self {
        NUMBERED.get(usize::from(bit)).copied().unwrap_or_else(|| Self::Due(bit - 13))
    }
}

/// How a call to the provider ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// The session is open.
    Opened,
    /// No session, for good.
    OpenRefused,
    /// No answer.
    OpenUnanswered,
    /// Nobody can pay any more.
    NobodyCanPay,
    /// Somebody has paid.
    AlreadyPaid,
    /// No answer.
    CloseUnanswered,
    /// The money has gone back.
    Refunded,
    /// No answer.
    RefundUnanswered,
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Told {
    /// A message.
    Message(Message),
    /// The end of a call that the worker has made.
    Ended(End),
}

/// What a checkout asks of the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Hold one unit.
    Reserve,
    /// It is sold.
    Commit,
    /// It goes back.
    Release,
}

impl Request {
    /// Its place in a [`super::super::state::Queue`].
    #[must_use]
    pub fn bit(self) -> u8 {
        match self {
            Self::Reserve => 0,
            Self::Commit => 1,
            Self::Release => 2,
        }
    }

    /// The request in a place.
    #[must_use]
    pub fn from_bit(bit: u8) -> Self {
        [Self::Reserve, Self::Commit, Self::Release][usize::from(bit)]
    }
}
