//! One HTTP call to a payment provider: bounded in time and size, and its failure sorted into "no" and "nobody knows".

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::BytesMut;
use http::StatusCode;
use reqwest::{Client, RequestBuilder, Response, Url};
use serde_json::Value;

use super::ProviderError;
use crate::service::tls::install_tls_provider;

/// How long a connection may take to come about. A provider that is there answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unused connection is kept: shorter than providers keep it (the sandbox 10 s, others a minute), so that
/// nothing is sent into a connection that is just being closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(8);

/// Longest answer that is read, in bytes. Real ones have a few kilobytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Longest reason that is taken from a provider's answer, in characters: it is stored in the history.
const MAX_REASON_CHARACTERS: usize = 300;

/// A connection pool to one provider.
#[derive(Debug, Clone)]
pub(super) struct HttpCalls {
    /// The word for the provider in metrics.
    provider: &'static str,
    client: Client,
    base: Url,
}

/// What a provider answered, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// The JSON body; `None` when it is none.
    pub(super) body: Option<Value>,
}

impl HttpCalls {
    /// A pool for calls below `base_url`, each of which may take `call_timeout` altogether.
    pub(super) fn new(provider: &'static str, base_url: &str, call_timeout: Duration) -> anyhow::Result<Self> {
        let base = Url::parse(base_url).with_context(|| format!("read {base_url:?} as the URL of the {provider}"))?;
        anyhow::ensure!(
            matches!(base.scheme(), "http" | "https") && base.has_host(),
            "the URL of the {provider} must start with http:// or https://, not {base_url:?}"
        );
        install_tls_provider();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(call_timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            // A redirected POST would be repeated somewhere else: a provider that redirects is set up wrongly.
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("checkout/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // Plain text needs no certificates, and some small machines have none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().with_context(|| format!("set up the connections to the {provider}"))?;
        Ok(Self { provider, client, base })
    }

    /// A POST to be filled in.
    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    /// A GET to be filled in.
    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    /// `base` may itself have a path, with or without a slash at its end.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Send it and read the whole answer; `call` is its word in metrics.
    ///
    /// # Errors
    /// [`ProviderError::Unknown`] when no complete answer came.
    pub(super) async fn send(&self, call: &'static str, request: RequestBuilder) -> Result<Answer, ProviderError> {
        let began = Instant::now();
        let answer = read_answer(request).await;
        let result = match &answer {
            Ok(answer) => status_class(answer.status),
            Err(_) => "no_answer",
        };
        metrics::histogram!("payment_provider_call_seconds",
            "provider" => self.provider, "call" => call, "result" => result)
        .record(began.elapsed());
        answer
    }
}

/// The metric label for a status: a handful, so that the number of series stays bounded.
fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        429 => "429",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

async fn read_answer(request: RequestBuilder) -> Result<Answer, ProviderError> {
    let response = request.send().await.map_err(|error| unknown(&error_chain(&error)))?;
    let status = response.status();
    let bytes = read_limited(response).await?;
    Ok(Answer { status, body: serde_json::from_slice(&bytes).ok() })
}

async fn read_limited(mut response: Response) -> Result<BytesMut, ProviderError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unknown(&error_chain(&error)))? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(unknown(&format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An error with its causes in one line; reqwest's own text says only "error sending request".
fn error_chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Answer {
    /// The body of a successful answer.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] for a status that is about the request itself, [`ProviderError::Unknown`] for every
    /// other one and for a body that is not JSON.
    pub(super) fn into_success(self) -> Result<Value, ProviderError> {
        if self.status.is_success() {
            return self.body.ok_or_else(|| unknown(&format!("{} with a body that is not JSON", self.status)));
        }
        let reason = self.reason();
        if is_definitive(self.status) {
            Err(ProviderError::Refused { reason })
        } else {
            Err(ProviderError::Unknown { reason })
        }
    }

    /// Why it did not succeed, in the provider's words where there are any: RFC 9457's or Stripe's.
    pub(super) fn reason(&self) -> String {
        let said = self.body.as_ref().and_then(|body| {
            ["/detail", "/error/message", "/title"].into_iter().find_map(|place| body.pointer(place)?.as_str())
        });
        let reason = match said {
            Some(said) => format!("{}: {said}", self.status),
            None => self.status.to_string(),
        };
        shortened(&reason)
    }

    /// A text in the body, by JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.body.as_ref()?.pointer(pointer)?.as_str()
    }
}

/// Whether the provider has said no, for good. Everything that may pass is not: who we are (401, 403: a key that is
/// being changed), time-outs, conflicts with a call in progress, rate limits, a dependency of theirs (424).
fn is_definitive(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 409 | 424 | 425 | 429)
}

/// [`ProviderError::Unknown`] with a reason of bounded length.
pub(super) fn unknown(reason: &str) -> ProviderError {
    ProviderError::Unknown { reason: shortened(reason) }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, body: serde_json::from_str(body).ok() }
    }

    #[test]
    fn only_what_is_about_the_request_itself_is_a_no() {
        for status in [400, 402, 404, 405, 410, 413, 415, 422] {
            let refused = answer(status, "{}").into_success();
            assert!(matches!(refused, Err(ProviderError::Refused { .. })), "{status}: {refused:?}");
        }
        for status in [301, 304, 401, 403, 408, 409, 424, 425, 429, 500, 502, 503, 504] {
            let unknown = answer(status, "{}").into_success();
            assert!(matches!(unknown, Err(ProviderError::Unknown { .. })), "{status}: {unknown:?}");
        }
    }

    #[test]
    fn a_success_that_is_not_json_is_no_answer() {
        let unknown = answer(200, "{\"session_id\":").into_success();
        assert!(matches!(unknown, Err(ProviderError::Unknown { .. })), "{unknown:?}");
    }

    #[test]
    fn the_reason_is_in_the_providers_words_and_short() {
        assert_eq!(answer(400, r#"{"title":"Bad","detail":"amount is 0"}"#).reason(), "400 Bad Request: amount is 0");
        assert_eq!(answer(402, r#"{"error":{"message":"no"}}"#).reason(), "402 Payment Required: no");
        assert_eq!(answer(500, "<html>").reason(), "500 Internal Server Error");
        let long = format!(r#"{{"detail":"{}"}}"#, "ü".repeat(5000));
        assert_eq!(answer(400, &long).reason().chars().count(), 300);
    }

    #[test]
    fn a_base_url_may_have_a_path() {
        let calls = HttpCalls::new("test", "http://127.0.0.1:1/base/", Duration::from_secs(1)).expect("a valid URL");
        assert_eq!(calls.url("/v1/x").as_str(), "http://127.0.0.1:1/base/v1/x");
    }

    #[test]
    fn a_base_url_must_be_http() {
        for text in ["", "localhost:8086", "ftp://example.org", "http://"] {
            assert!(HttpCalls::new("test", text, Duration::from_secs(1)).is_err(), "{text:?}");
        }
    }
}
