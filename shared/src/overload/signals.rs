//! What is measured, and how bad it is.
//!
//! Any single signal that is bad enough suffices: a surge shows first in whichever resource is shortest, and that one is not
//! known beforehand. A reading that is missing or is no number raises nothing: a broken probe is no emergency. What foreground
//! delay counts as bad is learnt from the node's own calm (`baseline`); what number of logins is unusual, from its own
//! last minute (`logins`).

mod baseline;
mod logins;
mod signal;

use crate::Nanos;
use crate::overload::settings::{Limits, Thresholds};
use baseline::Baseline;
use logins::LoginMean;

pub use signal::Signal;

/// Memory and descriptors are held by sessions, in the calm as well: half of guard would never come back on a full node. They
/// are calm below this part of guard.
const STOCK_CALM: f64 = 0.9;

/// Lateness is a reason for an emergency when it has been hard for this long, and for GUARD until then. It is the one signal that names
/// no cause: a store that writes its tables out makes threads late for a second or two, and nothing that an emergency takes away
/// would help. A load that is too much does not end by itself. (What background may have of the foreground's threads is another
/// matter: that follows at once.)
const LATE_FOR: Nanos = 3_000_000_000;

/// Between two readings no more than this counts as observed: a node that was suspended has seen nothing.
const GAP_MAX: Nanos = 500_000_000;

/// What was read at one moment. Delays of `None` were not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Readings {
    /// The moment.
    pub now: Nanos,
    /// Predicted wait of the foreground class that waits longest.
    pub foreground_wait: Nanos,
    /// Predicted wait of the background class that waits longest.
    pub background_wait: Nanos,
    /// Smallest foreground sojourn of the last 20 ms.
    pub sojourn_min: Option<Nanos>,
    /// How late a 10 ms timer is, p95 of the last 100, of the worker that is worst. The millisecond in which timers tick is
    /// not lateness: it is taken off.
    pub lateness_p95: Option<Nanos>,
    /// Share of the seats that are taken. Seats that background only borrows are a use of what is idle and not a shortage:
    /// they are left out.
    pub seats_busy: f64,
    /// Background logins asked for in the last 100 ms. Whoever returns in his slot was invited and is left out.
    pub logins_100ms: u32,
    /// Background logins that the node takes in a second.
    pub login_budget_per_s: f64,
    /// How the backend answers.
    pub dependency: Option<Dependency>,
    /// Share of the memory that is used.
    pub memory: f64,
    /// Share of the file descriptors that are used.
    pub descriptors: f64,
    /// Share of the handshakes that may be in flight.
    pub handshakes: f64,
}

/// How the backend answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dependency {
    /// The quickest answer of the last minutes.
    pub rtt_min: Nanos,
    /// The recent mean.
    pub rtt: Nanos,
    /// Share of the requests that timed out.
    pub timeouts_share: f64,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Severity {
    /// Everything is under half of its guard value.
    #[default]
    Calm,
    /// Everything is under its guard value.
    Easy,
    /// Something is over its guard value.
    Guard,
    /// Something is over its hard value.
    Hard,
}

impl Severity {
    /// All of them, best first.
    pub const ALL: [Self; 4] = [Self::Calm, Self::Easy, Self::Guard, Self::Hard];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Easy => "easy",
            Self::Guard => "guard",
            Self::Hard => "hard",
        }
    }
}

/// Which signal is worst, and what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cause {
    /// The signal.
    pub signal: Signal,
    /// What was read.
    pub value: f64,
    /// The guard or hard value that it is over, in the same unit.
    pub limit: f64,
}

/// How bad it is, and why.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Judgement {
    /// That of the worst signal.
    pub severity: Severity,
    /// The worst signal, where one is over its guard value.
    pub cause: Option<Cause>,
    /// That of the worst delay that people feel.
    pub foreground: Severity,
}

/// Judges readings, one after the other, and learns what is usual.
#[derive(Debug)]
pub struct Watch {
    thresholds: Thresholds,
    logins: LoginMean,
    baselines: [(Signal, Baseline); 3],
    /// For how long lateness has been over its hard value.
    late_for: Nanos,
    /// When it was looked at last.
    late_seen: Nanos,
}

impl Watch {
    /// With thresholds that were checked.
    pub fn new(thresholds: &Thresholds) -> Self {
        let delays = [Signal::ForegroundWait, Signal::Sojourn, Signal::Lateness];
        Self {
            thresholds: *thresholds,
            logins: LoginMean::default(),
            baselines: delays.map(|signal| (signal, Baseline::default())),
            late_for: 0,
            late_seen: 0,
        }
    }

    /// Other thresholds. What was learnt stays.
    pub fn reconfigure(&mut self, thresholds: &Thresholds) {
        self.thresholds = *thresholds;
    }

    /// From which values on a signal counts now.
    pub fn limits(&self, signal: Signal) -> Limits {
        let set = configured(&self.thresholds, signal);
        // What an operator has set is not replaced by what was learnt.
        let learns = set == configured(&Thresholds::default(), signal);
        let learnt = self.baselines.iter().find(|(s, _)| *s == signal).and_then(|(_, b)| b.guard_ms());
        match learnt.filter(|_| learns) {
            Some(guard) => {
                let guard = guard.min(set.guard * baseline::FACTOR_MAX);
                Limits { guard, hard: 2.0 * guard }
            }
            None => set,
        }
    }

    /// How bad these readings are.
    pub fn judge(&mut self, readings: &Readings) -> Judgement {
        let logins = self.logins.surge(readings, &self.thresholds);
        let is_late_for_long = self.is_late_for_long(readings);
        let (mut judgement, mut worst, mut loaded) = (Judgement::default(), 0.0, false);
        for signal in Signal::ALL {
            let Some(value) = signal.reading(readings, logins) else { continue };
            let mut judged = Judged::new(signal, value, self.limits(signal));
            if signal.is_foreground_delay() {
                judgement.foreground = judgement.foreground.max(judged.severity);
            } else {
                loaded |= judged.severity > Severity::Calm;
            }
            if signal == Signal::Lateness && !is_late_for_long {
                judged.soften();
            }
            judgement.severity = judgement.severity.max(judged.severity);
            if judged.severity >= Severity::Guard && judged.strain > worst {
                worst = judged.strain;
                judgement.cause = Some(judged.cause());
            }
        }
        let over_guard = judgement.severity >= Severity::Guard;
        self.logins.learn(readings, over_guard);
        // The delays themselves do not say when it is calm: a guard that is learnt only from what lies below it shrinks for
        // ever. The other signals say it.
        for (signal, baseline) in &mut self.baselines {
            baseline.learn(readings.now, signal.reading(readings, logins).filter(|_| !loaded));
        }
        judgement
    }

    /// Whether lateness has been over its hard value for so long that it does not end by itself. What is under it ends that; a moment
    /// in which nothing is measured, because the node itself is not busy, takes as much away as one that counts adds.
    fn is_late_for_long(&mut self, readings: &Readings) -> bool {
        let hard_ms = self.limits(Signal::Lateness).hard;
        let since = readings.now.saturating_sub(self.late_seen).min(GAP_MAX);
        self.late_seen = readings.now;
        self.late_for = match readings.lateness_p95 {
            Some(late) if late as f64 / 1e6 >= hard_ms => self.late_for.saturating_add(since).min(LATE_FOR),
            Some(_) => 0,
            None => self.late_for.saturating_sub(since),
        };
        self.late_for >= LATE_FOR
    }
}

struct Judged {
    signal: Signal,
    value: f64,
    limits: Limits,
    severity: Severity,
    /// 1 at guard, 2 at hard and beyond: how signals of different units are compared.
    strain: f64,
}

impl Judged {
    fn new(signal: Signal, value: f64, limits: Limits) -> Self {
        let ideal = signal.ideal();
        let (distance, guard, hard) =
            ((value - ideal).abs(), (limits.guard - ideal).abs(), (limits.hard - ideal).abs());
        let calm = match signal {
            Signal::Memory | Signal::Descriptors => STOCK_CALM * guard,
            _ => 0.5 * guard,
        };
        let severity = match distance {
            d if d >= hard => Severity::Hard,
            d if d >= guard => Severity::Guard,
            d if d >= calm => Severity::Easy,
            _ => Severity::Calm,
        };
        let strain = match severity {
            Severity::Hard => 2.0 * distance / hard,
            _ => distance / guard,
        };
        Self { signal, value, limits, severity, strain }
    }

    /// Only over guard, for now.
    fn soften(&mut self) {
        self.severity = self.severity.min(Severity::Guard);
        self.strain = self.strain.min(2.0);
    }

    fn cause(&self) -> Cause {
        let limit = if self.severity == Severity::Hard { self.limits.hard } else { self.limits.guard };
        Cause { signal: self.signal, value: self.value, limit }
    }
}

fn configured(thresholds: &Thresholds, signal: Signal) -> Limits {
    match signal {
        Signal::ForegroundWait => thresholds.foreground_wait_ms,
        Signal::BackgroundWait => thresholds.background_wait_ms,
        Signal::Sojourn => thresholds.sojourn_ms,
        Signal::Lateness => thresholds.lateness_ms,
        Signal::SeatsBusy => thresholds.seats_busy,
        Signal::Logins => thresholds.logins,
        Signal::Dependency => thresholds.dependency,
        // One value: it is hard at once.
        Signal::Timeouts => Limits { guard: thresholds.timeouts, hard: thresholds.timeouts },
        Signal::Memory | Signal::Descriptors | Signal::Handshakes => thresholds.resources,
    }
}

#[cfg(test)]
mod tests;
