//! What a session manager counts: the registry of its metrics. A metric that is counted and not listed here is found by a test of the
//! binary.

use buslane_shared::metric::{Metric, Unit};

/// Every metric of a session manager.
pub const METRICS: &[Metric] = &[
    Metric::gauge(
        "buslane_session_manager_connections",
        Unit::Count,
        &["port"],
        "Connections with a session",
    ),
    Metric::gauge(
        "buslane_session_manager_sessions",
        Unit::Count,
        &[],
        "Sessions, those that wait for their client included",
    ),
    Metric::counter(
        "buslane_session_manager_sessions_opened_total",
        &["port", "how"],
        "Sessions that began; how: login, resume or resume_with_loss",
    ),
    Metric::counter(
        "buslane_session_manager_requests_total",
        &["port", "protocol", "class"],
        "Requests that came",
    ),
    Metric::seconds(
        "buslane_session_manager_request_seconds",
        &["port", "class"],
        "From the request to the backend's answer, the wait for a seat included",
    ),
    Metric::counter(
        "buslane_session_manager_refusals_total",
        &["port", "what", "code"],
        "What was refused here",
    ),
    Metric::counter(
        "buslane_session_manager_bytes_total",
        &["port", "direction"],
        "Bytes of frames, in and out",
    )
    .in_unit(Unit::Bytes),
    Metric::counter("buslane_session_manager_events_total", &["port"], "Events written to clients"),
    Metric::counter("buslane_session_manager_deliveries_total", &[], "Events for sessions that are here"),
    Metric::gauge(
        "buslane_session_manager_delivery_backlog",
        Unit::Count,
        &[],
        "Events that wait until sessions that somebody looks at have theirs",
    ),
    Metric::counter(
        "buslane_session_manager_mailbox_overflows_total",
        &[],
        "Mailboxes that were full: the device catches up from the log",
    ),
    Metric::counter(
        "buslane_session_manager_panics_total",
        &["port"],
        "Sessions that ended by a fault of the program",
    ),
    Metric::gauge("buslane_session_manager_linked", Unit::Code, &[], "1 while the backend is connected"),
    Metric::counter(
        "buslane_session_manager_link_reconnects_total",
        &[],
        "New tries to connect to the backend",
    ),
    Metric::gauge(
        "buslane_session_manager_posture",
        Unit::Code,
        &[],
        "0 NORMAL, 1 GUARD, 2 EMERGENCY, 3 RECOVERY",
    ),
    Metric::counter(
        "buslane_session_manager_posture_changes_total",
        &["to", "source", "signal"],
        "Changes of the posture; source: measured or ordered, signal: the one that was worst",
    ),
    Metric::gauge(
        "buslane_session_manager_admission_level",
        Unit::Code,
        &[],
        "First admission level that is refused; 1024: none",
    ),
    Metric::counter(
        "buslane_session_manager_decisions_total",
        &["class", "protocol", "decision"],
        "What was decided about every request",
    ),
    Metric::gauge("buslane_session_manager_seats_in_use", Unit::Count, &["class"], "Seats that are taken"),
    Metric::gauge(
        "buslane_session_manager_seats_waiting",
        Unit::Count,
        &["class"],
        "Requests that wait for a seat",
    ),
    Metric::seconds(
        "buslane_session_manager_seat_wait_seconds",
        &["class"],
        "How long those waited that did not get their seat at once",
    ),
    Metric::gauge(
        "buslane_session_manager_predicted_wait_seconds",
        Unit::Seconds,
        &["class"],
        "How long a request that came now would wait",
    ),
    Metric::gauge(
        "buslane_session_manager_background_seats",
        Unit::Count,
        &[],
        "The most seats that background may have now",
    ),
    Metric::gauge(
        "buslane_session_manager_background_logins_per_second",
        Unit::PerSecond,
        &[],
        "Background logins that the node takes",
    ),
    Metric::gauge(
        "buslane_session_manager_slot_ledger_seconds",
        Unit::Seconds,
        &[],
        "Until the first free place: how long a storm still lasts",
    ),
    Metric::counter(
        "buslane_session_manager_slots_total",
        &["how"],
        "Slots at the hello: given, none_left, used, early, late, or why one was bad",
    ),
    Metric::counter(
        "buslane_session_manager_marks_total",
        &["port", "mark"],
        "First packets by what they show: pass, going_on, slot, none, or what is wrong with it",
    ),
    Metric::counter(
        "buslane_session_manager_turned_away_total",
        &["port", "how"],
        "First packets that got no handshake: no_pass, put_off, wait, later, silence, retry, refused or ignored",
    ),
    Metric::counter(
        "buslane_session_manager_held_total",
        &["port"],
        "Hellos that were kept for a slot or a place that was near, in place of an answer",
    ),
    Metric::gauge(
        "buslane_session_manager_handshakes_in_flight",
        Unit::Count,
        &["port"],
        "Handshakes that are under way",
    ),
    Metric::gauge(
        "buslane_session_manager_processors_busy_share",
        Unit::Share,
        &[],
        "Part of the processors that is busy, without what runs only when nothing else wants to",
    ),
    Metric::gauge(
        "buslane_session_manager_lateness_seconds",
        Unit::Seconds,
        &[],
        "How late timers of the front port are, 95th percentile of a second",
    ),
];
