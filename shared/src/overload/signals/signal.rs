//! The signals: what each of them reads, and what its best value is.

use super::{Dependency, Readings};
use crate::Nanos;

const MS: f64 = 1e6;

/// A backend that answers within this is not slow, however much quicker its quickest answer was: a read from memory and
/// a write that waits for the disk differ by more than any threshold.
const DEPENDENCY_QUICK: Nanos = 20_000_000;

/// What can be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Predicted wait of foreground, ms.
    ForegroundWait,
    /// Predicted wait of background, ms.
    BackgroundWait,
    /// Smallest foreground sojourn, ms.
    Sojourn,
    /// Lateness of timers, ms.
    Lateness,
    /// Share of the seats.
    SeatsBusy,
    /// Background logins, as a multiple of their mean.
    Logins,
    /// Quickest round trip to the backend by the recent one.
    Dependency,
    /// Share of requests to the backend that time out.
    Timeouts,
    /// Share of the memory.
    Memory,
    /// Share of the descriptors.
    Descriptors,
    /// Share of the handshakes in flight.
    Handshakes,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ForegroundWait,
        Self::BackgroundWait,
        Self::Sojourn,
        Self::Lateness,
        Self::SeatsBusy,
        Self::Logins,
        Self::Dependency,
        Self::Timeouts,
        Self::Memory,
        Self::Descriptors,
        Self::Handshakes,
    ];

    /// Its name: metric label and word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForegroundWait => "foreground_wait_ms",
            Self::BackgroundWait => "background_wait_ms",
            Self::Sojourn => "sojourn_ms",
            Self::Lateness => "lateness_ms",
            Self::SeatsBusy => "seats_busy",
            Self::Logins => "logins",
            Self::Dependency => "dependency",
            Self::Timeouts => "timeouts",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Handshakes => "handshakes",
        }
    }

    /// Whether it is a delay that people feel.
    pub fn is_foreground_delay(self) -> bool {
        matches!(self, Self::ForegroundWait | Self::Sojourn | Self::Lateness)
    }

    pub(super) fn reading(self, readings: &Readings, logins: f64) -> Option<f64> {
        let ms = |nanos: Nanos| nanos as f64 / MS;
        let value = match self {
            Self::ForegroundWait => ms(readings.foreground_wait),
            Self::BackgroundWait => ms(readings.background_wait),
            Self::Sojourn => ms(readings.sojourn_min?),
            Self::Lateness => ms(readings.lateness_p95?),
            Self::SeatsBusy => readings.seats_busy,
            Self::Logins => logins,
            Self::Dependency => readings.dependency.and_then(quickness)?,
            Self::Timeouts => readings.dependency?.timeouts_share,
            Self::Memory => readings.memory,
            Self::Descriptors => readings.descriptors,
            Self::Handshakes => readings.handshakes,
        };
        value.is_finite().then_some(value)
    }

    /// The best that can be read: how far a reading is from guard is measured from here. Those that compare with what is
    /// usual begin at 1.
    pub(super) fn ideal(self) -> f64 {
        if matches!(self, Self::Dependency | Self::Logins) { 1.0 } else { 0.0 }
    }
}

/// 1: as quick as ever.
fn quickness(dependency: Dependency) -> Option<f64> {
    match dependency {
        Dependency { rtt, .. } if rtt < DEPENDENCY_QUICK => Some(1.0),
        Dependency { rtt_min: 0, .. } => None,
        Dependency { rtt_min, rtt, .. } => Some((rtt_min as f64 / rtt as f64).min(1.0)),
    }
}
