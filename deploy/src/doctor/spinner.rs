//! Shows how far the reading is, when somebody is looking.

use std::{borrow::Cow, time::Duration};

use common::streams::StreamName;
use indicatif::{ProgressBar, ProgressStyle};

/// A line on the terminal; nothing where standard error is no terminal.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn new(is_wanted: bool) -> Self {
        if !is_wanted {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{spinner} reading {msg:10} [{bar:40}] {pos} of {len}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// So much of a stream is read.
    pub(super) fn tell(&self, stream: StreamName, read: u64, last: u64) {
        self.0.set_message(Cow::Borrowed(stream.as_str()));
        self.0.set_length(last);
        self.0.set_position(read);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
