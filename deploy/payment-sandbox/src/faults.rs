//! The fault script: a test tells the provider how to misbehave. Off unless the service was started with it, and
//! forgotten when it stops.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Everything that the fault can be done to.
    #[default]
    Any,
    /// `POST /api/create_payment_session`
    CreateSession,
    /// `GET /api/session/{id}`
    LookUp,
    /// `POST /api/submit_payment`
    SubmitPayment,
    /// `POST /api/decline_payment`
    DeclinePayment,
    /// `POST /api/cancel_payment`
    CancelPayment,
    /// `POST /api/expire_session`
    ExpireSession,
    /// `POST /api/refund`
    Refund,
    /// The webhooks that this service sends.
    Webhook,
}

/// How the provider misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Answer 500 and do nothing.
    #[serde(rename = "error_500")]
    Error500,
    /// Do it, and answer 500.
    #[serde(rename = "error_500_after")]
    Error500After,
    /// Do nothing and answer nothing for `millis` (60 s), then 503.
    Hang,
    /// Do it after `millis` (1 s), even if the caller has gone by then.
    Slow,
    /// Answer 429 and do nothing.
    RateLimited,
    /// Answer 409, as if the same call were under way, and do nothing.
    #[serde(rename = "conflict_409")]
    Conflict409,
    /// Answer 400 and do nothing.
    #[serde(rename = "refuse_400")]
    Refuse400,
    /// Do it, and answer 200 with half of a JSON document.
    BrokenJson,
    /// Do it, and answer without the `url`.
    NoUrl,
    /// Do it, and drop the connection without an answer.
    LostAnswer,
    /// Drop the connection without doing or answering anything.
    Down,
    /// Let a customer pay a session that is expired, cancelled or declined.
    PayAfterClose,
    /// Do not deliver webhooks until this rule is taken away.
    Hold,
    /// Deliver a webhook, and at the same time `copies` (1) more of it.
    Duplicate,
    /// Deliver a webhook `millis` (1 s) late.
    #[serde(alias = "delay_ms")]
    Delay,
    /// Tell one minor unit more than was paid.
    WrongAmount,
    /// Tell another currency than was paid in.
    WrongCurrency,
    /// Tell of a session that does not exist.
    WrongSession,
    /// Sign with a secret that nobody knows.
    WrongSignature,
    /// Sign as if it were ten minutes ago.
    Stale,
}

/// What a fault can be done to.
#[derive(PartialEq, Eq)]
enum Where {
    Calls,
    Payment,
    Webhooks,
}

impl Fault {
    fn place(self) -> Where {
        match self {
            Self::Error500
            | Self::Error500After
            | Self::Hang
            | Self::Slow
            | Self::RateLimited
            | Self::Conflict409
            | Self::Refuse400
            | Self::BrokenJson
            | Self::NoUrl
            | Self::LostAnswer
            | Self::Down => Where::Calls,
            Self::PayAfterClose => Where::Payment,
            Self::Hold
            | Self::Duplicate
            | Self::Delay
            | Self::WrongAmount
            | Self::WrongCurrency
            | Self::WrongSession
            | Self::WrongSignature
            | Self::Stale => Where::Webhooks,
        }
    }
}

/// One rule of the script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What it is about.
    #[serde(default)]
    pub call: Call,
    /// What happens.
    pub fault: Fault,
    /// How often it happens; for ever when it is not said.
    #[serde(default)]
    pub times: Option<u32>,
    /// How long, for faults that take time.
    #[serde(default)]
    pub millis: Option<u64>,
    /// How many copies, for `duplicate`.
    #[serde(default)]
    pub copies: Option<u16>,
    /// Only for sessions with this `client_reference_id`.
    #[serde(default)]
    pub reference: Option<String>,
}

impl FaultRule {
    /// Why the rule can never do anything, in words.
    ///
    /// # Errors
    /// The words.
    pub fn check(&self) -> Result<(), &'static str> {
        let fits = match self.fault.place() {
            Where::Calls => self.call != Call::Webhook,
            Where::Payment => matches!(self.call, Call::Any | Call::SubmitPayment),
            Where::Webhooks => matches!(self.call, Call::Any | Call::Webhook),
        };
        if !fits {
            return Err("This fault cannot be done to this call.");
        }
        match (self.times, self.fault) {
            (Some(0), _) => Err("times must be at least 1; leave it out for a rule that always holds."),
            (Some(_), Fault::Hold) => Err("hold has no times: it ends when the rules are deleted."),
            _ => Ok(()),
        }
    }

    fn is_for(&self, call: Call, reference: &str) -> bool {
        (self.call == Call::Any || self.call == call)
            && self.reference.as_deref().is_none_or(|wanted| wanted == reference)
    }
}

/// The rules that hold now.
pub(crate) struct Faults {
    rules: Option<Mutex<Vec<FaultRule>>>,
    changed: watch::Sender<()>,
}

impl Faults {
    /// A script that may be written, or one that stays empty for ever.
    pub(crate) fn new(enabled: bool) -> Self {
        Self { rules: enabled.then(Mutex::default), changed: watch::Sender::new(()) }
    }

    /// Whether rules are accepted.
    pub(crate) fn are_enabled(&self) -> bool {
        self.rules.is_some()
    }

    /// Add rules at the end of the script.
    pub(crate) fn add(&self, more: Vec<FaultRule>) {
        if let Some(mut rules) = self.locked() {
            rules.extend(more);
        }
        self.changed.send_replace(());
    }

    /// Forget all rules.
    pub(crate) fn clear(&self) {
        if let Some(mut rules) = self.locked() {
            rules.clear();
        }
        self.changed.send_replace(());
    }

    /// The rules that still hold, with the times that are left.
    pub(crate) fn list(&self) -> Vec<FaultRule> {
        self.locked().map(|rules| rules.clone()).unwrap_or_default()
    }

    /// Told after every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The first fault for a call, which is one time less from now on.
    pub(crate) fn for_call(&self, call: Call, reference: &str) -> Option<FaultRule> {
        self.take(|rule| rule.fault.place() == Where::Calls && rule.is_for(call, reference))
    }

    /// Whether a customer may pay although the session is closed.
    pub(crate) fn allow_late_payment(&self, reference: &str) -> bool {
        let late = |rule: &FaultRule| rule.fault == Fault::PayAfterClose && rule.is_for(Call::SubmitPayment, reference);
        self.take(late).is_some()
    }

    /// Whether webhooks of this reference are held back.
    pub(crate) fn hold_webhook(&self, reference: &str) -> bool {
        let hold = |rule: &FaultRule| rule.fault == Fault::Hold && rule.is_for(Call::Webhook, reference);
        self.locked().is_some_and(|rules| rules.iter().any(hold))
    }

    /// A webhook fault of one sort, which is one time less from now on.
    pub(crate) fn for_webhook(&self, fault: Fault, reference: &str) -> Option<FaultRule> {
        self.take(|rule| rule.fault == fault && rule.is_for(Call::Webhook, reference))
    }

    fn take(&self, wanted: impl Fn(&FaultRule) -> bool) -> Option<FaultRule> {
        let mut rules = self.locked()?;
        let index = rules.iter().position(wanted)?;
        let rule = rules[index].clone();
        match &mut rules[index].times {
            Some(1) => drop(rules.remove(index)),
            Some(times) => *times -= 1,
            None => {}
        }
        Some(rule)
    }

    fn locked(&self) -> Option<MutexGuard<'_, Vec<FaultRule>>> {
        // A list of rules is whole whatever panicked beside it.
        self.rules.as_ref().map(|rules| rules.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> FaultRule {
        serde_json::from_str(json).expect("a rule")
    }

    #[test]
    fn a_rule_holds_as_often_as_it_says() {
        let faults = Faults::new(true);
        faults.add(vec![rule(r#"{"call":"refund","fault":"error_500","times":2}"#)]);
        let refunds = || faults.for_call(Call::Refund, "a").is_some();
        assert_eq!(faults.for_call(Call::CreateSession, "a"), None);
        assert_eq!([refunds(), refunds(), refunds()], [true, true, false]);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_rule_may_be_for_one_reference() {
        let faults = Faults::new(true);
        faults.add(vec![rule(r#"{"fault":"down","reference":"a"}"#)]);
        assert!(faults.for_call(Call::Refund, "b").is_none());
        assert!(faults.for_call(Call::Refund, "a").is_some());
    }

    #[test]
    fn without_leave_no_rule_is_kept() {
        let faults = Faults::new(false);
        faults.add(vec![rule(r#"{"fault":"down"}"#)]);
        assert!(faults.for_call(Call::Refund, "a").is_none());
        assert!(!faults.are_enabled());
    }

    #[test]
    fn rules_that_can_do_nothing_are_found() {
        for useless in [
            r#"{"call":"webhook","fault":"down"}"#,
            r#"{"call":"refund","fault":"hold"}"#,
            r#"{"call":"refund","fault":"pay_after_close"}"#,
            r#"{"fault":"down","times":0}"#,
            r#"{"fault":"hold","times":1}"#,
        ] {
            assert!(rule(useless).check().is_err(), "{useless}");
        }
        assert_eq!(rule(r#"{"call":"webhook","fault":"delay_ms","millis":5}"#).check(), Ok(()));
    }
}
