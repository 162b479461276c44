//! Local steps: calls to the payment provider. A call that fails for now is repeated a few times at once; after that
//! the workflow records it and waits for its next round without holding a lease.

use std::{future::Future, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use common::{
    contracts::checkout::PaymentStep,
    payment::{CloseSession, CreateSession, PaymentProvider, ProviderError, RefundRequest, RefundState},
};
use tokio::time::Instant;

use super::StepOutcome;
use crate::workflow::StepEnd;

/// Repeats at once: enough for a dropped connection, too few to keep a lease on a provider that is down.
const REPEATS: usize = 2;

/// After this no further repeat is begun, so that a round ends well within the time after which a silent worker's
/// command goes to another.
const ROUND: Duration = Duration::from_secs(6);

pub(super) async fn open(provider: &dyn PaymentProvider, request: &CreateSession) -> StepOutcome {
    common::crash_point!("worker.open_session.before_call");
    let answer = repeated(|| provider.create_session(request)).await;
    common::crash_point!("worker.open_session.after_call");
    ended(PaymentStep::OpenSession, answer.map(StepEnd::SessionOpened))
}

pub(super) async fn close(provider: &dyn PaymentProvider, request: &CloseSession) -> StepOutcome {
    common::crash_point!("worker.close_session.before_call");
    let answer = repeated(|| provider.close_session(request)).await;
    common::crash_point!("worker.close_session.after_call");
    ended(PaymentStep::CloseSession, answer.map(StepEnd::SessionClosed))
}

pub(super) async fn refund(provider: &dyn PaymentProvider, request: &RefundRequest) -> StepOutcome {
    common::crash_point!("worker.refund.before_call");
    let answer = repeated(|| provider.refund(request)).await;
    common::crash_point!("worker.refund.after_call");
    ended(PaymentStep::Refund, answer.map(|RefundState::Refunded { refund_id }| StepEnd::Refunded { refund_id }))
}

async fn repeated<T, F>(call: impl FnMut() -> F) -> Result<T, ProviderError>
where
    F: Future<Output = Result<T, ProviderError>>,
{
    let started = Instant::now();
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_jitter()
        .with_max_times(REPEATS);
    call.retry(waits)
        .when(|error| matches!(error, ProviderError::Unknown { .. }) && started.elapsed() < ROUND)
        .await
}

fn ended(step: PaymentStep, answer: Result<StepEnd, ProviderError>) -> StepOutcome {
    StepOutcome::Ended(match answer {
        Ok(end) => end,
        Err(ProviderError::Refused { reason }) => StepEnd::Refused { step, reason },
        Err(ProviderError::Unknown { reason }) => StepEnd::NoAnswer { step, reason },
    })
}
