//! Stopping in order: a signal cancels a token, and everything that runs watches the token.

use tokio_util::sync::CancellationToken;

/// A token that is cancelled by Ctrl-C or SIGTERM. A second Ctrl-C ends the process at once.
#[must_use]
pub fn on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        stop_requested().await;
        tracing::info!("stopping; press Ctrl-C again to stop at once (nothing is lost either way)");
        stopping.cancel();
        stop_requested().await;
        std::process::exit(130);
    });
    stop
}

async fn stop_requested() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // Without a handler the signal's default action, which ends the process, is still in place.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
