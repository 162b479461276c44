//! Refusals as RFC 9457 problem documents with a stable `code`.

use std::{fmt, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};
use warp::{
    Reply,
    http::{HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

/// The media type of a problem document.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not done, for the client: a status, a stable code to program against, and words for people.
///
/// It is a warp reply and an error, so a handler returns `Result<impl Reply, Problem>` and uses `?`.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One thing that is wrong with a request's body, query or headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: a JSON pointer into the body such as `/items/0/quantity`, or the name of a header or parameter.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl Problem {
    /// A problem with a code of the caller's own; `code` is snake case and never changes its meaning.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), members: Map::new(), headers: Vec::new() }
    }

    /// 400 `validation`: the request cannot mean anything; see also [`Problem::with_error`].
    #[must_use]
    pub fn validation(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "validation", detail)
    }

    /// 401 `unauthorized`: a token is missing or wrong.
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 404 `not_found`.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 413 `too_large`.
    #[must_use]
    pub fn too_large(limit_bytes: usize) -> Self {
        let detail = format!("The body is larger than {limit_bytes} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 415 `unsupported_media_type`.
    #[must_use]
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 429 `rate_limited`.
    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests from this client; try again later.")
            .with_retry_after(retry_after)
    }

    /// 500 `internal`: a defect of ours; the detail must not tell secrets.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// 503 `unavailable`: not now; the same request is worth sending again.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with_retry_after(Duration::from_secs(2))
    }

    /// What a bare status means; for refusals that come from a layer without words of its own.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status.as_u16() {
            400 => ("validation", "The request could not be read."),
            401 => ("unauthorized", "A token is needed."),
            403 => ("forbidden", "This is not allowed."),
            404 => ("not_found", "There is nothing here."),
            405 => ("method_not_allowed", "This path does not answer that method; see the Allow header."),
            408 => ("request_timeout", "The request was sent too slowly."),
            411 => ("length_required", "The request needs a Content-Length."),
            413 => ("too_large", "The body is too large."),
            415 => ("unsupported_media_type", "The body's Content-Type is not understood here."),
            429 => ("rate_limited", "Too many requests; try again later."),
            503 => ("unavailable", "The service cannot answer now; try again."),
            504 => ("timeout", "No answer was ready in time; the work may go on. Ask again, with the same key if any."),
            500.. => ("internal", "Something went wrong here; it has been recorded under the request id."),
            _ => ("refused", "The request was refused."),
        };
        Self::new(status, code, detail)
    }

    /// Add one thing that is wrong; `pointer` is a JSON pointer into the body, or a header's or parameter's name.
    #[must_use]
    pub fn with_error(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// Add many things that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: impl IntoIterator<Item = FieldError>) -> Self {
        self.errors.extend(errors);
        self
    }

    /// When it is worth trying again; whole seconds, rounded up, at least one.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Add a member of this problem's own, such as `workflow_id`; not one that every problem has.
    #[must_use]
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        debug_assert!(!EVERY_PROBLEM_HAS.contains(&name), "{name} would stand in the document twice");
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Set a header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The words for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What exactly is wrong, if the problem says so.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The document, as it is sent.
    #[must_use]
    pub fn to_json(&self, request_id: Option<&str>) -> Vec<u8> {
        let document = Document {
            problem_type: format!("urn:checkout:problem:{}", self.code),
            title: title(self.code),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
            request_id,
            members: &self.members,
        };
        // Strings, numbers and JSON values only: writing them cannot fail.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }
}

/// The members of every problem document.
const EVERY_PROBLEM_HAS: [&str; 7] = ["type", "title", "status", "code", "detail", "errors", "request_id"];

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    problem_type: String,
    title: String,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

/// `out_of_stock` → `Out of stock`: one code has one title.
fn title(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

impl Reply for Problem {
    /// Complete in itself; the server adds the request id when it sends it.
    fn into_response(self) -> Response {
        let mut response = Response::new(self.to_json(None).into());
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers() {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_rfc_9457_asks_for_and_a_code() {
        let problem = Problem::validation("The cart is not valid.")
            .with_error("/items/0/quantity", "must be at least 1")
            .with_member("workflow_id", "w-1");
        let text = String::from_utf8(problem.to_json(Some("r-1"))).expect("JSON is UTF-8");
        assert_eq!(
            text,
            "{\"type\":\"urn:checkout:problem:validation\",\"title\":\"Validation\",\"status\":400,\
             \"code\":\"validation\",\"detail\":\"The cart is not valid.\",\
             \"errors\":[{\"pointer\":\"/items/0/quantity\",\"detail\":\"must be at least 1\"}],\
             \"request_id\":\"r-1\",\"workflow_id\":\"w-1\"}"
        );
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let problem = Problem::rate_limited(Duration::from_millis(millis));
            assert_eq!(problem.into_response().headers()[header::RETRY_AFTER], seconds, "{millis} ms");
        }
    }

    #[test]
    fn every_status_has_a_code_and_a_title() {
        for status in (400..600).filter_map(|code| StatusCode::from_u16(code).ok()) {
            let problem = Problem::of_status(status);
            assert_eq!(problem.status(), status);
            assert!(!problem.detail().is_empty());
        }
        assert_eq!(title("out_of_stock"), "Out of stock");
    }
}
