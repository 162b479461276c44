//! The signature of webhooks: `t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<raw body>">`, as Stripe and the sandbox
//! send it. Two secrets may be valid at once, so that a secret can be replaced while webhooks keep coming.

use std::{fmt, str::FromStr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::WebhookRefused;
use crate::time::Timestamp;

/// How far a signature's time may be from ours, in seconds: a genuine request that somebody recorded is worthless
/// after this. The same span as Stripe's own libraries use.
pub const TOLERANCE_SECONDS: u64 = 300;

/// Most secrets that may be valid at once: the new one and the one that it replaces.
const MAX_SECRETS: usize = 2;

/// Shortest secret that is accepted, in bytes: a shorter one can be guessed.
const MIN_SECRET_BYTES: usize = 16;

/// The secrets that webhooks are signed with: one, or during a change the new and the old one, comma-separated.
///
/// Its `Debug` text never shows them.
#[derive(Clone)]
pub struct WebhookSecrets(Vec<Hmac<Sha256>>);

impl WebhookSecrets {
    /// The header value for a body: one `v1` for each secret, so that a receiver that knows either accepts it.
    #[must_use]
    pub fn sign(&self, body: &[u8], at: Timestamp) -> String {
        let time = at.as_second().to_string();
        let mut header = format!("t={time}");
        for secret in &self.0 {
            header.push_str(",v1=");
            header.push_str(&hex::encode(with_message(secret, &time, body).finalize().into_bytes()));
        }
        header
    }

    /// Check the header value that came with a body, at the time `now`.
    ///
    /// # Errors
    /// [`WebhookRefused::NoSignature`] when the header is missing or has no time or no `v1`,
    /// [`WebhookRefused::WrongSignature`] when no `v1` was made with a secret of ours over these bytes, and
    /// [`WebhookRefused::WrongTime`] when it is genuine but made more than [`TOLERANCE_SECONDS`] from now.
    pub fn verify(&self, header: Option<&str>, body: &[u8], now: Timestamp) -> Result<(), WebhookRefused> {
        let signature = header.and_then(SignatureHeader::read).ok_or(WebhookRefused::NoSignature)?;
        // The code is computed once for each secret, however many values a header brings.
        let genuine = self.0.iter().any(|secret| {
            let expected = with_message(secret, signature.time_text, body);
            signature.candidates.iter().any(|candidate| expected.clone().verify_slice(candidate).is_ok())
        });
        if !genuine {
            return Err(WebhookRefused::WrongSignature);
        }
        if signature.time.abs_diff(now.as_second()) > TOLERANCE_SECONDS {
            return Err(WebhookRefused::WrongTime { tolerance_seconds: TOLERANCE_SECONDS });
        }
        Ok(())
    }
}

/// The code over `<t>.<raw body>`, not yet finished, so that it can be compared in constant time.
fn with_message(secret: &Hmac<Sha256>, time: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut code = secret.clone();
    code.update(time.as_bytes());
    code.update(b".");
    code.update(body);
    code
}

/// What a signature header says.
struct SignatureHeader<'a> {
    /// The time as it was written: these bytes are signed.
    time_text: &'a str,
    /// The time, in Unix seconds.
    time: i64,
    /// Every `v1` value that is hex. Other schemes (`v0`) are weaker or unknown and do not count.
    candidates: Vec<Vec<u8>>,
}

impl<'a> SignatureHeader<'a> {
    /// `None` when there is not exactly one time, or no `v1` at all.
    fn read(header: &'a str) -> Option<Self> {
        let fields = || header.split(',').filter_map(|field| field.trim().split_once('='));
        let mut times = fields().filter(|(name, _)| *name == "t").map(|(_, value)| value);
        let (Some(time_text), None) = (times.next(), times.next()) else { return None };
        if !fields().any(|(name, _)| name == "v1") {
            return None;
        }
        let candidates = fields().filter(|(name, _)| *name == "v1").filter_map(|(_, value)| hex::decode(value).ok());
        Some(Self { time_text, time: time_text.parse().ok()?, candidates: candidates.collect() })
    }
}

/// Why a text is not a list of webhook secrets. The text itself is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("webhook secrets must be one or two texts of at least {MIN_SECRET_BYTES} characters, separated by a comma")]
pub struct InvalidSecrets;

impl FromStr for WebhookSecrets {
    type Err = InvalidSecrets;

    fn from_str(text: &str) -> Result<Self, InvalidSecrets> {
        let secrets: Vec<&str> = text.split(',').map(str::trim).collect();
        if secrets.len() > MAX_SECRETS || secrets.iter().any(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err(InvalidSecrets);
        }
        let keyed = |secret: &&str| Hmac::new_from_slice(secret.as_bytes()).map_err(|_| InvalidSecrets);
        secrets.iter().map(keyed).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({} hidden)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","payment_status":"paid"}"#;

    fn secrets(text: &str) -> WebhookSecrets {
        text.parse().expect("valid secrets")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    fn verify(header: &str, now: i64) -> Result<(), WebhookRefused> {
        secrets("the-right-secret-1").verify(Some(header), BODY, at(now))
    }

    #[test]
    fn the_signature_is_the_one_that_the_scheme_defines() {
        // printf '1700000000.%s' '{"id":"evt_1","payment_status":"paid"}' | openssl dgst -sha256 -hmac the-right-secret-1
        let header = "t=1700000000,v1=e99797b8dbe7385451fb26c9a3c67b7af8544017106fe6d9160d05956fad15bf";
        assert_eq!(secrets("the-right-secret-1").sign(BODY, at(1_700_000_000)), header);
        assert_eq!(verify(header, 1_700_000_000), Ok(()));
    }

    #[test]
    fn a_forged_webhook_is_refused() {
        let genuine = secrets("the-right-secret-1").sign(BODY, at(1000));
        let (time, v1) = genuine.split_once(",v1=").expect("a signed header");
        let wrong_secret = secrets("some-other-secret").sign(BODY, at(1000));
        let cases = [
            ("", WebhookRefused::NoSignature),
            ("garbage", WebhookRefused::NoSignature),
            ("t=1000", WebhookRefused::NoSignature),
            (&format!("v1={v1}"), WebhookRefused::NoSignature),
            (&format!("{time},v0={v1}"), WebhookRefused::NoSignature),
            (&format!("t=soon,v1={v1}"), WebhookRefused::NoSignature),
            (&format!("{time},t=1001,v1={v1}"), WebhookRefused::NoSignature),
            (&wrong_secret, WebhookRefused::WrongSignature),
            (&format!("t=1001,v1={v1}"), WebhookRefused::WrongSignature),
            (&format!("{time},v1={}", &v1[..62]), WebhookRefused::WrongSignature),
            (&format!("{time},v1={}", &v1[..63]), WebhookRefused::WrongSignature),
            (&format!("{time},v1={v1}00"), WebhookRefused::WrongSignature),
            (&format!("{time},v1="), WebhookRefused::WrongSignature),
            (&format!("{time},v1=not-hex"), WebhookRefused::WrongSignature),
        ];
        for (header, refused) in cases {
            assert_eq!(verify(header, 1000), Err(refused), "{header}");
        }
        assert_eq!(secrets("the-right-secret-1").verify(None, BODY, at(1000)), Err(WebhookRefused::NoSignature));
    }

    #[test]
    fn a_body_that_differs_by_one_byte_is_refused() {
        let header = secrets("the-right-secret-1").sign(BODY, at(1000));
        for changed in [&BODY[1..], &[BODY, b" "].concat(), &BODY.to_ascii_uppercase()] {
            let refused = secrets("the-right-secret-1").verify(Some(&header), changed, at(1000));
            assert_eq!(refused, Err(WebhookRefused::WrongSignature));
        }
    }

    #[test]
    fn a_genuine_request_counts_for_five_minutes_only() {
        let header = secrets("the-right-secret-1").sign(BODY, at(10_000));
        let wrong_time = Err(WebhookRefused::WrongTime { tolerance_seconds: 300 });
        assert_eq!(verify(&header, 10_300), Ok(()));
        assert_eq!(verify(&header, 10_301), wrong_time);
        assert_eq!(verify(&header, 9_700), Ok(()));
        assert_eq!(verify(&header, 9_699), wrong_time);
        assert_eq!(verify(&header, 10_000 - 3600), wrong_time, "signed an hour in the future");
    }

    #[test]
    fn while_a_secret_is_replaced_both_are_accepted() {
        let header_of_both = secrets("the-new-secret-22,the-right-secret-1").sign(BODY, at(1000));
        assert_eq!(header_of_both.matches("v1=").count(), 2);
        assert_eq!(verify(&header_of_both, 1000), Ok(()), "ours is the second value");
        for signer in ["the-right-secret-1", "the-new-secret-22"] {
            let header = secrets(signer).sign(BODY, at(1000));
            let receiver = secrets("the-new-secret-22, the-right-secret-1");
            assert_eq!(receiver.verify(Some(&header), BODY, at(1000)), Ok(()), "{signer}");
        }
    }

    #[test]
    fn one_or_two_long_secrets_are_needed() {
        for text in ["", "short", "the-right-secret-1,", "the-right-secret-1,short"] {
            assert_eq!(text.parse::<WebhookSecrets>().map(|_| ()), Err(InvalidSecrets), "{text:?}");
        }
        let three = ["the-right-secret-1"; 3].join(",");
        assert!(three.parse::<WebhookSecrets>().is_err(), "three at once");
    }

    #[test]
    fn secrets_are_never_shown() {
        let text = format!("{:?}", secrets("the-right-secret-1"));
        assert_eq!(text, "WebhookSecrets(1 hidden)");
    }
}
