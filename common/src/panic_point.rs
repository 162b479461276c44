//! Places where a test can make the work for one workflow panic, to prove that nobody else is harmed. Not in release
//! builds.

/// Panic here if the environment says so: `CHECKOUT_PANIC_AT=worker.decide:<workflow id>` panics whenever this place is
/// reached for that workflow. Compiled out of release builds.
#[macro_export]
macro_rules! panic_point {
    ($name:literal, $id:expr) => {
        #[cfg(debug_assertions)]
        $crate::panic_point::reached($name, $id);
        // Nothing is left of it there, and no warning either.
        #[cfg(not(debug_assertions))]
        let _ = $id;
    };
}

/// Called by [`panic_point!`].
///
/// # Panics
/// When the environment names this place and this workflow.
#[cfg(debug_assertions)]
pub fn reached(name: &'static str, id: crate::ids::WorkflowId) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("CHECKOUT_PANIC_AT").ok());
    if wanted.as_ref().is_some_and(|wanted| *wanted == format!("{name}:{id}")) {
        panic!("the test wants a panic at {name}");
    }
}
