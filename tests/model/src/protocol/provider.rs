//! The payment provider and the customer: one session per key, one refund per key; answers can be lost, money can come
//! when it should not be possible any more.

use super::{
    bounds::Mechanism,
    rules::{End, Message, Owed},
    state::{Checkout, Session},
    step::{By, Gathering, What},
    worker::{Turn, ended},
};

/// A worker calls the provider: each way that can end.
pub(super) fn call(gathering: &mut Gathering<'_>, turn: Turn, revision: u8, state: u16) {
    let Turn { worker, checkout, .. } = turn;
    let owed = gathering.rules.owed(state);
    let from = *gathering.from;
    let mut acted = from;
    let (answer, unheard) = match owed {
        Owed::OpenSession => (open(acted.checkout_mut(checkout), gathering.bounds.without), End::OpenUnanswered),
        Owed::CloseSession if gathering.bounds.without == Some(Mechanism::CloseBeforeRelease) => {
            (End::NobodyCanPay, End::CloseUnanswered)
        }
        Owed::CloseSession => (close(acted.checkout_mut(checkout)), End::CloseUnanswered),
        _ => (refund(acted.checkout_mut(checkout), gathering.bounds.without), End::RefundUnanswered),
    };
    let what = What::ProviderAnswers { worker, checkout, end: answer };
    ended(gathering, By::System, what, acted, turn, revision, answer);
    if from.budgets.unanswered > 0 {
        for (has_acted, mut to) in [(false, from), (true, acted)] {
            to.budgets.unanswered -= 1;
            let what = What::ProviderIsNotHeard { worker, checkout, end: unheard, has_acted };
            ended(gathering, By::Outside, what, to, turn, revision, unheard);
        }
    }
    if owed == Owed::OpenSession
        && from.budgets.provider_faults > 0
        && from.checkout(checkout).session == Session::NeverCreated
    {
        let mut to = from;
        to.budgets.provider_faults -= 1;
        // A key that was refused once is refused for ever.
        to.checkout_mut(checkout).session = Session::NeverWillBe;
        let what = What::ProviderAnswers { worker, checkout, end: End::OpenRefused };
        ended(gathering, By::Outside, what, to, turn, revision, End::OpenRefused);
    }
}

fn open(checkout: &mut Checkout, without: Option<Mechanism>) -> End {
    match checkout.session {
        Session::NeverWillBe => return End::OpenRefused,
        Session::NeverCreated => checkout.session = Session::Open,
        Session::Open | Session::TurnedAway | Session::Closed | Session::Paid => {
            if without == Some(Mechanism::SessionKey) {
                checkout.more_sessions = 1;
            }
        }
    }
    End::Opened
}

fn close(checkout: &mut Checkout) -> End {
    let (session, end) = match checkout.session {
        Session::Paid => (Session::Paid, End::AlreadyPaid),
        Session::NeverCreated | Session::NeverWillBe => (Session::NeverWillBe, End::NobodyCanPay),
        Session::Open | Session::TurnedAway | Session::Closed => (Session::Closed, End::NobodyCanPay),
    };
    checkout.session = session;
    end
}

fn refund(checkout: &mut Checkout, without: Option<Mechanism>) -> End {
    if checkout.refunds == 0 || without == Some(Mechanism::RefundKey) {
        checkout.refunds += 1;
    }
    End::Refunded
}

/// What the customer can do.
pub(super) fn customer(gathering: &mut Gathering<'_>, checkout: u8) {
    let from = gathering.from;
    let its = from.checkout(checkout);
    match its.session {
        Session::Open | Session::TurnedAway => {
            pay(gathering, checkout, true, false);
            if from.budgets.provider_faults > 0 {
                pay(gathering, checkout, false, false);
            }
        }
        Session::Closed if from.budgets.provider_faults > 0 => pay(gathering, checkout, true, true),
        Session::Closed | Session::NeverCreated | Session::NeverWillBe | Session::Paid => {}
    }
    if its.session == Session::Open && gathering.bounds.customers_change_their_minds {
        let mut to = *from;
        let its = to.checkout_mut(checkout);
        its.session = Session::TurnedAway;
        its.messages.publish(Message::Declined.bit());
        gathering.can(By::Outside, What::CustomerIsDeclined { checkout }, to);
    }
    if its.more_sessions > 0 {
        let mut to = *from;
        let its = to.checkout_mut(checkout);
        its.more_sessions -= 1;
        its.charges += 1;
        its.messages.publish(Message::PaidAnotherSession.bit());
        gathering.can(By::Outside, What::CustomerPaysAnotherSession { checkout }, to);
    }
    if its.may_cancel {
        let mut to = *from;
        let its = to.checkout_mut(checkout);
        its.may_cancel = false;
        its.messages.publish(Message::Cancel.bit());
        gathering.can(By::Outside, What::CustomerCancels { checkout }, to);
    }
}

fn pay(gathering: &mut Gathering<'_>, checkout: u8, is_told: bool, session_was_closed: bool) {
    let mut to = *gathering.from;
    if !is_told || session_was_closed {
        to.budgets.provider_faults -= 1;
    }
    let its = to.checkout_mut(checkout);
    its.session = Session::Paid;
    its.charges += 1;
    if is_told {
        its.messages.publish(Message::Paid.bit());
    } else {
        its.messages.publish_unheard(Message::Paid.bit());
    }
    gathering.can(By::Outside, What::CustomerPays { checkout, is_told, session_was_closed }, to);
}
