//! W3C trace context: taken from the request when it is valid, made otherwise.

use uuid::Uuid;
use warp::http::HeaderMap;

use crate::headers::TRACE_PARENT_IN_HTTP;

/// The `traceparent` to pass on: the caller's trace with a new parent (this hop), or a new trace.
#[must_use]
pub fn trace_parent(headers: &HeaderMap) -> String {
    let given = headers.get(TRACE_PARENT_IN_HTTP).and_then(|value| value.to_str().ok()).and_then(trace_and_flags);
    let new_trace = Uuid::now_v7().simple().to_string();
    let (trace, flags) = given.unwrap_or((&new_trace, "00"));
    // The second half of a version 7 UUID is random.
    let hop = Uuid::now_v7().simple().to_string();
    format!("00-{trace}-{}-{flags}", &hop[16..])
}

/// The trace id and flags of a valid header of version 00.
fn trace_and_flags(text: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return None };
    let is_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let not_zero = |part: &str| part.bytes().any(|byte| byte != b'0');
    let valid = version == "00"
        && is_hex(trace, 32)
        && not_zero(trace)
        && is_hex(parent, 16)
        && not_zero(parent)
        && is_hex(flags, 2);
    valid.then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACE_PARENT_IN_HTTP, text.parse().expect("a header value"));
        headers
    }

    #[test]
    fn a_callers_trace_goes_on_with_a_new_parent() {
        let passed_on = trace_parent(&given("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(passed_on.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{passed_on}");
        assert!(passed_on.ends_with("-01"), "{passed_on}");
        assert!(!passed_on.contains("00f067aa0ba902b7"), "{passed_on}");
    }

    #[test]
    fn what_is_not_a_trace_is_replaced() {
        for text in [
            "",
            "x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let made = trace_parent(&given(text));
            assert!(trace_and_flags(&made).is_some(), "{text:?} gave {made}");
            assert!(!made.contains("4bf92f35"), "{text:?} gave {made}");
        }
    }
}
