//! How an operator's browser brings the token: in a cookie that only these pages get, set by the sign-in form.

use http::{HeaderMap, HeaderValue, header};

use crate::app::Asked;

/// The cookie's name.
const NAME: &str = "operator";

/// A working day: then the token is asked for again.
const KEPT_SECONDS: u32 = 12 * 60 * 60;

/// Makes the browser forget the token.
pub(super) const FORGET: &str = "operator=; Path=/operator; Max-Age=0; HttpOnly; SameSite=Strict";

/// The request as if it had brought the cookie's token as `Authorization: Bearer`; one that has such a header stays.
pub(super) fn with_token(asked: &Asked) -> Asked {
    match token(&asked.headers) {
        Some(token) if !asked.headers.contains_key(header::AUTHORIZATION) => bearing(asked, &token),
        _ => asked.clone(),
    }
}

/// The request with this token.
pub(super) fn bearing(asked: &Asked, token: &str) -> Asked {
    let mut asked = asked.clone();
    match HeaderValue::from_str(&format!("Bearer {token}")) {
        Ok(value) => asked.headers.insert(header::AUTHORIZATION, value),
        // No token of ours: a token is set by a header everywhere else.
        Err(_) => asked.headers.remove(header::AUTHORIZATION),
    };
    asked
}

/// The `Set-Cookie` that keeps the token, in hex because a token may have characters that a cookie may not. Scripts
/// cannot read it, other sites cannot make a browser send it, and behind TLS it never leaves TLS.
pub(super) fn keep(asked: &Asked, token: &str) -> String {
    let behind_tls = asked.headers.get("x-forwarded-proto").is_some_and(|value| value.as_bytes() == b"https");
    let secure = if behind_tls { "; Secure" } else { "" };
    let value = hex::encode(token);
    format!("{NAME}={value}; Path=/operator; Max-Age={KEPT_SECONDS}; HttpOnly; SameSite=Strict{secure}")
}

fn token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let value = cookies
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('='))?;
    String::from_utf8(hex::decode(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::bearer;

    fn asked(headers: &[(header::HeaderName, &str)]) -> Asked {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header value")));
        Asked { headers: headers.collect(), client: None, query: String::new() }
    }

    #[test]
    fn a_token_that_is_kept_comes_back() {
        for token in ["a-long-enough-token", "with; strange=\"characters\""] {
            let set = keep(&asked(&[]), token);
            let (cookie, attributes) = set.split_once(';').expect("attributes");
            assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"), "{set}");
            let next = with_token(&asked(&[(header::COOKIE, &format!("a=b; {cookie}; operatorx=1"))]));
            assert_eq!(bearer(&next.headers), Some(token));
        }
    }

    #[test]
    fn without_a_cookie_or_with_a_broken_one_there_is_no_token() {
        for cookie in ["", "operator", "operator=", "operator=zz", "xoperator=61"] {
            let next = with_token(&asked(&[(header::COOKIE, cookie)]));
            assert_eq!(bearer(&next.headers).unwrap_or_default(), "", "{cookie}");
        }
    }

    #[test]
    fn a_header_wins_over_a_cookie() {
        let both = asked(&[(header::AUTHORIZATION, "Bearer mine"), (header::COOKIE, "operator=6f74686572")]);
        assert_eq!(bearer(&with_token(&both).headers), Some("mine"));
    }

    #[test]
    fn a_token_that_no_header_can_hold_is_none() {
        let forged = bearing(&asked(&[(header::AUTHORIZATION, "Bearer mine")]), "line\nend");
        assert_eq!(bearer(&forged.headers), None);
    }

    #[test]
    fn behind_tls_the_cookie_stays_there() {
        let proto = header::HeaderName::from_static("x-forwarded-proto");
        assert!(keep(&asked(&[(proto, "https")]), "token").ends_with("; Secure"));
        assert!(!keep(&asked(&[]), "token").contains("Secure"));
    }
}
