//! The metrics that every process has, and how a registry is told to `/metrics`.
//!
//! Why it exists: HELP lines come from the same rows as docs/metrics.md. A metric that is counted and not listed is found by a
//! test of the binary, which reads the sources.

use buslane_shared::metric::{Kind, Metric, Unit};

/// What the chassis counts, in every process.
pub const METRICS: &[Metric] = &[
    Metric::counter("buslane_orders_total", &["kind"], "Orders of the posture that were given here"),
    Metric::counter("buslane_orders_refused_total", &["why"], "Orders that were not taken"),
    Metric::counter("buslane_audit_entries_total", &[], "Entries written to the audit"),
    Metric::counter(
        "buslane_admin_refused_total",
        &["why"],
        "Requests at the admin address without the right to them",
    ),
    Metric::counter("buslane_admin_logins_total", &[], "Logins at the page of the admin address"),
    Metric::counter(
        "buslane_feed_reconnects_total",
        &[],
        "New connections of the feed, by which the backend tells gateways and session managers",
    ),
    Metric::counter("buslane_rpc_failures_total", &["code"], "Calls to the backend that failed"),
    Metric::counter(
        "buslane_rpc_connections_refused_total",
        &["why"],
        "Connections of roles that the backend did not take",
    ),
    Metric::counter("buslane_rpc_panics_total", &[], "Calls that ended by a fault of the program"),
    Metric::gauge(
        "buslane_first_packets_share",
        Unit::Share,
        &["port", "who"],
        "Part of the first packets that the kernel lets through; who: known (with a knock) or stranger",
    ),
    Metric::counter("buslane_spans_exported_total", &[], "Spans that the collector of traces has taken"),
    Metric::counter(
        "buslane_spans_dropped_total",
        &["why"],
        "Spans that reached no collector; why: queue (no place to wait) or export (it took nothing)",
    ),
    Metric::gauge("buslane_process_resident_bytes", Unit::Bytes, &[], "Resident memory of the process"),
    Metric::gauge("buslane_process_open_fds", Unit::Count, &[], "Open file descriptors"),
    Metric::gauge("buslane_process_uptime_seconds", Unit::Seconds, &[], "Time since the start"),
];

/// Tells the recorder what these metrics say. A recorder that is not there hears nothing.
pub fn describe(registry: &[Metric]) {
    for metric in registry {
        let (name, help) = (metric.name, metric.help);
        match (metric.kind, unit(metric.unit)) {
            (Kind::Counter, Some(unit)) => metrics::describe_counter!(name, unit, help),
            (Kind::Counter, None) => metrics::describe_counter!(name, help),
            (Kind::Gauge, Some(unit)) => metrics::describe_gauge!(name, unit, help),
            (Kind::Gauge, None) => metrics::describe_gauge!(name, help),
            (Kind::Histogram, Some(unit)) => metrics::describe_histogram!(name, unit, help),
            (Kind::Histogram, None) => metrics::describe_histogram!(name, help),
        }
    }
}

fn unit(unit: Unit) -> Option<metrics::Unit> {
    match unit {
        Unit::Count => Some(metrics::Unit::Count),
        Unit::PerSecond => Some(metrics::Unit::CountPerSecond),
        Unit::Seconds => Some(metrics::Unit::Seconds),
        Unit::Bytes => Some(metrics::Unit::Bytes),
        // A share has no unit, and a code is not measured.
        Unit::Share | Unit::Code => None,
    }
}
