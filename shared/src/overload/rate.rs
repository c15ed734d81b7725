//! How many background logins the node can take in a second, beside everything else.
//!
//! Slots are promised at this rate, so it must be known before the surge that needs it, and must not be guessed from a quiet
//! hour. A login's cost is measured whenever there are any; what is available is what background used plus what was idle.
//! Their quotient is the rate, in the calm as in the storm.

use crate::Nanos;

/// What a login costs before any was measured: handshake, ticket and welcome, with room.
pub const LOGIN_COST_DEFAULT: Nanos = 500_000;

/// So many logins together say what one costs: windows with fewer are taken together.
const LOGINS_MIN: u32 = 20;

/// So many logins count for half of what one is taken to cost. Where there are few of them in a window, most of the time was spent on
/// something else. (Weighed alike, windows of five between two waves of two hundred made a login of 0.3 ms one of 1 ms, and the slots
/// of the second wave were three times too far apart.)
const COST_OF: f64 = 100.0;

/// How much slower the cost rises than it falls. What else the threads did in a window (ending the sessions of a lost network,
/// turning others away) only ever makes logins look dearer; one that really is dearer is so in every window.
const COST_RISE: f64 = 0.1;

/// How fast the rate follows a window in which there was more, or less. Slots of seconds ahead are spaced by it: a foreground that is
/// busy for a second (with its own return after a loss, say) must not leave the node idle when they come.
const RATE_RISE: f64 = 0.3;
const RATE_FALL: f64 = 0.1;

/// How fast what is usual follows in the calm: a minute.
const USUAL_GAIN: f64 = 1.0 / 600.0;

/// And in the first minutes of a storm, which is not usual, but may turn out to last: ten.
const USUAL_GAIN_IN_A_STORM: f64 = 1.0 / 6_000.0;

/// For so long a storm is not usual.
const STORM: Nanos = 120_000_000_000;

/// What a window of about 100 ms has shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    /// How long it was.
    pub elapsed: Nanos,
    /// Background logins completed.
    pub completed: u32,
    /// Processor time (or time of seats) that background logins took, those that were turned away included.
    pub spent: Nanos,
    /// Processor time that they could have had: what they took and what was idle.
    pub available: Nanos,
    /// Below this nothing goes: the time that background always has.
    pub floor: Nanos,
}

/// The estimate.
#[derive(Debug, Clone)]
pub struct LoginRate {
    cost: f64,
    per_s: f64,
    /// The mean of a minute of the calm.
    usual: f64,
    /// For how long it was no calm.
    storm: Nanos,
    per_s_max: f64,
    is_measured: bool,
    /// Logins that were not enough to say what one costs, and what was spent in their windows.
    counted: u32,
    spent: Nanos,
}

impl LoginRate {
    /// Nothing is known yet but the most that is allowed.
    pub fn new(per_s_max: u32) -> Self {
        let cost = LOGIN_COST_DEFAULT as f64;
        let per_s_max = f64::from(per_s_max.max(1));
        let per_s = (1e9 / cost).min(per_s_max);
        Self { cost, per_s, usual: per_s, storm: 0, per_s_max, is_measured: false, counted: 0, spent: 0 }
    }

    /// The most that is allowed has changed.
    pub fn set_max(&mut self, per_s_max: u32) {
        self.per_s_max = f64::from(per_s_max.max(1));
        self.per_s = self.per_s.min(self.per_s_max);
        self.usual = self.usual.min(self.per_s_max);
    }

    /// Logins a second, at least a small part of one.
    pub fn per_s(&self) -> f64 {
        self.per_s
    }

    /// What it will be in a while, as far as anybody knows: what it usually is, or what it is now if that is more.
    pub fn per_s_in_a_while(&self) -> f64 {
        self.per_s.max(self.usual)
    }

    /// What one costs.
    pub fn cost(&self) -> Nanos {
        self.cost as Nanos
    }

    fn learn(&mut self, completed: f64, cost: f64) {
        if cost <= 0.0 {
            // The processors' clock has not ticked.
            return;
        }
        let rise = if cost > self.cost { COST_RISE } else { 1.0 };
        // The first measurement replaces the guess.
        let gain = if self.is_measured { completed / (completed + COST_OF) * rise } else { 1.0 };
        self.cost += gain * (cost - self.cost);
        self.is_measured = true;
    }

    /// Takes a window into account, of the calm or of a storm.
    pub fn step(&mut self, window: Window, is_calm: bool) {
        if window.elapsed == 0 {
            return;
        }
        // Where there was none, what was spent was not spent on them.
        if window.completed > 0 {
            self.counted = self.counted.saturating_add(window.completed);
            self.spent = self.spent.saturating_add(window.spent);
        }
        if self.counted >= LOGINS_MIN {
            let completed = f64::from(std::mem::take(&mut self.counted));
            let spent = std::mem::take(&mut self.spent) as f64;
            self.learn(completed, spent / completed);
        }
        let available = window.available.max(window.floor) as f64;
        let per_s = available / self.cost * (1e9 / window.elapsed as f64);
        let gain = if per_s > self.per_s { RATE_RISE } else { RATE_FALL };
        self.per_s += gain * (per_s - self.per_s);
        self.per_s = self.per_s.clamp(0.1, self.per_s_max);
        self.storm = if is_calm { 0 } else { self.storm.saturating_add(window.elapsed) };
        // What is only guessed is worth no patience.
        let is_storm = (1..STORM).contains(&self.storm) && self.is_measured;
        let gain = if is_storm { USUAL_GAIN_IN_A_STORM } else { USUAL_GAIN };
        self.usual += gain * (self.per_s - self.usual);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Nanos = 1_000_000;

    fn window(completed: u32, spent: Nanos, available: Nanos) -> Window {
        Window { elapsed: 100 * MS, completed, spent, available, floor: 5 * MS }
    }

    fn settled(window: Window) -> LoginRate {
        let mut rate = LoginRate::new(100_000);
        for _ in 0..100 {
            rate.step(window, true);
        }
        rate
    }

    #[test]
    fn the_rate_is_known_in_the_calm() {
        // One core: 10 logins of 400 us in 100 ms, the rest idle.
        let rate = settled(window(10, 4 * MS, 100 * MS));
        assert!((rate.per_s() / 2_500.0 - 1.0).abs() < 0.01, "{}", rate.per_s());
        assert_eq!(rate.cost(), 400_000);
    }

    #[test]
    fn it_is_the_same_in_the_storm() {
        let rate = settled(window(225, 90 * MS, 90 * MS));
        assert!((rate.per_s() / 2_250.0 - 1.0).abs() < 0.01, "{}", rate.per_s());
    }

    #[test]
    fn a_busy_foreground_leaves_the_floor() {
        let rate = settled(window(0, 0, 0));
        assert!((rate.per_s() / 100.0 - 1.0).abs() < 0.01, "{}", rate.per_s());
    }

    /// Between two waves the threads do something else, and a few logins come by.
    #[test]
    fn what_is_spent_on_something_else_does_not_make_logins_dear() {
        let mut rate = settled(window(200, 60 * MS, 90 * MS));
        for _ in 0..10 {
            rate.step(window(5, 19 * MS, 90 * MS), true);
        }
        assert!(rate.cost() < 450_000, "{}", rate.cost());
        for _ in 0..3 {
            rate.step(window(200, 60 * MS, 90 * MS), true);
        }
        assert!(rate.cost() < 330_000, "{}", rate.cost());
        // The first of a wave have to wait until the sessions are gone that were lost.
        for _ in 0..3 {
            rate.step(window(60, 90 * MS, 90 * MS), true);
        }
        assert!(rate.cost() < 450_000, "{}", rate.cost());
    }

    #[test]
    fn a_login_that_becomes_dearer_is_noticed_within_seconds() {
        let mut rate = settled(window(200, 60 * MS, 90 * MS));
        for _ in 0..50 {
            rate.step(window(100, 90 * MS, 90 * MS), true);
        }
        assert!(rate.cost() > 850_000, "{}", rate.cost());
        for _ in 0..20 {
            rate.step(window(200, 60 * MS, 90 * MS), true);
        }
        assert!(rate.cost() < 310_000, "{}", rate.cost());
    }

    #[test]
    fn a_small_node_learns_too() {
        let mut rate = settled(window(4, 2 * MS, 90 * MS));
        assert!((480_000..520_000).contains(&rate.cost()), "{}", rate.cost());
        for _ in 0..100 {
            rate.step(window(4, 15 * MS, 90 * MS), true);
        }
        assert!(rate.cost() > 1_000_000, "{}", rate.cost());
    }

    #[test]
    fn a_storm_of_a_minute_changes_little_of_what_is_usual() {
        let usual_after = |windows: u32, is_calm| {
            let mut rate = LoginRate::new(100_000);
            for _ in 0..3_000 {
                rate.step(window(10, 4 * MS, 80 * MS), true);
            }
            for _ in 0..windows {
                rate.step(window(0, 0, 0), is_calm);
            }
            assert!(rate.per_s() < 150.0, "{}", rate.per_s());
            rate.per_s_in_a_while()
        };
        assert!((1_750.0..1_830.0).contains(&usual_after(600, false)), "{}", usual_after(600, false));
        assert!((700.0..900.0).contains(&usual_after(600, true)), "{}", usual_after(600, true));
        assert!((1_600.0..1_700.0).contains(&usual_after(1_199, false)), "{}", usual_after(1_199, false));
        assert!(usual_after(3_000, false) < 250.0, "what lasts becomes usual");
    }

    #[test]
    fn a_limit_of_the_operator_holds() {
        let mut rate = LoginRate::new(50);
        rate.step(window(10, 4 * MS, 100 * MS), true);
        assert!(rate.per_s() <= 50.0);
        rate.set_max(20);
        assert!(rate.per_s() <= 20.0);
    }

    proptest! {
        #[test]
        fn it_is_always_a_rate(windows in prop::collection::vec((0u32..10_000, 0u64..1_000 * MS, 0u64..1_000 * MS), 0..50)) {
            let mut rate = LoginRate::new(100_000);
            for (completed, spent, available) in windows {
                rate.step(window(completed, spent, available), true);
                prop_assert!(rate.per_s().is_finite() && rate.per_s() > 0.0 && rate.per_s() <= 100_000.0);
            }
        }
    }
}
