//! Places where a test can make a process die, to prove that nothing is lost there. Not in release builds.
//!
//! A place stands before and after everything that leaves the process: an append, a publish, a call, an ack, a commit.
//! This file needs nothing but the standard library, so that a test can build it alone in both ways.

/// A place where the process may die or tell that it was here; compiled out of release builds.
///
/// - `CHECKOUT_CRASH_AT=worker.history.after_append` dies at the first time that this place is reached,
///   `CHECKOUT_CRASH_AT=worker.history.after_append:3` at the third.
/// - `CHECKOUT_CRASH_RECORD=/some/file` adds the name of each place to the file whenever it is reached.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::crash_point::reached($name);
    };
}

/// Called by [`crash_point!`]: tells that the place was reached, and aborts the process, as kill -9 would, when its time
/// has come.
#[cfg(debug_assertions)]
pub fn reached(name: &'static str) {
    record(name);
    die_if_wanted(name);
}

/// One line in the file of this process; appended in one write, so that threads do not mix theirs.
#[cfg(debug_assertions)]
fn record(name: &str) {
    use std::{fs::File, io::Write as _, sync::OnceLock};
    static TAPE: OnceLock<Option<File>> = OnceLock::new();
    let tape = TAPE.get_or_init(|| {
        let path = std::env::var_os("CHECKOUT_CRASH_RECORD")?;
        let opened = File::options().create(true).append(true).open(&path);
        Some(opened.unwrap_or_else(|error| panic!("open CHECKOUT_CRASH_RECORD={}: {error}", path.display())))
    });
    if let Some(mut tape) = tape.as_ref() {
        tape.write_all(format!("{name}\n").as_bytes())
            .unwrap_or_else(|error| panic!("write to CHECKOUT_CRASH_RECORD: {error}"));
    }
}

#[cfg(debug_assertions)]
fn die_if_wanted(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("CHECKOUT_CRASH_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        let times = times.parse().unwrap_or_else(|_| panic!("CHECKOUT_CRASH_AT={text}: a number after the colon"));
        Some((name.to_owned(), times))
    });
    if let Some((wanted, times)) = wanted
        && wanted == name
        && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == *times
    {
        std::process::abort();
    }
}
