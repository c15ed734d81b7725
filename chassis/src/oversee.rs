//! What an operator may ask of the node that controls load: its posture and why, its lanes, and what an order would refuse.
//!
//! Why it exists: the admin surface is written once, here, and knows no role. The session manager answers through
//! [`Overseer`]. Every answer is a picture of now, made without waiting: an operator asks in the middle of a bad night, so
//! nothing here may lock out the work that it looks at.

use buslane_shared::wire::Posture;
use buslane_shared::{UnixMs, overload};
use serde::{Serialize, Serializer};

/// The node that controls load, as the operator's surface sees it. No method may block or wait.
pub trait Overseer: Send + Sync {
    /// The posture and what it comes from.
    fn posture(&self) -> PostureView;

    /// The seats and who has them.
    fn lanes(&self) -> LanesView;

    /// What of the requests of the last second would have been refused in this posture, with everything else as it is.
    /// Protocols that nobody asked for may be left out.
    fn would_refuse(&self, posture: Posture) -> Vec<WouldRefuse>;
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
    /// The signal that is highest now, if any is over its guard value.
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

fn posture_name<S: Serializer>(posture: &Posture, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(overload::posture::name(*posture))
}
