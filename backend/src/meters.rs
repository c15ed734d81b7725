//! What the backend counts: the registry of its metrics. A metric that is counted and not listed here is found by a test of the binary.

use buslane_shared::metric::{Metric, Unit};

/// Every metric of the backend.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "buslane_backend_requests_total",
        &["protocol"],
        "Requests of gateways and session managers",
    ),
    Metric::seconds("buslane_backend_request_seconds", &["protocol"], "From a request to its answer"),
    Metric::counter("buslane_backend_refusals_total", &["code"], "Requests that were refused"),
    Metric::counter("buslane_backend_commits_total", &[], "Messages that became durable"),
    Metric::seconds(
        "buslane_backend_commit_seconds",
        &[],
        "From the decision about a message to its receipt",
    ),
    Metric::counter("buslane_backend_append_failures_total", &[], "Messages that the store did not take"),
    Metric::counter("buslane_backend_cursor_moves_total", &[], "Cursors that were moved"),
    Metric::counter("buslane_backend_deliveries_total", &[], "Events sent to session managers"),
    Metric::counter(
        "buslane_backend_deliveries_dropped_total",
        &[],
        "Events for session managers that did not keep up; they are told to catch up",
    ),
    Metric::counter(
        "buslane_backend_damaged_records_total",
        &[],
        "Records that do not open: any is an alarm, restore from a backup",
    ),
    Metric::counter("buslane_backend_enrolments_total", &[], "Devices that were enrolled"),
    Metric::counter(
        "buslane_backend_messages_expired_total",
        &[],
        "Messages that were removed because they were kept long enough",
    ),
    Metric::counter(
        "buslane_backend_orders_refused_total",
        &["why"],
        "Orders that came from a session manager and are none",
    ),
    Metric::gauge(
        "buslane_backend_feed_subscribers",
        Unit::Count,
        &[],
        "Gateways and session managers that are fed",
    ),
    Metric::gauge("buslane_backend_links", Unit::Count, &[], "Session managers that are connected"),
    Metric::gauge("buslane_backend_rooms_active", Unit::Count, &[], "Rooms in memory"),
];
