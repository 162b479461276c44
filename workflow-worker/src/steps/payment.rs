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
    let mut unanswered = false;
    let waits =
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_jitter().with_max_times(REPEATS);
    let answer = call
        .retry(waits)
        .when(|error| matches!(error, ProviderError::Unknown { .. }) && started.elapsed() < ROUND)
        .notify(|_, _| unanswered = true)
        .await;
    match answer {
        // A call of this round that got no answer may have done what this one was refused: nothing is certain.
        Err(ProviderError::Refused { reason }) if unanswered => {
            Err(ProviderError::Unknown { reason: format!("refused after a call without an answer: {reason}") })
        }
        answer => answer,
    }
}

fn ended(step: PaymentStep, answer: Result<StepEnd, ProviderError>) -> StepOutcome {
    StepOutcome::Ended(match answer {
        Ok(end) => end,
        Err(ProviderError::Refused { reason }) => StepEnd::Refused { step, reason },
        Err(ProviderError::Unknown { reason }) => StepEnd::NoAnswer { step, reason },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers in turn.
    async fn of(answers: Vec<Result<(), ProviderError>>) -> Result<(), ProviderError> {
        let mut answers = answers.into_iter();
        repeated(|| {
            let answer = answers.next().expect("no more calls than answers");
            async move { answer }
        })
        .await
    }

    fn unknown() -> Result<(), ProviderError> {
        Err(ProviderError::Unknown { reason: "no answer".into() })
    }

    fn refused() -> Result<(), ProviderError> {
        Err(ProviderError::Refused { reason: "no".into() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_while_nobody_knows_what_became_of_it() {
        assert_eq!(of(vec![unknown(), unknown(), Ok(())]).await, Ok(()));
        assert!(matches!(of(vec![unknown(), unknown(), unknown()]).await, Err(ProviderError::Unknown { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_certain_only_when_every_call_was_answered() {
        assert_eq!(of(vec![refused()]).await, refused());
        assert!(matches!(of(vec![unknown(), refused()]).await, Err(ProviderError::Unknown { .. })));
    }
}
