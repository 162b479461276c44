//! What commands print to standard output: for eyes, or for programs.

use std::io::{self, Write as _};

use serde::Serialize;

/// Print for eyes.
pub fn print_text(text: &str) {
    // Nobody is reading any more when this fails, such as a pager that was closed.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Print one JSON document for programs.
///
/// # Errors
/// When standard output is closed.
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}
