//! Names of things. Each is a type that can only be parsed, never assumed, so that nothing unparsed can
//! reach a subject, a ledger or a provider.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not the name it was meant to be; the text says what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {expected}")]
pub struct InvalidName {
    /// What was being parsed, in words a caller knows.
    pub what: &'static str,
    /// The refused text, cut to 80 characters.
    pub value: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), expected }
    }
}

/// The identity of one workflow: a UUID, written in its canonical lower-case form everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkflowId(Uuid);

/// Namespace of the workflow ids that are derived from idempotency keys. Fixed for ever: another value
/// would make every stored key a new checkout.
const IDEMPOTENCY_KEY_NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_0f3c_51c2_4b0e_9a53_0c7d_2a2f_9e11);

/// Namespace of the ids that are derived from another workflow's id.
const DERIVED_NAMESPACE: Uuid = Uuid::from_u128(0x2b0a_94be_7c1e_4d0b_8a6d_55f0_3d9b_6c02);

impl WorkflowId {
    /// A new id that nothing else has, ordered by time (UUID version 7).
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that belongs to an idempotency key of one caller: the same key is the same workflow, on any
    /// gateway, without a look-up (UUID version 5).
    #[must_use]
    pub fn from_idempotency_key(caller: &str, key: &IdempotencyKey) -> Self {
        // The length of the caller's name keeps ("ab", "c") and ("a", "bc") apart.
        let name = format!("{}:{caller}:{}", caller.len(), key.as_str());
        Self(Uuid::new_v5(&IDEMPOTENCY_KEY_NAMESPACE, name.as_bytes()))
    }

    /// The id of something that exists at most once per workflow and purpose, such as the refund of a checkout
    /// or the key of a provider call.
    #[must_use]
    pub fn derive(self, purpose: &str) -> Uuid {
        Uuid::new_v5(&DERIVED_NAMESPACE, format!("{self}:{purpose}").as_bytes())
    }

    /// The workflow that belongs to this one for a purpose; see [`WorkflowId::derive`].
    #[must_use]
    pub fn derive_workflow(self, purpose: &str) -> Self {
        Self(self.derive(purpose))
    }

    /// The bare UUID.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for WorkflowId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for WorkflowId {
    type Err = InvalidName;

    /// Only the canonical form is an id: one workflow has one spelling, so it has one subject.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refused = || InvalidName::new("workflow id", text, "a UUID such as 0198c0de-0000-7000-8000-000000000000");
        let id = Self(Uuid::try_parse(text).map_err(|_| refused())?);
        if id.to_string() == text { Ok(id) } else { Err(refused()) }
    }
}

/// What kind of workflow an id belongs to. Matched without `_`, so the compiler lists what a new kind must touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowKind {
    /// One purchase, from cart to settled order.
    Checkout,
    /// An operator's refund of a paid checkout.
    Refund,
}

impl WorkflowKind {
    /// Every kind there is.
    pub const ALL: [Self; 2] = [Self::Checkout, Self::Refund];

    /// The word in subjects, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Refund => "refund",
        }
    }
}

impl fmt::Display for WorkflowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WorkflowKind {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| InvalidName::new("workflow kind", text, "checkout or refund"))
    }
}

/// One workflow: its kind and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkflowRef {
    /// What it is.
    pub kind: WorkflowKind,
    /// Which one it is.
    pub id: WorkflowId,
}

impl fmt::Display for WorkflowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// A text that is safe as one token of a subject: 1 to `max` characters of `A-Z a-z 0-9 _ -`.
fn is_token(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

macro_rules! token_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_token(text, $max) { Ok(Self(text.into())) } else { Err(InvalidName::new($what, text, $expected)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }
    };
}

token_name!(
    /// An article's stock-keeping unit: 1 to 64 of `A-Z a-z 0-9 _ -`, one token of a subject.
    Sku, "sku", 64, "1 to 64 characters of A-Z a-z 0-9 _ -"
);
token_name!(
    /// A payment provider's name for one payment session.
    SessionId, "session id", 128, "1 to 128 characters of A-Z a-z 0-9 _ -"
);
token_name!(
    /// A payment provider's name for one webhook event, one token of a subject.
    ProviderEventId, "event id", 128, "1 to 128 characters of A-Z a-z 0-9 _ -"
);
token_name!(
    /// A payment provider, one token of a subject: `sandbox`, `stripe`.
    ProviderName, "provider", 32, "1 to 32 characters of A-Z a-z 0-9 _ -"
);

token_name!(
    /// Who operates the shop, as the records of what they did name them: `alice`.
    OperatorName, "operator's name", 64, "1 to 64 characters of A-Z a-z 0-9 _ -"
);

/// A caller's name for one request: 1 to 255 visible ASCII characters, quoted (RFC 8941 string) or bare.
///
/// It is hashed into the workflow id and never becomes part of a subject, so `.`, `*` and `>` are harmless here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// The key without its quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let visible = bare.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'"');
        if visible && (1..=255).contains(&bare.len()) {
            Ok(Self(bare.into()))
        } else {
            Err(InvalidName::new("Idempotency-Key", text, "1 to 255 visible ASCII characters without spaces or quotes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_of_the_same_caller_is_the_same_workflow() {
        let key: IdempotencyKey = "order-1".parse().expect("a valid key");
        assert_eq!(WorkflowId::from_idempotency_key("shop", &key), WorkflowId::from_idempotency_key("shop", &key));
        assert_ne!(WorkflowId::from_idempotency_key("shop", &key), WorkflowId::from_idempotency_key("other", &key));
    }

    #[test]
    fn a_derived_id_never_changes() {
        let key: IdempotencyKey = "order-1".parse().expect("a valid key");
        assert_eq!(WorkflowId::from_idempotency_key("", &key).to_string(), "ca47a060-17e6-5fed-99d0-5760d8ddcdb4");
    }

    #[test]
    fn a_quoted_key_is_the_bare_key() {
        assert_eq!("\"abc\"".parse::<IdempotencyKey>(), "abc".parse::<IdempotencyKey>());
    }

    #[test]
    fn keys_that_are_empty_long_spaced_or_not_ascii_are_refused() {
        for key in ["", "\"\"", "a b", "ä", &"x".repeat(256), "a\nb", "a\"b"] {
            assert!(key.parse::<IdempotencyKey>().is_err(), "{key:?}");
        }
        assert!("x".repeat(255).parse::<IdempotencyKey>().is_ok());
    }

    #[test]
    fn a_workflow_id_has_one_spelling() {
        let id = "0198c0de-0000-7000-8000-00000000000a";
        assert!(id.parse::<WorkflowId>().is_ok());
        for other in [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), "x".into(), String::new()] {
            assert!(other.parse::<WorkflowId>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_token_cannot_change_a_subject() {
        for text in ["", "a.b", "*", ">", "a b", "a/b", "ü", &"x".repeat(65)] {
            assert!(text.parse::<Sku>().is_err(), "{text:?}");
        }
        assert!("MUG-01_b".parse::<Sku>().is_ok());
    }
}
