//! Logs to standard error, metrics for Prometheus, and what the process itself looks like to the system.
//!
//! Why it exists: every role says what it does in one form. Logs carry a trace id and never a payload, a credential or a
//! token; labels of metrics come from closed sets (codes, protocols, classes), never from clients.

mod process;
mod registry;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

pub use buslane_shared::metric::{Kind, Metric, Unit};
pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tracing_subscriber::EnvFilter;

use crate::shutdown::Shutdown;

pub use registry::{METRICS, describe};

/// Histogram bounds for names that end in `_seconds`, in seconds: from a token check to a deadline.
const SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 60.0,
];

/// Histogram bounds for names that end in `_bytes`.
const BYTES: [f64; 10] =
    [64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

/// Histogram bounds for names that end in `_count` (sizes of batches, fan-outs).
const COUNTS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// How often the recorder lets go of what it has gathered, so that histograms nobody scrapes do not grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// How logs look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, serde::Deserialize, serde::Serialize, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A level, or a comma-separated list of `target=level`. The environment variable `BUSLANE_LOG` overrides it.
    #[garde(custom(is_filter))]
    pub filter: String,
    /// `text` or `json`.
    #[garde(skip)]
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

fn is_filter(filter: &str, _: &()) -> garde::Result {
    EnvFilter::try_new(filter).map(|_| ()).map_err(|e| {
        garde::Error::new(format!("{e}; write a level such as \"info\", or \"info,buslane_store=debug\""))
    })
}

/// Sends logs to standard error from now on. A second call in one process changes nothing.
pub fn init(config: &LogConfig) {
    let filter = EnvFilter::try_from_env("BUSLANE_LOG")
        .or_else(|_| EnvFilter::try_new(&config.filter))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(!plain && std::io::stderr().is_terminal());
    // An error means that somebody (a test, an embedding program) has set a subscriber: theirs stays.
    let _ = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Why there are no metrics.
#[derive(Debug, Clone, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct MetricsError(String);

/// Records metrics from now on; the handle prints them. Every call in one process gives a handle of the same recorder.
pub fn install_metrics() -> Result<PrometheusHandle, MetricsError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, MetricsError>> = OnceLock::new();
    HANDLE.get_or_init(|| build().map_err(|e| MetricsError(e.to_string()))).clone()
}

fn build() -> Result<PrometheusHandle, Box<dyn std::error::Error>> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?
        .set_buckets_for_metric(Matcher::Suffix("_count".to_owned()), &COUNTS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|e| e.to_string())?;
    process::begin();
    Ok(handle)
}

/// Keeps the recorder small and the process metrics fresh until the shutdown.
pub fn keep_up(handle: PrometheusHandle, shutdown: &Shutdown) {
    let token = shutdown.token().clone();
    shutdown.tracker().spawn(async move {
        let mut tick = tokio::time::interval(UPKEEP);
        while token.run_until_cancelled(tick.tick()).await.is_some() {
            handle.run_upkeep();
            process::sample();
        }
    });
}

/// A trace id as log lines and clients show it.
pub fn trace_hex(trace: u128) -> String {
    format!("{trace:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use garde::Validate;

    #[test]
    fn metrics_can_be_installed_twice_and_show_what_was_recorded() {
        let first = install_metrics().unwrap();
        let second = install_metrics().unwrap();
        metrics::counter!("buslane_test_things_total").increment(3);
        metrics::histogram!("buslane_test_wait_seconds").record(0.003);
        process::sample();
        let text = second.render();
        assert!(text.contains("buslane_test_things_total 3"), "{text}");
        assert!(text.contains("buslane_test_wait_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("buslane_process_resident_bytes"), "{text}");
        assert_eq!(first.render().contains("things_total"), text.contains("things_total"));
    }

    #[test]
    fn a_wrong_filter_is_found_before_the_start() {
        let wrong = LogConfig { filter: "info,store=loud".to_owned(), ..LogConfig::default() };
        assert!(wrong.validate().unwrap_err().to_string().contains("write a level such as"));
        LogConfig::default().validate().unwrap();
    }

    #[test]
    fn a_trace_id_always_has_32_digits() {
        assert_eq!(trace_hex(255), "000000000000000000000000000000ff");
    }
}
