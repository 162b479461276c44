//! Places where a test can make a process die, to prove that nothing is lost there. Not in release builds.

/// Die here if the environment says so: `CHECKOUT_CRASH_AT=worker.history.appended` dies at the first time that
/// this place is reached, `CHECKOUT_CRASH_AT=worker.history.appended:3` at the third. Compiled out of release builds.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::crash_point::reached($name);
    };
}

/// Called by [`crash_point!`]: aborts the process, as kill -9 would, when its time has come.
#[cfg(debug_assertions)]
pub fn reached(name: &'static str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("CHECKOUT_CRASH_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), times.parse().unwrap_or(1)))
    });
    if let Some((wanted, times)) = wanted
        && wanted == name
        && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == *times
    {
        std::process::abort();
    }
}
