//! What an input leads to.

use common::{
    contracts::{
        checkout::{CheckoutCommand, CheckoutEvent as Event, PaymentNotice, PaymentOutcome, PaymentStep},
        inventory::StockAnswer,
    },
    payment::Closed,
    time::{Timestamp, after},
};

use super::state::{Checkout, Ending, Phase, Refund, RefundProgress, Started, Tries};
use crate::workflow::{Input, Rejection, Settings, StepEnd, Told};

/// Rounds of asking for a refund before a person has to look: with waits of up to 30 s that is about ten minutes.
const MOST_REFUND_ROUNDS: u32 = 24;

type Decision = Result<Vec<Event>, Rejection>;

/// A repeat, or an answer that came too late: nothing happens.
const NOTHING: Decision = Ok(Vec::new());

pub(super) fn decide(checkout: &Checkout, input: &Input<CheckoutCommand>) -> Decision {
    let Checkout::Started(started) = checkout else {
        return before_the_start(input);
    };
    match &input.told {
        Told::Asked(CheckoutCommand::Start { fingerprint, .. }) if *fingerprint == started.order.fingerprint => NOTHING,
        Told::Asked(CheckoutCommand::Start { .. }) => {
            Err(Rejection::No("another request has used this idempotency key".into()))
        }
        Told::Asked(CheckoutCommand::Cancel { by }) => match &started.phase {
            Phase::Reserving | Phase::OpeningPayment { .. } | Phase::AwaitingPayment => {
                Ok(vec![Event::CancelRequested { by: *by }])
            }
            Phase::ClosingPayment { .. } | Phase::Committing { .. } | Phase::Releasing { .. } => NOTHING,
            Phase::Ended { ending: Ending::Cancelled, .. } => NOTHING,
            Phase::Ended { ending, .. } => {
                Err(Rejection::No(format!("the checkout has ended: {}", ending.status().as_str())))
            }
        },
        Told::Asked(CheckoutCommand::StockAnswer { answer }) | Told::StockBooked(answer) => {
            stock_answered(started, answer, input.at)
        }
        Told::Asked(CheckoutCommand::Nudge) | Told::TimeHasCome => time_has_come(started, input.at),
        Told::StepEnded(end) => step_ended(started, end, input.at, &input.settings),
        Told::PaymentNotice(notice) => payment_notice(started, notice),
    }
}

fn before_the_start(input: &Input<CheckoutCommand>) -> Decision {
    match &input.told {
        Told::Asked(CheckoutCommand::Start { lines, total, fingerprint }) => Ok(vec![Event::CheckoutStarted {
            lines: lines.clone(),
            total: *total,
            fingerprint: fingerprint.clone(),
            payment_timeout_ms: u64::try_from(input.settings.payment_timeout.as_millis()).unwrap_or(u64::MAX),
            provider: input.settings.provider.clone(),
        }]),
        Told::PaymentNotice(_) => {
            Err(Rejection::NotStarted("the payment is about a checkout that does not exist".into()))
        }
        // Its start may be under way with a worker that has died: kept for a minute.
        Told::Asked(CheckoutCommand::Cancel { .. }) => {
            Err(Rejection::NotStarted("there is no such checkout to cancel".into()))
        }
        Told::Asked(_) | Told::StockBooked(_) | Told::StepEnded(_) | Told::TimeHasCome => {
            Err(Rejection::No("there is no such checkout".into()))
        }
    }
}

fn stock_answered(started: &Started, answer: &StockAnswer, at: Timestamp) -> Decision {
    match (&started.phase, answer) {
        (Phase::Reserving, StockAnswer::Reserved {}) => {
            let timeout = std::time::Duration::from_millis(started.order.payment_timeout_ms);
            Ok(vec![Event::StockReserved { payment_deadline: after(at, timeout) }])
        }
        (Phase::Reserving, StockAnswer::OutOfStock { lacking }) => {
            Ok(vec![Event::StockRefused { lacking: lacking.clone() }])
        }
        (Phase::Reserving, StockAnswer::Refused { command, .. }) if command == "reserve" => {
            Ok(vec![Event::StockRefused { lacking: Vec::new() }])
        }
        (Phase::Committing { .. }, StockAnswer::Committed {}) => Ok(vec![Event::StockSold {}]),
        (Phase::Committing { .. }, StockAnswer::Refused { command, reason }) if command == "commit" => {
            Ok(vec![Event::SaleRefused { reason: reason.clone() }])
        }
        (Phase::Releasing { .. }, StockAnswer::Released {}) => Ok(vec![Event::StockReleased {}]),
        (Phase::Releasing { .. }, StockAnswer::Refused { command, reason }) if command == "release" => {
            Err(Rejection::Contradiction(format!("the ledger refuses to take the goods back: {reason}")))
        }
        // The answer to a step that has been overtaken, such as a reservation that was cancelled meanwhile.
        _ => NOTHING,
    }
}

fn time_has_come(started: &Started, at: Timestamp) -> Decision {
    let deadline_passed = started.payment_deadline.is_some_and(|deadline| deadline <= at);
    match &started.phase {
        Phase::AwaitingPayment if deadline_passed => Ok(vec![Event::DeadlinePassed {}]),
        Phase::OpeningPayment { tries } if deadline_passed => {
            let reason = tries.last_failure.clone().unwrap_or_else(|| "the time to pay is over".into());
            Ok(vec![Event::PaymentGivenUp { reason }])
        }
        Phase::OpeningPayment { tries } => Ok(retried(PaymentStep::OpenSession, tries, at)),
        Phase::ClosingPayment { tries, .. } => Ok(retried(PaymentStep::CloseSession, tries, at)),
        Phase::Ended { refund: Some(Refund { progress: RefundProgress::Owed(tries), .. }), .. } => {
            Ok(retried(PaymentStep::Refund, tries, at))
        }
        Phase::Reserving
        | Phase::AwaitingPayment
        | Phase::Committing { .. }
        | Phase::Releasing { .. }
        | Phase::Ended { .. } => NOTHING,
    }
}

fn retried(step: PaymentStep, tries: &Tries, at: Timestamp) -> Vec<Event> {
    let due = tries.retry_at.is_some_and(|retry_at| retry_at <= at);
    if due { vec![Event::PaymentStepRetried { step, attempt: tries.next_attempt() }] } else { Vec::new() }
}

fn failed(step: PaymentStep, tries: &Tries, reason: &str, at: Timestamp, settings: &Settings) -> Event {
    let attempt = tries.next_attempt();
    Event::PaymentStepFailed { step, attempt, reason: reason.to_owned(), retry_at: settings.retry_at(at, attempt) }
}

fn step_ended(started: &Started, end: &StepEnd, at: Timestamp, settings: &Settings) -> Decision {
    match &started.phase {
        // Two workers can run the same round: when its failure is recorded, the other's does not count as another round.
        Phase::OpeningPayment { tries }
        | Phase::ClosingPayment { tries, .. }
        | Phase::Ended { refund: Some(Refund { progress: RefundProgress::Owed(tries), .. }), .. }
            if tries.retry_at.is_some() && is_a_failed_round(end) =>
        {
            NOTHING
        }
        Phase::OpeningPayment { tries } => opening_ended(started, tries, end, at, settings),
        Phase::ClosingPayment { tries, .. } => closing_ended(started, tries, end, at, settings),
        Phase::Ended { refund: Some(Refund { progress: RefundProgress::Owed(tries), .. }), .. } => {
            refund_ended(tries, end, at, settings)
        }
        // The workflow has moved on while the step ran; what the step did is found again by its idempotency key.
        Phase::Reserving
        | Phase::AwaitingPayment
        | Phase::Committing { .. }
        | Phase::Releasing { .. }
        | Phase::Ended { .. } => NOTHING,
    }
}

/// Ends after which the same call is owed again.
fn is_a_failed_round(end: &StepEnd) -> bool {
    matches!(end, StepEnd::NoAnswer { .. } | StepEnd::Refused { step: PaymentStep::CloseSession, .. })
}

fn opening_ended(started: &Started, tries: &Tries, end: &StepEnd, at: Timestamp, settings: &Settings) -> Decision {
    match end {
        StepEnd::SessionOpened(session) => Ok(vec![Event::PaymentSessionOpened {
            session_id: session.session_id.clone(),
            payment_url: session.payment_url.clone(),
        }]),
        StepEnd::Refused { step: PaymentStep::OpenSession, reason } if tries.failed == 0 => {
            Ok(vec![Event::PaymentRefused { reason: reason.clone() }])
        }
        // An earlier round may have opened a session without our knowing: it must be closed first.
        StepEnd::Refused { step: PaymentStep::OpenSession, reason } => {
            Ok(vec![Event::PaymentGivenUp { reason: reason.clone() }])
        }
        StepEnd::NoAnswer { step: PaymentStep::OpenSession, reason } => {
            let out_of_time = started.payment_deadline.is_some_and(|deadline| deadline <= at);
            if out_of_time {
                Ok(vec![Event::PaymentGivenUp { reason: reason.clone() }])
            } else {
                Ok(vec![failed(PaymentStep::OpenSession, tries, reason, at, settings)])
            }
        }
        _ => NOTHING,
    }
}

fn closing_ended(started: &Started, tries: &Tries, end: &StepEnd, at: Timestamp, settings: &Settings) -> Decision {
    match end {
        StepEnd::SessionClosed(Closed::NobodyCanPay) => Ok(vec![Event::PaymentSessionClosed {}]),
        StepEnd::SessionClosed(Closed::AlreadyPaid(notice)) if started.is_right_amount(notice) => {
            Ok(vec![Event::PaymentReceived { notice: notice.clone() }])
        }
        StepEnd::SessionClosed(Closed::AlreadyPaid(notice)) => {
            Ok(vec![Event::WrongAmountReceived { notice: notice.clone() }])
        }
        // While it is not certain that nobody can pay, the stock stays reserved and the provider is asked again.
        StepEnd::Refused { step: PaymentStep::CloseSession, reason }
        | StepEnd::NoAnswer { step: PaymentStep::CloseSession, reason } => {
            Ok(vec![failed(PaymentStep::CloseSession, tries, reason, at, settings)])
        }
        _ => NOTHING,
    }
}

fn refund_ended(tries: &Tries, end: &StepEnd, at: Timestamp, settings: &Settings) -> Decision {
    match end {
        StepEnd::Refunded { refund_id } => Ok(vec![Event::Refunded { refund_id: refund_id.clone() }]),
        StepEnd::Refused { step: PaymentStep::Refund, reason } => {
            Ok(vec![Event::RefundNeedsAttention { reason: reason.clone() }])
        }
        StepEnd::NoAnswer { step: PaymentStep::Refund, reason } if tries.next_attempt() >= MOST_REFUND_ROUNDS => {
            Ok(vec![Event::RefundNeedsAttention { reason: reason.clone() }])
        }
        StepEnd::NoAnswer { step: PaymentStep::Refund, reason } => {
            Ok(vec![failed(PaymentStep::Refund, tries, reason, at, settings)])
        }
        _ => NOTHING,
    }
}

/// A notice counts only for the recorded session, and a payment only with the right amount.
fn payment_notice(started: &Started, notice: &PaymentNotice) -> Decision {
    if let Some(session) = &started.session
        && *session != notice.session_id
    {
        let told = &notice.session_id;
        return Err(Rejection::Contradiction(format!(
            "the payment is about session {told}, but this checkout's is {session}"
        )));
    }
    match notice.outcome {
        PaymentOutcome::Paid => paid(started, notice),
        PaymentOutcome::Declined | PaymentOutcome::Cancelled => not_paid(started, notice),
    }
}

fn paid(started: &Started, notice: &PaymentNotice) -> Decision {
    match &started.phase {
        Phase::Reserving | Phase::OpeningPayment { .. } => Err(session_not_recorded(notice)),
        Phase::AwaitingPayment | Phase::ClosingPayment { .. } if started.session.is_none() => {
            Err(session_not_recorded(notice))
        }
        Phase::AwaitingPayment | Phase::ClosingPayment { .. } if started.is_right_amount(notice) => {
            Ok(vec![Event::PaymentReceived { notice: notice.clone() }])
        }
        Phase::AwaitingPayment | Phase::ClosingPayment { .. } => Err(Rejection::Contradiction(format!(
            "the provider took {}, but the order costs {}",
            notice.amount, started.order.total
        ))),
        // Told again, or told of what the provider had answered us already.
        Phase::Committing { .. } | Phase::Ended { ending: Ending::Paid, .. } => NOTHING,
        Phase::Releasing { money: Some(_), .. } | Phase::Ended { refund: Some(_), .. } => NOTHING,
        Phase::Releasing { money: None, .. } | Phase::Ended { refund: None, .. } => {
            Ok(vec![Event::LatePaymentReceived { notice: notice.clone() }])
        }
    }
}

fn not_paid(started: &Started, notice: &PaymentNotice) -> Decision {
    match &started.phase {
        Phase::Reserving | Phase::OpeningPayment { .. } => Err(session_not_recorded(notice)),
        Phase::AwaitingPayment => Ok(vec![match notice.outcome {
            PaymentOutcome::Cancelled => Event::PaymentCancelled { notice: notice.clone() },
            PaymentOutcome::Declined | PaymentOutcome::Paid => Event::PaymentDeclined { notice: notice.clone() },
        }]),
        // Paid stays paid, and what is being undone is being undone.
        Phase::ClosingPayment { .. } | Phase::Committing { .. } | Phase::Releasing { .. } | Phase::Ended { .. } => {
            NOTHING
        }
    }
}

fn session_not_recorded(notice: &PaymentNotice) -> Rejection {
    Rejection::NotYet(format!("session {} is not recorded yet", notice.session_id))
}
