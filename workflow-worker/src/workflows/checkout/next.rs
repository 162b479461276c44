//! What a state owes.

use common::{
    contracts::{
        checkout::{Line, PaymentNotice},
        inventory::StockLine,
    },
    ids::WorkflowId,
    payment::{CloseSession, CreateSession, RefundRequest},
    time::Timestamp,
};

use super::state::{Checkout, Phase, Refund, RefundProgress, Started};
use crate::workflow::{Next, Step};

pub(super) fn next(checkout: &Checkout, id: WorkflowId) -> Next {
    let Checkout::Started(started) = checkout else {
        return Next::Wait { until: None };
    };
    match &started.phase {
        Phase::Reserving => Next::Run(Step::ReserveStock(stock_lines(&started.order.lines))),
        Phase::OpeningPayment { tries } => match tries.retry_at {
            Some(retry_at) => {
                let deadline = started.payment_deadline.unwrap_or(Timestamp::MAX);
                Next::Wait { until: Some(retry_at.min(deadline)) }
            }
            None => Next::Run(Step::OpenSession(create_session(started, id))),
        },
        Phase::AwaitingPayment => Next::Wait { until: started.payment_deadline },
        Phase::ClosingPayment { tries, .. } => match tries.retry_at {
            Some(retry_at) => Next::Wait { until: Some(retry_at) },
            None => Next::Run(Step::CloseSession(CloseSession {
                session_id: started.session.clone(),
                created_by: create_session(started, id),
            })),
        },
        Phase::Committing { .. } => Next::Run(Step::CommitStock),
        Phase::Releasing { .. } => Next::Run(Step::ReleaseStock),
        Phase::Ended { refund: Some(Refund { money, progress: RefundProgress::Owed(tries) }), .. } => {
            match tries.retry_at {
                Some(retry_at) => Next::Wait { until: Some(retry_at) },
                None => Next::Run(Step::Refund(refund(money, id))),
            }
        }
        Phase::Ended { .. } => Next::Done,
    }
}

fn stock_lines(lines: &[Line]) -> Vec<StockLine> {
    lines.iter().map(|line| StockLine { sku: line.sku.clone(), quantity: line.quantity }).collect()
}

/// Everything in it follows from the history, so that whoever repeats the call sends the same.
fn create_session(started: &Started, id: WorkflowId) -> CreateSession {
    CreateSession {
        reference: id,
        idempotency_key: id.derive("payment-session"),
        lines: started.order.lines.clone(),
        amount: started.order.total,
        expires_at: started.payment_deadline.unwrap_or(Timestamp::MAX),
    }
}

fn refund(money: &PaymentNotice, id: WorkflowId) -> RefundRequest {
    RefundRequest {
        reference: id,
        idempotency_key: id.derive("late-money-refund"),
        session_id: money.session_id.clone(),
        amount: money.amount,
    }
}
