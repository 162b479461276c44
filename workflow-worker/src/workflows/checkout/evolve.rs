//! What an event leads to. Never refuses: it has happened. An event in a phase in which no version of `decide` writes it
//! is believed all the same; when it says too little to make the next phase from, the phase stays as it is.

use common::contracts::checkout::{CheckoutEvent as Event, PaymentNotice, PaymentStep};

use super::state::{Checkout, Ending, Order, Phase, Refund, RefundProgress, Started, Tries};

pub(super) fn evolve(checkout: Checkout, event: &Event) -> Checkout {
    match (checkout, event) {
        (Checkout::NotStarted, Event::CheckoutStarted { lines, total, fingerprint, payment_timeout_ms, provider }) => {
            Checkout::Started(Box::new(Started {
                order: Order {
                    lines: lines.clone(),
                    total: *total,
                    fingerprint: fingerprint.clone(),
                    payment_timeout_ms: *payment_timeout_ms,
                    provider: provider.clone(),
                },
                phase: Phase::Reserving,
                session: None,
                payment_deadline: None,
            }))
        }
        (Checkout::NotStarted, _) => Checkout::NotStarted,
        (Checkout::Started(mut started), event) => {
            remember(&mut started, event);
            let phase = std::mem::replace(&mut started.phase, Phase::Reserving);
            started.phase = next_phase(phase, event);
            Checkout::Started(started)
        }
    }
}

/// Facts that outlive the phase in which they became known.
fn remember(started: &mut Started, event: &Event) {
    match event {
        Event::StockReserved { payment_deadline } => started.payment_deadline = Some(*payment_deadline),
        Event::PaymentSessionOpened { session_id, .. } => started.session = Some(session_id.clone()),
        // The answer to opening it may never have arrived: then the money tells which session it is, and money of any
        // other one is not ours to judge.
        Event::PaymentReceived { notice }
        | Event::WrongAmountReceived { notice }
        | Event::LatePaymentReceived { notice } => {
            started.session.get_or_insert_with(|| notice.session_id.clone());
        }
        _ => {}
    }
}

fn next_phase(phase: Phase, event: &Event) -> Phase {
    match event {
        Event::CheckoutStarted { .. } => phase,
        Event::StockReserved { .. } => Phase::OpeningPayment { tries: Tries::default() },
        Event::StockRefused { .. } => Phase::Ended { ending: Ending::OutOfStock, refund: None },
        Event::PaymentSessionOpened { .. } => Phase::AwaitingPayment,
        Event::PaymentRefused { .. } => Phase::Releasing { ending: Ending::PaymentUnavailable, money: None },
        Event::PaymentStepFailed { step, attempt, reason, retry_at } => with_tries(
            phase,
            *step,
            Tries { failed: *attempt, retry_at: Some(*retry_at), last_failure: Some(reason.clone()) },
        ),
        Event::PaymentStepRetried { step, attempt } => {
            let last_failure = tries_of(&phase, *step).and_then(|tries| tries.last_failure.clone());
            with_tries(phase, *step, Tries { failed: attempt.saturating_sub(1), retry_at: None, last_failure })
        }
        Event::PaymentReceived { notice } => Phase::Committing { paid: notice.clone() },
        Event::WrongAmountReceived { notice } => {
            Phase::Releasing { ending: ending_of(&phase), money: Some(notice.clone()) }
        }
        Event::PaymentDeclined { .. } => closing(Ending::Declined),
        Event::PaymentCancelled { .. } => closing(Ending::Cancelled),
        Event::CancelRequested { .. } => match phase {
            // No session was ever asked for, so there is none to close.
            Phase::Reserving => Phase::Releasing { ending: Ending::Cancelled, money: None },
            _ => closing(Ending::Cancelled),
        },
        Event::DeadlinePassed {} => closing(Ending::Expired),
        Event::PaymentGivenUp { .. } => closing(Ending::PaymentUnavailable),
        Event::PaymentSessionClosed {} => Phase::Releasing { ending: ending_of(&phase), money: None },
        Event::StockSold {} => Phase::Ended { ending: Ending::Paid, refund: None },
        Event::SaleRefused { .. } => match phase {
            Phase::Committing { paid } => Phase::Ended { ending: Ending::Cancelled, refund: Some(owed(paid)) },
            other => other,
        },
        Event::StockReleased {} => match phase {
            Phase::Releasing { ending, money } => Phase::Ended { ending, refund: money.map(owed) },
            other => other,
        },
        Event::LatePaymentReceived { notice } => match phase {
            Phase::Releasing { ending, .. } => Phase::Releasing { ending, money: Some(notice.clone()) },
            Phase::Ended { ending, .. } => Phase::Ended { ending, refund: Some(owed(notice.clone())) },
            other => other,
        },
        Event::Refunded { .. } => with_refund(phase, RefundProgress::Refunded),
        Event::RefundNeedsAttention { .. } => with_refund(phase, RefundProgress::NeedsAttention),
    }
}

fn closing(ending: Ending) -> Phase {
    Phase::ClosingPayment { ending, tries: Tries::default() }
}

fn owed(money: PaymentNotice) -> Refund {
    Refund { money, progress: RefundProgress::Owed(Tries::default()) }
}

fn ending_of(phase: &Phase) -> Ending {
    match phase {
        Phase::ClosingPayment { ending, .. } | Phase::Releasing { ending, .. } | Phase::Ended { ending, .. } => *ending,
        Phase::Reserving | Phase::OpeningPayment { .. } | Phase::AwaitingPayment | Phase::Committing { .. } => {
            Ending::Cancelled
        }
    }
}

fn tries_of(phase: &Phase, step: PaymentStep) -> Option<&Tries> {
    match (phase, step) {
        (Phase::OpeningPayment { tries }, PaymentStep::OpenSession)
        | (Phase::ClosingPayment { tries, .. }, PaymentStep::CloseSession)
        | (
            Phase::Ended { refund: Some(Refund { progress: RefundProgress::Owed(tries), .. }), .. },
            PaymentStep::Refund,
        ) => Some(tries),
        _ => None,
    }
}

fn with_tries(phase: Phase, step: PaymentStep, tries: Tries) -> Phase {
    match (phase, step) {
        (Phase::OpeningPayment { .. }, PaymentStep::OpenSession) => Phase::OpeningPayment { tries },
        (Phase::ClosingPayment { ending, .. }, PaymentStep::CloseSession) => Phase::ClosingPayment { ending, tries },
        (Phase::Ended { ending, refund: Some(Refund { money, .. }) }, PaymentStep::Refund) => {
            Phase::Ended { ending, refund: Some(Refund { money, progress: RefundProgress::Owed(tries) }) }
        }
        (other, _) => other,
    }
}

fn with_refund(phase: Phase, progress: RefundProgress) -> Phase {
    match phase {
        Phase::Ended { ending, refund: Some(Refund { money, .. }) } => {
            Phase::Ended { ending, refund: Some(Refund { money, progress }) }
        }
        other => other,
    }
}
