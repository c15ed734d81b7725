//! How many second tries there may be: a part of the first ones.
//!
//! A node that is slow is kept slow by those who try again: at three tries each, half of the capacity suffices for a failure
//! that never ends (Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021). So tries and second tries are
//! counted over about ten seconds, and a second try that exceeds its part is not made (or not served).

use crate::Nanos;

/// The part that second tries may have.
pub const RETRY_SHARE: f64 = 0.1;

/// What was counted fades with this time constant.
const MEMORY_S: f64 = 10.0;

const SECOND: f64 = 1e9;

/// Tries and second tries of one client, or of one server.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    share: f64,
    /// Second tries that are in order with no first try at all: who makes one request a minute has no part of it.
    reserve: f64,
    first_tries: f64,
    retries: f64,
    at: Nanos,
}

impl RetryBudget {
    /// `share` of the first tries, and a reserve that comes back in ten seconds. A server has no reserve: its clients' reserves
    /// would add up.
    pub fn new(share: f64, reserve: u32) -> Self {
        Self { share, reserve: f64::from(reserve), first_tries: 0.0, retries: 0.0, at: 0 }
    }

    /// Something is tried for the first time.
    pub fn on_first_try(&mut self, now: Nanos) {
        self.fade(now);
        self.first_tries += 1.0;
    }

    /// Whether something may be tried again now; it is counted if so.
    pub fn may_retry(&mut self, now: Nanos) -> bool {
        self.fade(now);
        let may = self.retries + 1.0 <= self.share * self.first_tries + self.reserve;
        if may {
            self.retries += 1.0;
        }
        may
    }

    fn fade(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed > 0 {
            let kept = (-(elapsed as f64) / (MEMORY_S * SECOND)).exp();
            self.first_tries *= kept;
            self.retries *= kept;
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Nanos = 1_000_000;

    fn granted(budget: &mut RetryBudget, count: u32, now: Nanos) -> u32 {
        (0..count).filter(|_| budget.may_retry(now)).count() as u32
    }

    #[test]
    fn a_tenth_of_the_first_tries() {
        let mut budget = RetryBudget::new(RETRY_SHARE, 0);
        assert_eq!(granted(&mut budget, 10, 0), 0);
        for _ in 0..100 {
            budget.on_first_try(0);
        }
        assert_eq!(granted(&mut budget, 100, 0), 10);
    }

    #[test]
    fn what_was_long_ago_gives_no_right() {
        let mut budget = RetryBudget::new(RETRY_SHARE, 0);
        for _ in 0..100 {
            budget.on_first_try(0);
        }
        assert_eq!(granted(&mut budget, 100, 60_000 * MS), 0);
    }

    #[test]
    fn the_reserve_comes_back() {
        let mut budget = RetryBudget::new(RETRY_SHARE, 3);
        assert_eq!(granted(&mut budget, 10, 0), 3);
        assert_eq!(granted(&mut budget, 10, MS), 0);
        assert_eq!(granted(&mut budget, 10, 60_000 * MS), 2, "all but a little");
    }

    proptest! {
        /// I28, for every moment at once: no more than its part of all first tries, and the reserve every ten seconds.
        #[test]
        fn second_tries_stay_within_their_part(
            reserve in 0u32..5,
            share in 0.01f64..0.5,
            events in prop::collection::vec((0u64..2_000, 0u32..20, 0u32..20), 1..200),
        ) {
            let mut budget = RetryBudget::new(share, reserve);
            let (mut now, mut first_tries, mut retries) = (0, 0.0, 0.0);
            for (gap_ms, tries, wishes) in events {
                now += gap_ms * MS;
                for _ in 0..tries {
                    budget.on_first_try(now);
                }
                first_tries += f64::from(tries);
                retries += f64::from(granted(&mut budget, wishes, now));
                let of_reserve = f64::from(reserve) * (1.0 + now as f64 / (MEMORY_S * SECOND));
                prop_assert!(retries <= share * first_tries + of_reserve + 1e-6);
            }
        }
    }
}
