//! Why a command is refused. The words go into the answer; the short names into metrics.

use std::time::Duration;

/// Why a command changed nothing although it asked for a change.
///
/// None of these is recorded in the ledger: each follows from the command itself or from a state that never changes
/// back, so a repeat is refused for the same reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The server took the command in longer ago than finished reservations are remembered: what became of its
    /// workflow may be forgotten, so booking it could book it twice.
    #[error(
        "the command is older than {} days, which is longer than the ledger remembers what it has answered",
        days(super::COMMAND_MAX_AGE)
    )]
    TooOld,
    /// No lines, too many, a quantity of zero, or one article's lines add up to more than a line can hold.
    #[error("a reserve needs 1 to {} lines with a quantity of 1 to {} for each article", super::MAX_LINES, u32::MAX)]
    InvalidLines,
    /// The workflow has reserved something else before.
    #[error("this workflow has already reserved other lines")]
    OtherLines,
    /// The workflow's reservation is closed: a release came first.
    #[error("a release has closed this workflow's reservation; nothing is held for it again")]
    ReserveAfterRelease,
    /// Nothing is held for the workflow that could be sold.
    #[error("nothing is reserved for this workflow, so nothing can be sold")]
    CommitWithoutReserve,
    /// What was held has gone back already and may belong to somebody else.
    #[error("what was reserved for this workflow has been released, so it cannot be sold")]
    CommitAfterRelease,
    /// What was held is sold already.
    #[error("what was reserved for this workflow is sold, so it cannot be released")]
    ReleaseAfterCommit,
    /// A delivery of nothing.
    #[error("a restock needs a quantity of at least 1")]
    NothingDelivered,
    /// The same delivery was told before with another article or quantity.
    #[error("this restock id was booked before with another article or quantity")]
    OtherDelivery,
    /// The article's units altogether would exceed what a balance can hold.
    #[error("the article's balance cannot hold so many units")]
    DoesNotFit,
}

impl Refusal {
    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::InvalidLines => "invalid_lines",
            Self::OtherLines => "other_lines",
            Self::ReserveAfterRelease => "reserve_after_release",
            Self::CommitWithoutReserve => "commit_without_reserve",
            Self::CommitAfterRelease => "commit_after_release",
            Self::ReleaseAfterCommit => "release_after_commit",
            Self::NothingDelivered => "nothing_delivered",
            Self::OtherDelivery => "other_delivery",
            Self::DoesNotFit => "does_not_fit",
        }
    }

    /// Whether a person must look at it: no race, crash or repeat of a sound workflow on a sound server causes it.
    #[must_use]
    pub fn is_alert(self) -> bool {
        match self {
            Self::OtherLines
            | Self::CommitWithoutReserve
            | Self::CommitAfterRelease
            | Self::ReleaseAfterCommit
            | Self::TooOld
            | Self::InvalidLines => true,
            Self::ReserveAfterRelease | Self::NothingDelivered | Self::OtherDelivery | Self::DoesNotFit => false,
        }
    }
}

fn days(span: Duration) -> u64 {
    span.as_secs() / (24 * 60 * 60)
}
