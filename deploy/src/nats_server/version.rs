//! Versions of nats-server: which is too old, and which one is installed.

use std::fmt;

use super::NatsServerError;

/// The oldest server that has the fixes to atomic batches and schedules which this system stands on.
pub const LEAST_VERSION: Version = Version::released(2, 14, 5);

/// The server that is installed when none is found, and the one that everything was measured on.
pub const PINNED_VERSION: Version = Version::released(2, 15, 1);

/// A version of nats-server. A pre-release (`2.15.0-RC.1`) is older than its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    // The derived order compares the fields from top to bottom.
    major: u32,
    minor: u32,
    patch: u32,
    released: bool,
}

impl Version {
    const fn released(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch, released: true }
    }

    /// Reads `nats-server: v2.15.1` (what `--version` prints) as well as a bare `2.15.1` (what the server tells its
    /// clients). `None` when the text ends in anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().last()?;
        let word = word.strip_prefix('v').unwrap_or(word);
        let without_build = word.split('+').next()?;
        let (numbers, pre_release) = match without_build.split_once('-') {
            Some((numbers, label)) => (numbers, Some(label)),
            None => (without_build, None),
        };
        let mut numbers = numbers.split('.').map(str::parse::<u32>);
        let version = Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
            patch: numbers.next()?.ok()?,
            released: pre_release.is_none(),
        };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch, released } = self;
        write!(formatter, "{major}.{minor}.{patch}{}", if *released { "" } else { " (pre-release)" })
    }
}

/// Checks the version that a running server tells its clients (`client.server_info().version`).
///
/// # Errors
/// [`NatsServerError::TooOld`] when it is older than [`LEAST_VERSION`] or not a version at all.
pub fn require_recent(url: &str, version: &str) -> Result<(), NatsServerError> {
    if Version::parse(version).is_some_and(|version| version >= LEAST_VERSION) {
        return Ok(());
    }
    Err(NatsServerError::TooOld { url: url.to_owned(), version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_server_prints() {
        for text in ["nats-server: v2.15.1\n", "2.15.1", "v2.15.1", "nats-server: v2.15.1+build.7"] {
            assert_eq!(Version::parse(text), Some(PINNED_VERSION), "{text:?}");
        }
        assert_eq!(Version::parse("nats-server: v2.9.10").map(|version| version.to_string()), Some("2.9.10".into()));
    }

    #[test]
    fn what_is_not_a_version_is_not_taken_for_one() {
        for text in ["", "nats-server", "2.15", "2.15.1.4", "2.x.1", "v", "-1.2.3", "nats-server: v2.15.1 (debug)"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_are_ordered_by_number_and_a_pre_release_is_older_than_its_release() {
        let ordered = ["2.9.10", "2.14.4", "2.14.5-RC.1", "2.14.5", "2.15.1", "2.16.0-dev", "2.16.0", "3.0.0"];
        let versions: Vec<_> = ordered.iter().map(|text| Version::parse(text).expect("a version")).collect();
        assert!(versions.is_sorted_by(|earlier, later| earlier < later), "{versions:?}");
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_with_its_version_and_address() {
        require_recent("nats://shop:4222", "2.14.5").expect("the least version is recent enough");
        let refused = require_recent("nats://shop:4222", "2.14.5-RC.1").expect_err("older than the least version");
        assert_eq!(
            refused.to_string(),
            "the nats-server at nats://shop:4222 has version 2.14.5-RC.1, but 2.14.5 or newer is needed: \
             upgrade it, or unset NATS_URL to let the shop start its own"
        );
    }
}
