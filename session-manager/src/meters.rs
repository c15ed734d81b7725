//! What a session manager counts. Handles are looked up once, not for every request.
//!
//! Why it exists: names and labels of metrics are an interface for operators, so they stand in one place. Labels have few
//! values: ports, classes, protocols, refusal codes; never a user, a device or an address.

use std::time::Duration;

use buslane_shared::class::{Class, Protocol};
use buslane_shared::refusal::Code;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Every class, in order of its number.
const CLASSES: [&str; 8] = ["C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7"];

/// Every protocol.
const PROTOCOLS: [Protocol; 12] = [
    Protocol::Ping,
    Protocol::AppState,
    Protocol::MessageSend,
    Protocol::MessageSync,
    Protocol::MessageHistory,
    Protocol::ReceiptMark,
    Protocol::ReceiptCounts,
    Protocol::RoomOpen,
    Protocol::RoomChange,
    Protocol::RoomList,
    Protocol::RoomMembers,
    Protocol::Account,
];

/// The meters of one port.
pub(crate) struct Meters {
    port: &'static str,
    requests: Vec<(Protocol, [Counter; 8])>,
    seconds: [Histogram; 8],
    /// Connections that hold a session.
    pub(crate) sessions: Gauge,
    /// Handshakes that are under way.
    pub(crate) handshakes: Gauge,
    /// Sessions opened anew.
    pub(crate) logins: Counter,
    /// Sessions continued without a loss.
    pub(crate) resumes: Counter,
    /// Resume tokens that were good for a new session only.
    pub(crate) resumes_with_loss: Counter,
    /// Sessions whose task panicked.
    pub(crate) panics: Counter,
    /// Bytes of frames from clients.
    pub(crate) bytes_in: Counter,
    /// Bytes of frames to clients.
    pub(crate) bytes_out: Counter,
    /// Events written to clients.
    pub(crate) events: Counter,
}

impl Meters {
    pub(crate) fn new(port: &'static str) -> Self {
        let requests = |protocol: Protocol| {
            CLASSES.map(|class| {
                counter!("buslane_session_manager_requests_total", "port" => port, "protocol" => protocol.name(), "class" => class)
            })
        };
        let sessions = |how: &'static str| counter!("buslane_session_manager_sessions_opened_total", "port" => port, "how" => how);
        Self {
            port,
            requests: PROTOCOLS.map(|p| (p, requests(p))).into(),
            seconds: CLASSES.map(
                |class| histogram!("buslane_session_manager_request_seconds", "port" => port, "class" => class),
            ),
            sessions: gauge!("buslane_session_manager_connections", "port" => port),
            handshakes: gauge!("buslane_session_manager_handshakes_in_flight", "port" => port),
            logins: sessions("login"),
            resumes: sessions("resume"),
            resumes_with_loss: sessions("resume_with_loss"),
            panics: counter!("buslane_session_manager_panics_total", "port" => port),
            bytes_in: counter!("buslane_session_manager_bytes_total", "port" => port, "direction" => "in"),
            bytes_out: counter!("buslane_session_manager_bytes_total", "port" => port, "direction" => "out"),
            events: counter!("buslane_session_manager_events_total", "port" => port),
        }
    }

    /// A request came.
    pub(crate) fn on_request(&self, protocol: Protocol, class: Class) {
        let counters = self.requests.iter().find(|(p, _)| *p == protocol);
        if let Some(counter) = counters.and_then(|(_, by_class)| by_class.get(class as usize)) {
            counter.increment(1);
        }
    }

    /// A relayed request was answered by the backend.
    pub(crate) fn on_answer(&self, class: Class, took: Duration) {
        if let Some(histogram) = self.seconds.get(class as usize) {
            histogram.record(took.as_secs_f64());
        }
    }

    /// Something was refused here: a packet, a hello, a request, a session.
    pub(crate) fn on_refusal(&self, what: &'static str, code: Code) {
        let labels = [("port", self.port), ("what", what), ("code", code.name())];
        counter!("buslane_session_manager_refusals_total", &labels).increment(1);
    }

    /// A first packet was not answered, or with a retry only.
    pub(crate) fn on_turned_away(&self, how: &'static str) {
        counter!("buslane_session_manager_turned_away_total", "port" => self.port, "how" => how).increment(1);
    }
}

/// Counts one thing in a gauge for as long as it lives.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
