//! How the backend answers, as seen from here.
//!
//! Why it exists: a backend that becomes slow must be noticed before everything that waits for it has filled the node. Only
//! sends are timed: each of them waits for the disk once, while a read from memory is a hundred times quicker and would make
//! every send look slow. It must never be steered by one client: what was given up counts only when it was given a fair
//! time, and only among many.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buslane_shared::Nanos;
use buslane_shared::overload::signals;

/// A request that was given up earlier than this says something about its client.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fewer requests in a window say nothing about the share of those that time out.
const COUNT_MIN: u64 = 200;

/// How long the share of time-outs is gathered.
const WINDOW: Nanos = 5_000_000_000;

/// How long the quickest answer counts: two of these.
const BASELINE: Nanos = 60_000_000_000;

/// How much the mean follows one tick of 50 ms.
const GAIN: f64 = 0.2;

/// Without an answer for this long nothing is known.
const STALE: Nanos = 5_000_000_000;

/// What the tasks of all sessions add to.
#[derive(Default)]
pub(crate) struct Dependency {
    answered: AtomicU64,
    timed_out: AtomicU64,
    sends: AtomicU64,
    sends_spent: AtomicU64,
}

impl Dependency {
    /// The backend has answered.
    pub(crate) fn on_answer(&self, is_send: bool, took: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if is_send {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.sends.fetch_add(1, Ordering::Relaxed);
            self.sends_spent.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// It had not answered after this time, when the deadline came.
    pub(crate) fn on_timeout(&self, waited: Duration) {
        if waited >= PATIENCE {
            self.timed_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What was made of it; one reader keeps it.
#[derive(Default)]
pub(crate) struct Pace {
    mean: Option<f64>,
    heard: Nanos,
    quickest: [Option<f64>; 2],
    baseline_began: Nanos,
    window_began: Nanos,
    answered: u64,
    timed_out: u64,
    timeouts_share: f64,
}

impl Pace {
    /// Takes what came since the last time into account. To be called every 50 ms or so.
    pub(crate) fn step(&mut self, from: &Dependency, now: Nanos) -> Option<signals::Dependency> {
        let (sends, spent) =
            (from.sends.swap(0, Ordering::Relaxed), from.sends_spent.swap(0, Ordering::Relaxed));
        if sends > 0 {
            self.on_sends(spent as f64 / sends as f64, now);
        }
        self.answered += from.answered.swap(0, Ordering::Relaxed);
        self.timed_out += from.timed_out.swap(0, Ordering::Relaxed);
        if now.saturating_sub(self.window_began) >= WINDOW {
            self.end_window(now);
        }
        let mean = self.mean.filter(|_| now.saturating_sub(self.heard) < STALE);
        let quickest = self.quickest.into_iter().flatten().reduce(f64::min);
        match (mean, quickest) {
            (Some(mean), Some(quickest)) => Some(signals::Dependency {
                rtt_min: quickest as Nanos,
                rtt: mean as Nanos,
                timeouts_share: self.timeouts_share,
            }),
            // Nothing was answered: the share of what timed out is all that is known.
            _ if self.timeouts_share > 0.0 => {
                Some(signals::Dependency { rtt_min: 0, rtt: 0, timeouts_share: self.timeouts_share })
            }
            _ => None,
        }
    }

    fn on_sends(&mut self, mean: f64, now: Nanos) {
        self.mean = Some(match self.mean.filter(|_| now.saturating_sub(self.heard) < STALE) {
            Some(before) => before + GAIN * (mean - before),
            None => mean,
        });
        self.heard = now;
        if now.saturating_sub(self.baseline_began) >= BASELINE {
            let [young, _] = self.quickest;
            self.quickest = [None, young];
            self.baseline_began = now;
        }
        let [young, _] = &mut self.quickest;
        *young = Some(young.map_or(mean, |quickest| quickest.min(mean)));
    }

    fn end_window(&mut self, now: Nanos) {
        let all = self.answered + self.timed_out;
        self.timeouts_share = if all >= COUNT_MIN { self.timed_out as f64 / all as f64 } else { 0.0 };
        (self.answered, self.timed_out, self.window_began) = (0, 0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_slow_backend_is_seen_against_its_own_best() {
        let (from, mut pace) = (Dependency::default(), Pace::default());
        assert_eq!(pace.step(&from, 0), None, "nothing is known");
        from.on_answer(true, millis(4));
        from.on_answer(false, Duration::from_micros(30));
        let first = pace.step(&from, 50 * MS).unwrap();
        assert_eq!((first.rtt_min, first.rtt), (4 * MS, 4 * MS));
        for tick in 2..40 {
            from.on_answer(true, millis(40));
            let now = pace.step(&from, tick * 50 * MS).unwrap();
            assert_eq!(now.rtt_min, 4 * MS);
        }
        from.on_answer(true, millis(40));
        assert!(pace.step(&from, 2_000 * MS).unwrap().rtt > 39 * MS);
        assert_eq!(pace.step(&from, 8_000 * MS), None, "nobody has sent for a while");
    }

    #[test]
    fn the_best_of_long_ago_is_forgotten() {
        let (from, mut pace) = (Dependency::default(), Pace::default());
        for (at_s, ms) in [(0, 2), (61, 9), (122, 9), (183, 9)] {
            from.on_answer(true, millis(ms));
            let now = pace.step(&from, at_s * 1_000 * MS).unwrap();
            assert_eq!(now.rtt_min / MS, if at_s < 122 { 2 } else { 9 });
        }
    }

    #[test]
    fn one_client_with_short_deadlines_is_no_outage() {
        let (from, mut pace) = (Dependency::default(), Pace::default());
        let share = |pace: &mut Pace, now| pace.step(&from, now).map(|d| d.timeouts_share);
        for _ in 0..1_000 {
            from.on_timeout(millis(50));
        }
        from.on_timeout(millis(2_500));
        assert_eq!(share(&mut pace, WINDOW), None, "one among too few");
        for _ in 0..990 {
            from.on_answer(false, millis(1));
        }
        for _ in 0..10 {
            from.on_timeout(millis(10_000));
        }
        assert_eq!(share(&mut pace, 2 * WINDOW), Some(0.01));
        assert_eq!(share(&mut pace, 3 * WINDOW), None);
    }
}
