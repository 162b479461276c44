//! What must hold, judged from the facts alone, a second time and apart from the services' and the doctor's own code.
//!
//! Every check is a pure function, and for each there is a test in which it fails.

mod histories;
mod money;
mod stock;
mod streams;
#[cfg(test)]
mod tests;
mod told;

use super::{facts::Facts, report::Violation};

/// The violations so far.
#[derive(Debug, Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, check: &'static str, subject: impl ToString, text: impl Into<String>) {
        self.0.push(Violation { check, subject: subject.to_string(), text: text.into() });
    }
}

/// Everything that does not hold.
pub(super) fn check(facts: &Facts) -> Vec<Violation> {
    let mut violations = Violations::default();
    let stories = histories::read(facts, &mut violations);
    histories::check(&stories, &mut violations);
    told::check(facts, &stories, &mut violations);
    money::check(facts, &stories, &mut violations);
    stock::check(facts, &stories, &mut violations);
    streams::check(facts, &mut violations);
    violations.0
}
