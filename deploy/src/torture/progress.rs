//! How far the run is, on standard error: one line that moves on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// How far the run is.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    all: u64,
    done: AtomicU64,
    last_line: Mutex<Instant>,
}

impl Progress {
    pub(super) fn start(checkouts: u32) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg}");
            let bar =
                ProgressBar::new(checkouts.into()).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, all: checkouts.into(), done: AtomicU64::new(0), last_line: Mutex::new(Instant::now()) }
    }

    /// Something that should stay visible.
    pub(super) fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{what}")),
            None => eprintln!("{what}"),
        }
    }

    /// What is being done now.
    pub(super) fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("… {what}"),
        }
    }

    /// One more visit is over.
    pub(super) fn visited(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => self.now_and_then(&format!("{done} of {} visits", self.all)),
        }
    }

    /// What is still waited for.
    pub(super) fn settling(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.chars().take(60).collect::<String>()),
            None => self.now_and_then(&format!("settling: {}", what.chars().take(150).collect::<String>())),
        }
    }

    fn now_and_then(&self, what: &str) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= PLAIN_INTERVAL {
            *last = Instant::now();
            eprintln!("… {what}");
        }
    }

    /// The line that moves is not needed any more.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
