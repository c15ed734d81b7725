//! When to try again: capped exponential back-off with full jitter, and the server's word above it.
//!
//! After an outage every client wants to come back at the same moment. Full jitter (Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015) spreads them over the whole interval, so a returning server sees a slope and not a
//! wall. A server that is alive knows its load better than any formula: a time that it names replaces the computed one.
//! Nothing here draws randomness or reads a clock: random bits and `now` are arguments.

use std::time::Duration;

/// The shape of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Upper end of the first wait; doubles with each failure.
    pub base: Duration,
    /// The upper end never grows beyond this.
    pub cap: Duration,
    /// Upper end of the one wait that follows the loss of a session that was up: most losses are a change of network,
    /// and the next try succeeds. Still jittered, because a server that stops loses all its sessions in one moment.
    pub quick: Duration,
    /// A session that was up for this long counts as a success: the count of failures begins anew, and one quick try is
    /// allowed. A server that accepts and then drops never earns quick tries.
    pub settle: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(3),
            cap: Duration::from_secs(300),
            quick: Duration::from_millis(500),
            settle: Duration::from_secs(5),
        }
    }
}

/// Counts failures and turns them into waits.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    failures: u32,
    quick: bool,
}

impl Backoff {
    /// No failure yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, failures: 0, quick: false }
    }

    /// Failures in a row, without the losses that were followed by a quick try.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A session ended after it was up for `lasted`.
    pub fn on_session_end(&mut self, lasted: Duration) {
        if lasted >= self.policy.settle {
            self.failures = 0;
            self.quick = true;
        }
    }

    /// The wait before the next try. `hint` is the time that the server named; it replaces the computed one, shorter or
    /// longer. `random` are uniform bits.
    pub fn next_wait(&mut self, hint: Option<Duration>, random: u64) -> Duration {
        let quick = std::mem::take(&mut self.quick);
        if quick {
            return hint.unwrap_or_else(|| fraction(self.policy.quick, random));
        }
        let wait = wait_after(&self.policy, self.failures, hint, random);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// The wait after `failures` earlier failures, for a caller that keeps the count itself.
pub fn wait_after(policy: &Policy, failures: u32, hint: Option<Duration>, random: u64) -> Duration {
    hint.unwrap_or_else(|| fraction(ceiling(policy, failures), random))
}

/// Upper end of the wait after `failures` failures: base, 2 base, 4 base, ... up to the cap.
fn ceiling(policy: &Policy, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
    policy.base.checked_mul(factor).unwrap_or(policy.cap).min(policy.cap)
}

/// A uniform part of `ceiling`: full jitter.
fn fraction(ceiling: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    // Multiply-shift instead of modulo: no bias, no division by zero.
    Duration::from_nanos(((u128::from(nanos) * u128::from(random)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAST: u64 = u64::MAX;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(Policy::default());
        let waits: Vec<u64> =
            (0..9).map(|_| backoff.next_wait(None, LAST).as_secs_f64().round() as u64).collect();
        assert_eq!(waits, [3, 6, 12, 24, 48, 96, 192, 300, 300]);
        assert_eq!(backoff.failures(), 9);
    }

    #[test]
    fn a_session_that_settled_earns_one_quick_try() {
        let mut backoff = Backoff::new(Policy::default());
        for _ in 0..5 {
            backoff.next_wait(None, LAST);
        }
        backoff.on_session_end(Duration::from_secs(5));
        assert!(backoff.next_wait(None, LAST) < Duration::from_millis(500));
        assert_eq!(backoff.next_wait(None, LAST).as_secs_f64().round(), 3.0);
    }

    #[test]
    fn a_session_that_did_not_settle_earns_nothing() {
        let mut backoff = Backoff::new(Policy::default());
        for _ in 0..3 {
            backoff.next_wait(None, LAST);
        }
        backoff.on_session_end(Duration::from_millis(4_999));
        assert_eq!(backoff.next_wait(None, LAST).as_secs_f64().round(), 24.0);
    }

    #[test]
    fn the_servers_time_wins_in_both_directions() {
        let mut backoff = Backoff::new(Policy::default());
        let hour = Duration::from_secs(3600);
        assert_eq!(backoff.next_wait(Some(hour), 0), hour);
        assert_eq!(backoff.next_wait(Some(Duration::ZERO), LAST), Duration::ZERO);
        assert_eq!(backoff.failures(), 2);
    }

    #[test]
    fn jitter_covers_the_whole_interval_evenly() {
        let waits = (0..1000u64).map(|i| fraction(Duration::from_secs(10), i << 54).as_millis());
        let mean = waits.sum::<u128>() / 1000;
        assert!((4_500..5_500).contains(&(mean * 1000 / 976)), "{mean}");
        assert_eq!(fraction(Duration::from_secs(10), 0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_wait_is_over_the_cap(failures in 0u32..200, random in any::<u64>(), base_ms in 0u64..100_000, cap_ms in 0u64..1_000_000) {
            let policy = Policy {
                base: Duration::from_millis(base_ms),
                cap: Duration::from_millis(cap_ms),
                ..Policy::default()
            };
            let mut backoff = Backoff::new(policy);
            for _ in 0..failures {
                backoff.next_wait(None, random);
            }
            prop_assert!(backoff.next_wait(None, random) <= policy.cap);
        }
    }
}
