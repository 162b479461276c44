//! What a service says while it runs: structured logs and metrics.

use std::{io::IsTerminal as _, sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use super::metric_help::HELP;

/// Bounds of latency histograms in seconds: from a local read to a provider's time-out.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Without it every sample is kept until somebody scrapes; the exporter's own task uses the same interval.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Start a service's logs: for eyes on a terminal, one JSON object per line otherwise. `RUST_LOG` chooses what is said
/// (default: `info`). Calling it twice is harmless.
pub fn init_logs() {
    init_logs_by_default("info,async_nats=warn");
}

/// Start the logs of a command that prints its own answer: only warnings, unless `RUST_LOG` says otherwise.
pub fn init_quiet_logs() {
    init_logs_by_default("warn");
}

fn init_logs_by_default(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, in a process that hosts several services, finds the first one's subscriber in place.
    let _ = if std::io::stderr().is_terminal() {
        logs.compact().try_init()
    } else {
        logs.json().flatten_event(true).try_init()
    };
}

/// Start counting; must be called within a tokio runtime. Calling it twice is harmless.
pub fn init_metrics() {
    if METRICS.get().is_some() {
        return;
    }
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS);
    let Ok(builder) = builder else { return };
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() || METRICS.set(handle.clone()).is_err() {
        return;
    }
    for (name, help) in HELP {
        // The exporter keeps one help text per name, whatever kind of metric it turns out to be.
        metrics::describe_counter!(*name, *help);
    }
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            handle.run_upkeep();
        }
    });
}

/// Everything counted so far in Prometheus' text format; empty before [`init_metrics`].
#[must_use]
pub fn render_metrics() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}
