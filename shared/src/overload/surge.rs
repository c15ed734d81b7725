//! The posture that is measured: NORMAL → GUARD → EMERGENCY → RECOVERY → NORMAL.
//!
//! ```text
//!            guard, 3 ticks, or peers                 hard
//!   NORMAL ──────────────────────────> GUARD ──────────────────────> EMERGENCY <──┐
//!     ^ ^ <──────────────────────────────                                │        │ hard:
//!     │        calm for 10 s           hard (from NORMAL, same tick) ────^        │ a relapse
//!     │                                        dwell over, calm for 10 s,│        │
//!     └──────────────── RECOVERY <─────────────ledger under 10 s ────────┘        │
//!      background at 100 %  └──────────────────────────────────────────────────────┘
//! ```
//!
//! Getting in is quick, because a second too late is a second of damage; getting out is slow, because every change is told to
//! every client. "Calm for 10 s" is counted as credit: a tick under half of guard counts whole, one that is only under guard
//! counts for a sixth, one over guard takes all of it away. So a node whose usual state is a little above half of guard gets
//! out as well, after a minute, and a single tick that is less than calm does not begin the ten seconds anew.
//!
//! It knows nothing of orders, and never closes anything: what follows from a posture is not decided here.

use crate::Nanos;
use crate::overload::settings::Times;
use crate::overload::signals::Severity;
use crate::wire::Posture;

/// This many ticks in a row over guard are no accident.
const GUARD_TICKS: u32 = 3;

/// This share of the other nodes' capacity in EMERGENCY puts this one into GUARD: their clients are on their way.
pub const PEERS_SHARE: f64 = 0.25;

/// A tick that is under guard and not calm counts for one part of so many.
const EASY_PART: Nanos = 6;

/// Between two ticks no more than this counts as observed: a node that was suspended has seen nothing.
const GAP_MAX: Nanos = 1_000_000_000;

const MS: Nanos = 1_000_000;

/// From which posture to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What held.
    pub from: Posture,
    /// What holds now.
    pub to: Posture,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Normal,
    Guard,
    Emergency {
        since: Nanos,
    },
    /// With the share of the node that background may have.
    Recovery {
        share: f64,
    },
}

impl Phase {
    fn posture(self) -> Posture {
        match self {
            Self::Normal => Posture::Normal,
            Self::Guard => Posture::Guard,
            Self::Emergency { .. } => Posture::Emergency,
            Self::Recovery { .. } => Posture::Recovery,
        }
    }
}

/// The machine. One [`Surge::step`] each tick.
#[derive(Debug)]
pub struct Surge {
    times: Times,
    /// Share of the node that background always has.
    floor: f64,
    phase: Phase,
    last: Option<Nanos>,
    over_guard_ticks: u32,
    /// Calm so far, see the top of this file.
    credit: Nanos,
    /// How long the EMERGENCY of now, or the last one, lasts at least.
    dwell: Nanos,
    /// When the last EMERGENCY ended.
    left: Option<Nanos>,
    peers_share: f64,
}

/// What one tick has shown.
#[derive(Debug, Clone, Copy)]
struct Tick {
    now: Nanos,
    elapsed: Nanos,
    severity: Severity,
    ledger_ms: u64,
}

impl Surge {
    /// In NORMAL. `floor_percent` of the node always belongs to background.
    pub fn new(times: &Times, floor_percent: u8) -> Self {
        Self {
            times: *times,
            floor: f64::from(floor_percent) / 100.0,
            phase: Phase::Normal,
            last: None,
            over_guard_ticks: 0,
            credit: 0,
            dwell: 0,
            left: None,
            peers_share: 0.0,
        }
    }

    /// Other times. A dwell that has begun stays as it is.
    pub fn reconfigure(&mut self, times: &Times, floor_percent: u8) {
        self.times = *times;
        self.floor = f64::from(floor_percent) / 100.0;
    }

    /// What is measured.
    pub fn posture(&self) -> Posture {
        self.phase.posture()
    }

    /// The share of the node that background may have: its floor in EMERGENCY, everything in NORMAL and GUARD.
    pub fn background_share(&self) -> f64 {
        match self.phase {
            Phase::Normal | Phase::Guard => 1.0,
            Phase::Emergency { .. } => self.floor,
            Phase::Recovery { share } => share,
        }
    }

    /// The share of the other nodes' capacity that is in EMERGENCY. It counts from the next step on.
    pub fn on_peers(&mut self, share: f64) {
        self.peers_share = share;
    }

    /// One tick: how bad it is, and how long the slot ledger is.
    pub fn step(&mut self, now: Nanos, severity: Severity, ledger_ms: u64) -> Option<Change> {
        let elapsed = self.last.replace(now).map_or(0, |last| now.saturating_sub(last)).min(GAP_MAX);
        self.over_guard_ticks =
            if severity >= Severity::Guard { self.over_guard_ticks.saturating_add(1) } else { 0 };
        self.credit = match severity {
            Severity::Calm => self.credit.saturating_add(elapsed),
            Severity::Easy => self.credit.saturating_add(elapsed / EASY_PART),
            Severity::Guard | Severity::Hard => 0,
        };
        let before = self.phase;
        self.phase = self.next(Tick { now, elapsed, severity, ledger_ms });
        let change = Change { from: before.posture(), to: self.phase.posture() };
        if change.from == change.to {
            return None;
        }
        self.on_change(change, now);
        Some(change)
    }

    /// The whole machine.
    fn next(&self, tick: Tick) -> Phase {
        let peers = self.peers_share >= PEERS_SHARE;
        match (self.phase, tick.severity) {
            (Phase::Normal | Phase::Guard | Phase::Recovery { .. }, Severity::Hard) => {
                Phase::Emergency { since: tick.now }
            }
            (Phase::Normal, _) if peers || self.over_guard_ticks >= GUARD_TICKS => Phase::Guard,
            (Phase::Guard, _) if self.is_calm() && !peers => Phase::Normal,
            (Phase::Emergency { since }, _) if self.is_over(since, tick) => {
                Phase::Recovery { share: self.floor }
            }
            (Phase::Recovery { share }, Severity::Calm | Severity::Easy) => self.reopened(share, tick),
            // Over guard nothing more is let in, and nothing is taken back.
            (phase, _) => phase,
        }
    }

    fn is_calm(&self) -> bool {
        self.credit >= Nanos::from(self.times.calm_ms) * MS
    }

    fn is_over(&self, since: Nanos, tick: Tick) -> bool {
        let dwelt = tick.now.saturating_sub(since) >= self.dwell;
        dwelt && self.is_calm() && tick.ledger_ms < u64::from(self.times.ledger_ms)
    }

    fn reopened(&self, share: f64, tick: Tick) -> Phase {
        let per_s = f64::from(self.times.reopen_percent_per_s) / 100.0;
        let share = share + per_s * (tick.elapsed as f64 / 1e9);
        if share >= 1.0 { Phase::Normal } else { Phase::Recovery { share } }
    }

    fn on_change(&mut self, change: Change, now: Nanos) {
        self.credit = 0;
        if change.from == Posture::Emergency {
            self.left = Some(now);
        }
        if change.to == Posture::Emergency {
            self.dwell = self.next_dwell(now);
        }
    }

    /// A relapse doubles it, up to a bound.
    fn next_dwell(&self, now: Nanos) -> Nanos {
        let relapse = Nanos::from(self.times.relapse_ms) * MS;
        let first = Nanos::from(self.times.dwell_ms) * MS;
        let most = Nanos::from(self.times.dwell_ms_max) * MS;
        let relapsed = self.left.is_some_and(|left| now.saturating_sub(left) <= relapse);
        if relapsed { self.dwell.saturating_mul(2).max(first).min(most) } else { first }
    }
}

#[cfg(test)]
mod tests;
