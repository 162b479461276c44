//! Who operates the shop, and by which tokens they are known: what they do is recorded with their name.

use anyhow::{Context as _, bail, ensure};
use common::ids::OperatorName;
use sha2::{Digest as _, Sha256};

/// Shortest token in bytes: a shorter one can be guessed.
const MIN_TOKEN_BYTES: usize = 8;

/// Whose token it is when no name stands before it.
const NAMELESS: &str = "operator";

/// Everybody who may operate the shop. Only digests of their tokens are kept.
#[derive(Debug, Default)]
pub(crate) struct Operators(Vec<(OperatorName, [u8; 32])>);

impl Operators {
    /// Read `TOKEN` or `NAME:TOKEN`, several of them with commas or line breaks between them. Two tokens of one name are
    /// both good, so that one can follow the other.
    ///
    /// # Errors
    /// When there is none, a name is none, or a token is too short or somebody else's; the text says which.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        let mut operators: Vec<(OperatorName, [u8; 32])> = Vec::new();
        for entry in text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, token) = entry.split_once(':').unwrap_or((NAMELESS, entry));
            // The name may be a token with a colon in it, so it is not shown.
            let name: OperatorName = name.parse().ok().context(
                "what stands before the colon of an operator token is no name: 1 to 64 characters of A-Z a-z 0-9 _ -",
            )?;
            ensure!(
                token.len() >= MIN_TOKEN_BYTES,
                "the token of {name} must have at least {MIN_TOKEN_BYTES} characters: make one with `openssl rand -hex 24`"
            );
            let digest = Sha256::digest(token).into();
            if let Some((other, _)) = operators.iter().find(|(other, known)| *known == digest && *other != name) {
                bail!("{other} and {name} have the same operator token, so nobody could tell them apart");
            }
            operators.push((name, digest));
        }
        ensure!(
            !operators.is_empty(),
            "the operator token is empty: it must have at least {MIN_TOKEN_BYTES} characters, or not be set at all"
        );
        Ok(Self(operators))
    }

    /// Whether there is anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token this is.
    pub(crate) fn who_has(&self, token: &str) -> Option<&OperatorName> {
        // Digests are compared: how long that takes says nothing about a token.
        let given: [u8; 32] = Sha256::digest(token).into();
        self.0.iter().find(|(_, known)| *known == given).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(operators: &Operators, token: &str) -> Option<String> {
        operators.who_has(token).map(ToString::to_string)
    }

    #[test]
    fn operators_are_known_by_their_tokens() {
        let operators =
            Operators::read("token-of-nobody, alice:token-1-of-alice,alice:token-2-of-alice\nbob:with:colon\n");
        let operators = operators.expect("four tokens");
        assert_eq!(who(&operators, "token-of-nobody").as_deref(), Some("operator"));
        assert_eq!(who(&operators, "token-1-of-alice").as_deref(), Some("alice"));
        assert_eq!(who(&operators, "token-2-of-alice").as_deref(), Some("alice"));
        assert_eq!(who(&operators, "with:colon").as_deref(), Some("bob"));
        for wrong in ["", "alice", "alice:token-1-of-alice", "token-1-of-alice "] {
            assert_eq!(who(&operators, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_tokens_is_refused_without_showing_one() {
        for (bad, why) in [
            ("", "is empty"),
            (" , \n", "is empty"),
            ("short", "at least 8"),
            ("alice:short", "the token of alice"),
            ("a secret:with-a-colon", "no name"),
            (":without-a-name", "no name"),
            ("alice:the-same-token,bob:the-same-token", "alice and bob"),
        ] {
            let refused = Operators::read(bad).expect_err(bad).to_string();
            assert!(refused.contains(why), "{bad:?}: {refused}");
            assert!(!refused.contains("secret") && !refused.contains("the-same-token"), "{refused}");
        }
    }
}
