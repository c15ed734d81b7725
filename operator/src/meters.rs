//! What the operator's seat counts: the registry of its metrics. A metric that is counted and not listed here is found by a test of the
//! binary.

use buslane_shared::metric::{Metric, Unit};

/// Every metric of the seat.
pub const METRICS: &[Metric] = &[
    Metric::gauge(
        "buslane_alert_active",
        Unit::Code,
        &["alert"],
        "1 while people are told of this alert of the status",
    ),
    Metric::counter("buslane_probe_runs_total", &["outcome"], "Probes from outside; outcome: ok or failed"),
    Metric::seconds(
        "buslane_probe_step_seconds",
        &["step"],
        "How long the steps of a probe take that go well: enter, hello, send, receive",
    ),
    Metric::gauge(
        "buslane_trend_usual_per_second",
        Unit::PerSecond,
        &["of"],
        "What is usual now, of logins and of messages, once enough is known",
    ),
    Metric::gauge(
        "buslane_trend_score",
        Unit::Count,
        &["of"],
        "By how many spreads the present differs from what is usual",
    ),
    Metric::gauge(
        "buslane_incidents_open",
        Unit::Count,
        &["severity"],
        "Incidents that are not over, and that no other process tells people about",
    ),
    Metric::counter(
        "buslane_incidents_opened_total",
        &[],
        "Incidents that were opened, by rules and by people",
    ),
    Metric::counter(
        "buslane_incidents_not_opened_total",
        &[],
        "Incidents that were not opened, because too many are open",
    ),
    Metric::counter(
        "buslane_incident_writes_failed_total",
        &[],
        "Writes of an incident to the disk that failed; they are tried again",
    ),
    Metric::counter(
        "buslane_notifications_total",
        &["kind", "outcome"],
        "Messages to people; kind: slack, alertmanager or email, outcome: sent, failed or another that is not sent",
    ),
    Metric::counter(
        "buslane_live_dropped_total",
        &[],
        "Streams of live data that ended because their reader was too slow",
    ),
];
