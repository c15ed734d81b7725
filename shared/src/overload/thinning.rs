//! Which share of the first packets a port looks at, so that looking costs no more than its budget.
//!
//! A flood of first packets costs a server even when it throws each of them away: measured on one core, 200,000 a second that
//! nobody answers take a whole processor. A filter in the kernel can drop a share of them for next to nothing. This is the number that it is
//! given. In the manner of a proportional controller with fast attack and slow decay: too much is cut at once, and what was cut
//! comes back by doubling, so that a flood which stops for a moment is not let in whole.
//!
//! Why it exists: established connections are never touched by it, so people in conversations do not notice a flood. It must never
//! reach zero: somebody who means it repeats his first packet, and each time has the same chance.

use crate::Nanos;

/// The share never falls below this: at a million packets a second still some sixty get through.
const SHARE_MIN: f64 = 1.0 / 16_384.0;

/// What was cut comes back by this factor a step.
const RISE: f64 = 2.0;

/// A flood that is only a little over the budget needs no filter: sharing out begins above this many times the budget.
const SLACK: f64 = 1.25;

/// The controller of one kind of first packets at one port.
#[derive(Debug, Clone, PartialEq)]
pub struct Thinning {
    budget_per_s: f64,
    share: f64,
}

impl Thinning {
    /// A port that may look at so many first packets a second.
    pub fn new(budget_per_s: u32) -> Self {
        Self { budget_per_s: f64::from(budget_per_s.max(1)), share: 1.0 }
    }

    /// The share that is to be looked at now; 1: all.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// So many were looked at in this time, with the share of before. Returns the share from now on.
    pub fn step(&mut self, looked_at: u64, elapsed: Nanos) -> f64 {
        if elapsed == 0 {
            return self.share;
        }
        let per_s = looked_at as f64 * 1e9 / elapsed as f64;
        let offered_per_s = per_s / self.share;
        let wanted =
            if offered_per_s <= self.budget_per_s * SLACK { 1.0 } else { self.budget_per_s / offered_per_s };
        self.share = wanted.min(self.share * RISE).clamp(SHARE_MIN, 1.0);
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Nanos = 50_000_000;

    /// What gets through of so many a second.
    fn through(offered_per_s: f64, share: f64) -> u64 {
        (offered_per_s * share * STEP as f64 / 1e9).round() as u64
    }

    #[test]
    fn usual_traffic_is_never_thinned() {
        let mut thinning = Thinning::new(8_000);
        for _ in 0..100 {
            assert_eq!(thinning.step(through(9_000.0, 1.0), STEP), 1.0);
        }
    }

    #[test]
    fn a_flood_is_cut_in_one_step_and_let_in_again_slowly() {
        let mut thinning = Thinning::new(8_000);
        let share = thinning.step(through(800_000.0, 1.0), STEP);
        assert!((share - 0.01).abs() < 0.001, "{share}");
        let mut steps = 0;
        while thinning.step(through(100.0, thinning.share()), STEP) < 1.0 {
            steps += 1;
        }
        assert_eq!(steps, 6, "0.01 doubles seven times");
    }

    #[test]
    fn no_time_changes_nothing() {
        let mut thinning = Thinning::new(10);
        assert_eq!(thinning.step(1_000_000, 0), 1.0);
    }

    proptest! {
        /// Under a steady flood what is looked at settles near the budget, whatever the flood and the share of before.
        #[test]
        fn looking_stays_within_the_budget(flood in 1.0f64..1e7, before in 0u64..1_000_000, budget in 100u32..20_000) {
            let mut thinning = Thinning::new(budget);
            thinning.step(before, STEP);
            for _ in 0..20 {
                thinning.step(through(flood, thinning.share()), STEP);
            }
            let looked_at = flood * thinning.share();
            let allowed = f64::from(budget) * SLACK;
            // Whole packets are counted: half a packet a step is as good as one in measuring.
            let rounding = 1e9 / STEP as f64 / thinning.share() * thinning.share();
            prop_assert!(looked_at <= (allowed + rounding).max(flood * SHARE_MIN * 2.0), "{looked_at} of {allowed}");
            prop_assert!(thinning.share() >= SHARE_MIN && thinning.share() <= 1.0);
        }
    }
}
