//! What an operator may ask of the node that controls load: its posture and why, its lanes, and what an order would refuse.
//!
//! Why it exists: the admin surface is written once, here, and knows no role. The session manager answers through
//! [`Overseer`]. Every answer is a picture of now, made without waiting: an operator asks in the middle of a bad night, so
//! nothing here may lock out the work that it looks at. What an operator may do to a node beside giving orders (end a session,
//! let it drain) is asked for in the same way, and done by the node itself when it gets to it.

mod latency;
mod refusals;

use buslane_shared::wire::Posture;
use buslane_shared::{UnixMs, overload};
use serde::{Serialize, Serializer};

pub use latency::{LATENCY_BOUNDS_US, LATENCY_COUNTS, latency_place, percentile_us};
pub use refusals::{REFUSALS_MAX, RefusalFacts, Refusals, Refused};

/// The node that controls load, as the operator's surface sees it. No method may block or wait, but for [`Overseer::disconnect`].
pub trait Overseer: Send + Sync {
    /// The posture and what it comes from.
    fn posture(&self) -> PostureView;

    /// The seats and who has them.
    fn lanes(&self) -> LanesView;

    /// What of the requests of the last second would have been refused in this posture, with everything else as it is.
    /// Protocols that nobody asked for may be left out.
    fn would_refuse(&self, posture: Posture) -> Vec<WouldRefuse>;

    /// What was asked for and what became of it, since the start.
    fn traffic(&self) -> Traffic;

    /// A user's sessions at this node.
    fn sessions(&self, user: &str) -> Vec<SessionFacts>;

    /// Refusals of this user that are remembered, newest first.
    fn refusals(&self, user: &str) -> Vec<RefusalFacts>;

    /// Ends the session of a device (a UUID, with or without hyphens) now. False: it has none here. The device may log in again:
    /// taking its right away is another thing. It may wait for a thread of that session: to be called where waiting holds up nobody.
    fn disconnect(&self, user: &str, device: &str) -> bool;

    /// Asks the sessions to leave and takes no new ones, or takes them again. An error says what to do.
    fn drain(&self, wish: DrainWish) -> Result<(), String>;

    /// How far that is.
    fn drain_state(&self) -> DrainFacts;

    /// Who the node is.
    fn node(&self) -> NodeFacts;
}

/// The posture of one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PostureView {
    /// The node's name.
    pub node: String,
    /// What holds.
    #[serde(serialize_with = "posture_name")]
    pub posture: Posture,
    /// Since when it holds.
    pub since_ms: UnixMs,
    /// What is measured; the same as `posture` unless something else is ordered.
    #[serde(serialize_with = "posture_name")]
    pub measured: Posture,
    /// The signal that is highest now, if any is over its guard value; else the one that has raised what is measured.
    pub cause: Option<CauseView>,
    /// The order that is obeyed.
    pub order: Option<u64>,
    /// First admission level that is refused, 0 to 1024; 1024: none.
    pub level: u16,
    /// Background logins that the node takes, per second.
    pub background_per_s: f64,
    /// Milliseconds until the first free place in the slot ledger.
    pub ledger_ms: u32,
}

/// A signal over its limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CauseView {
    /// Name of the signal, as in the metrics.
    pub signal: &'static str,
    /// What was measured.
    pub value: f64,
    /// What it is compared with, in the same unit.
    pub limit: f64,
}

/// The seats of one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LanesView {
    /// How load is controlled: "buslane", "static" or "none".
    pub policy: &'static str,
    /// All seats.
    pub seats: u32,
    /// The most of them that background may have now.
    pub background_seats: u32,
    /// One for each class, most important first.
    pub lanes: Vec<LaneRow>,
    /// Those that are used or capped.
    pub protocols: Vec<ProtocolRow>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaneRow {
    /// "C0" to "C7".
    pub class: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// Seats that it has whenever it wants them.
    pub guarantee: u32,
    /// Seats that it may have when nobody else wants them.
    pub ceiling: u32,
    /// Seats that it has.
    pub in_use: u32,
    /// Jobs that wait for one.
    pub waiting: u32,
    /// Bytes of the jobs that wait.
    pub waiting_bytes: u64,
    /// How long a job that comes now is expected to wait.
    pub predicted_wait_us: u64,
    /// Jobs of the last second that got a seat.
    pub admitted_per_s: f64,
    /// Jobs of the last second that were refused, for whatever reason.
    pub refused_per_s: f64,
}

/// One protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProtocolRow {
    /// Its name.
    pub protocol: &'static str,
    /// Seats that it has.
    pub in_use: u32,
    /// The most that it may have.
    pub cap: u32,
    /// What a job costs on average.
    pub cost_us: u64,
}

/// What a posture would refuse of one protocol in one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WouldRefuse {
    /// Its name.
    pub protocol: &'static str,
    /// "C0" to "C7".
    pub class: &'static str,
    /// Asked for in the last second.
    pub offered: u64,
    /// Of these, refused as things are now.
    pub refused_now: u64,
    /// Of these, refused in the posture that was asked about.
    pub refused_then: u64,
}

/// What was asked for and what became of it, since the start of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    /// One for each protocol in each class in which anything was asked for.
    pub rows: Vec<TrafficRow>,
    /// One for each class in which anything was answered, logins aside.
    pub latency: Vec<LatencyRow>,
}

/// One protocol in one class. What has been asked for and has no outcome is under way, or its client no longer wanted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrafficRow {
    /// "C0" to "C7".
    pub class: &'static str,
    /// Its name. "login" is whoever opens or continues a session; those who are turned away by their first packet are among them.
    pub protocol: &'static str,
    /// Asked for.
    pub offered: u64,
    /// Answered, also where the answer was that the request is wrong.
    pub served: u64,
    /// Told to come back at a time of their own.
    pub deferred: u64,
    /// Refused otherwise: the sum of the reasons.
    pub refused: u64,
    /// Why, those that occurred.
    pub reasons: Vec<(&'static str, u64)>,
}

/// How long the answers of one class took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LatencyRow {
    /// "C0" to "C7".
    pub class: &'static str,
    /// At each place the answers that took at most [`LATENCY_BOUNDS_US`] there, and more than the bound before; one more for the
    /// rest.
    pub counts: Vec<u64>,
}

/// A session of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionFacts {
    /// The device, a UUID.
    pub device: String,
    /// "front" or "wake".
    pub port: &'static str,
    /// "foreground" or "background".
    pub app_state: &'static str,
    /// Whether it has a connection now; otherwise it waits for its client.
    pub connected: bool,
    /// Since when.
    pub since_ms: UnixMs,
    /// The last few requests, newest first; pings aside.
    pub last: Vec<RequestFacts>,
}

/// A request, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RequestFacts {
    /// When it came.
    pub at_ms: UnixMs,
    /// Its name.
    pub protocol: &'static str,
    /// The class that it was believed to be of.
    pub class: &'static str,
    /// "admitted", or the reason for which it was refused.
    pub outcome: &'static str,
}

/// What an operator wants of the sessions of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DrainWish {
    /// That they leave, and no new ones come.
    Begin {
        /// How many are asked a second; none: all within the time that the node has for it when it is stopped.
        per_s: Option<f64>,
    },
    /// That new ones come again. Who was asked to leave leaves.
    End,
}

/// How far a node has been drained.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct DrainFacts {
    /// Whether it drains.
    pub draining: bool,
    /// Sessions when that began.
    pub from_sessions: u64,
    /// Sessions that are there.
    pub sessions: u64,
    /// Of them and of those that have left, the ones that were asked to.
    pub asked: u64,
    /// How many are asked a second, where that was said.
    pub per_s: Option<f64>,
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Sessions with a connection to the front port.
    pub sessions_front: u64,
    /// Sessions with a connection to the wake port.
    pub sessions_wake: u64,
    /// When it came up.
    pub started_ms: UnixMs,
}

fn posture_name<S: Serializer>(posture: &Posture, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(overload::posture::name(*posture))
}
