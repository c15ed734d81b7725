//! What a gateway counts: the registry of its metrics. A metric that is counted and not listed here is found by a test of the binary.

use buslane_shared::metric::{Metric, Unit};

/// Every metric of a gateway.
pub const METRICS: &[Metric] = &[
    Metric::gauge("buslane_gateway_connections", Unit::Count, &[], "Connections that are open"),
    Metric::gauge("buslane_gateway_handshakes_in_flight", Unit::Count, &[], "Handshakes that are under way"),
    Metric::seconds("buslane_gateway_handshake_seconds", &[], "How long a handshake takes"),
    Metric::counter("buslane_gateway_handshakes_lost_total", &["why"], "Handshakes that came to nothing"),
    Metric::seconds(
        "buslane_gateway_request_seconds",
        &["op"],
        "From the request to its answer; op: enrol or enter",
    ),
    Metric::counter("buslane_gateway_granted_total", &["op"], "Requests that got what they wanted"),
    Metric::counter("buslane_gateway_refusals_total", &["op", "code"], "Requests that were refused"),
    Metric::counter(
        "buslane_gateway_enters_total",
        &["lane", "verdict"],
        "Tickets asked for; verdict: ticket, deferred, early or bad_slot",
    ),
    Metric::counter("buslane_gateway_passes_total", &["lane"], "Lane passes that were given out"),
    Metric::counter(
        "buslane_gateway_slots_total",
        &["what"],
        "Slots: given, beyond_horizon, and what those are worth that are shown",
    ),
    Metric::counter(
        "buslane_gateway_marks_total",
        &["what"],
        "Marks of first packets: first, replayed or unremembered",
    ),
    Metric::counter(
        "buslane_gateway_claims_demoted_total",
        &[],
        "Said that a person looks, too often to be believed",
    ),
    Metric::counter(
        "buslane_gateway_retries_total",
        &["why"],
        "First packets whose sender was asked to prove his address",
    ),
    Metric::counter("buslane_gateway_ignored_total", &["why"], "First packets that were not answered"),
    Metric::counter(
        "buslane_gateway_holds_total",
        &["why"],
        "Addresses that were held off; why: failures or rate",
    ),
    Metric::counter(
        "buslane_gateway_holds_skipped_total",
        &[],
        "Addresses that were not held off, because the list of those was full",
    ),
    Metric::counter(
        "buslane_gateway_unmetered_total",
        &[],
        "Requests that were not counted against a limit, because its table was full",
    ),
    Metric::counter("buslane_gateway_jwks_loads_total", &["result"], "Loads of the identity provider's keys"),
    Metric::counter("buslane_gateway_panics_total", &[], "Connections that ended by a fault of the program"),
];
