//! Time as the system records it: UTC, whole milliseconds, RFC 3339 in JSON.

use jiff::SignedDuration;
pub use jiff::Timestamp;

/// This machine's clock. Only the outermost code asks it: decisions get their time with the command.
#[must_use]
pub fn now() -> Timestamp {
    to_milliseconds(Timestamp::now())
}

/// The same instant without what is finer than a millisecond, which nobody needs to read or store.
#[must_use]
pub fn to_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// The time the NATS server gave a message, in our type; the Unix epoch if it is out of range.
#[must_use]
pub fn from_server(at: async_nats::datetime::DateTime) -> Timestamp {
    Timestamp::from_nanosecond(at.unix_timestamp_nanos()).map(to_milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `at` plus a span; the last representable instant if the sum lies beyond it.
#[must_use]
pub fn after(at: Timestamp, span: std::time::Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

/// How long it is from now until `at` by this machine's clock; zero if it has passed.
#[must_use]
pub fn until(at: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
}

/// A span in words for people: `90 s`, `2 min`, `30 min`.
#[must_use]
pub fn in_words(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    if seconds >= 120 && seconds.is_multiple_of(60) { format!("{} min", seconds / 60) } else { format!("{seconds} s") }
}

/// Read a span as people write it: `500ms`, `90s`, `30m`, `1h 30m`.
///
/// # Errors
/// A text that says what was expected.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|span| std::time::Duration::try_from(span).ok())
        .ok_or_else(|| format!("{text:?} is not a time such as 500ms, 90s, 30m or 2h"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("30m"), Ok(Duration::from_secs(1_800)));
        for wrong in ["", "120", "-3s", "soon"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_the_last_one() {
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(after(Timestamp::UNIX_EPOCH, Duration::from_secs(1)).as_second(), 1);
    }
}
