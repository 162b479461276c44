//! One letter whole, legible whatever its body is.

use std::fmt::Write as _;

use serde::Serialize;

use super::letter::Letter;

/// Bytes of a body that is no text that are shown; the rest can be had with `nats stream get`.
const MOST_BYTES_SHOWN: usize = 256;

/// A letter with its headers and its body, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Whole<'a> {
    #[serde(flatten)]
    letter: &'a Letter,
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: Body,
}

/// A body as what it is.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Body {
    /// It is JSON.
    Json(serde_json::Value),
    /// It is text.
    Text(String),
    /// It is neither.
    Hex(String),
}

impl Body {
    fn of(payload: &[u8]) -> Self {
        match (serde_json::from_slice(payload), std::str::from_utf8(payload)) {
            (Ok(json), _) => Self::Json(json),
            (Err(_), Ok(text)) => Self::Text(text.to_owned()),
            (Err(_), Err(_)) => Self::Hex(hex::encode(payload)),
        }
    }
}

impl<'a> Whole<'a> {
    pub(super) fn of(letter: &'a Letter) -> Self {
        Self { letter, headers: headers(letter), body: Body::of(&letter.payload) }
    }
}

/// What the server adds when it is asked says nothing about the letter.
fn headers(letter: &Letter) -> Vec<(String, String)> {
    let mut lines: Vec<_> = letter
        .headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.as_str().to_owned())))
        .filter(|(name, _)| !name.starts_with("Nats-"))
        .collect();
    lines.sort();
    lines
}

pub(super) fn text(letter: &Letter) -> String {
    let mut text = format!("letter {} (deadletter.{}), parked at {}\n", letter.sequence, letter.area, letter.parked_at);
    let workflow = letter.workflow.as_deref().unwrap_or("none that is known");
    // Writing to a text cannot fail.
    let _ = writeln!(text, "from       {}", letter.original_subject);
    let _ = writeln!(text, "about      {workflow}");
    let _ = writeln!(text, "reason     {}", letter.reason);
    let _ = writeln!(
        text,
        "state      {}",
        letter.settled.as_ref().map_or_else(|| "waits for you".to_owned(), super::Settled::in_words)
    );
    text.push('\n');
    for (name, value) in headers(letter) {
        let _ = writeln!(text, "{}: {}", printable(&name), printable(&value));
    }
    text.push('\n');
    text + &body_text(&letter.payload)
}

fn body_text(payload: &[u8]) -> String {
    match Body::of(payload) {
        _ if payload.is_empty() => "(no body)".into(),
        Body::Json(json) => serde_json::to_string_pretty(&json).unwrap_or_default(),
        Body::Text(text) => printable(&text),
        Body::Hex(_) => {
            let shown = &payload[..payload.len().min(MOST_BYTES_SHOWN)];
            format!("{} bytes that are no text, beginning with {}", payload.len(), hex::encode(shown))
        }
    }
}

/// A stranger's text must not steer the operator's terminal.
fn printable(text: &str) -> String {
    let shown = |character: char| if character.is_control() && character != '\n' { '\u{fffd}' } else { character };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_is_shown_as_what_it_is() {
        assert_eq!(body_text(b""), "(no body)");
        assert_eq!(body_text(br#"{"a":1}"#), "{\n  \"a\": 1\n}");
        assert_eq!(body_text(b"buy \x1b[2Jme"), "buy \u{fffd}[2Jme");
        assert_eq!(body_text(b"\xff\x00"), "2 bytes that are no text, beginning with ff00");
    }
}
