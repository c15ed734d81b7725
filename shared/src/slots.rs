//! The ledger of slots: when those who are turned away come back.
//!
//! `slot = max(slot, now + 20 ms) + cost / (fill x rate)`: each one's time lies behind all that were promised before, as far
//! apart as the node needs to serve one of them. So a storm of any size comes back as an even stream just below what the
//! node can take, and nobody gains by asking often. Times differ by up to 2 % of a step from the even grid, so that
//! nodes do not fall into step with each other. It must never promise a time twice, and never one beyond its horizon: what is so
//! far away is not known.

use crate::Nanos;

/// No slot is nearer than this: an answer needs a round trip to arrive.
pub const LEAD: Nanos = 20_000_000;

/// The largest part of a step by which a slot is moved.
const JITTER: f64 = 0.02;

const SECOND: f64 = 1e9;

/// A promised time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The time.
    pub at: Nanos,
    /// How far before and after it the client may come.
    pub tolerance: Nanos,
}

impl Grant {
    /// Until then, in whole milliseconds, never 0.
    pub fn wait_ms(&self, now: Nanos) -> u32 {
        let ms = self.at.saturating_sub(now) / 1_000_000;
        u32::try_from(ms).unwrap_or(u32::MAX).max(1)
    }

    /// The tolerance in milliseconds.
    pub fn tolerance_ms(&self) -> u32 {
        u32::try_from(self.tolerance / 1_000_000).unwrap_or(u32::MAX)
    }
}

/// What was promised so far.
#[derive(Debug, Clone)]
pub struct Ledger {
    fill: f64,
    horizon: Nanos,
    tolerance: Nanos,
    /// The last promised time.
    slot: Nanos,
}

impl Ledger {
    /// An empty ledger that fills this part of the rate, up to the horizon.
    pub fn new(fill: f64, horizon: Nanos, tolerance: Nanos) -> Self {
        Self { fill, horizon, tolerance, slot: 0 }
    }

    /// Takes over other settings; what was promised stays promised.
    pub fn reconfigure(&mut self, fill: f64, horizon: Nanos, tolerance: Nanos) {
        *self = Self { fill, horizon, tolerance, slot: self.slot };
    }

    /// Promises the next time to somebody who costs as much as `cost` usual ones, at a node that takes `per_s` of those.
    /// `None`: it would be beyond the horizon. `random` are uniform bits.
    pub fn grant(&mut self, now: Nanos, cost: f64, per_s: f64, random: u32) -> Option<Grant> {
        let step = cost / (self.fill * per_s) * SECOND;
        let horizon = now.saturating_add(self.horizon);
        // A rate of nothing gives no finite step, and no slot.
        if !(step.is_finite() && step >= 0.0) {
            return None;
        }
        // Beyond any horizon, the conversion stops at the largest number.
        let slot = self.slot.max(now.saturating_add(LEAD)).saturating_add(step as Nanos);
        if slot > horizon {
            return None;
        }
        self.slot = slot;
        let off = (f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0) * JITTER * step;
        Some(Grant { at: slot.saturating_add_signed(off as i64), tolerance: self.tolerance })
    }

    /// Others have promised times of this node, up to this one.
    pub fn advance(&mut self, until: Nanos) {
        self.slot = self.slot.max(until);
    }

    /// How far ahead times are promised.
    pub fn length(&self, now: Nanos) -> Nanos {
        self.slot.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;
    const HORIZON: Nanos = 300_000 * MS;
    const TOLERANCE: Nanos = 1_000 * MS;

    fn ledger() -> Ledger {
        Ledger::new(0.95, HORIZON, TOLERANCE)
    }

    #[test]
    fn a_thousand_who_are_turned_away_come_back_as_an_even_stream() {
        let mut ledger = ledger();
        let last = (0..950).filter_map(|n| ledger.grant(0, 1.0, 1_000.0, n)).last().unwrap();
        assert!(last.at.abs_diff(LEAD + 1_000 * MS) < MS, "950 at 1,000 a second filled to 95 %: {last:?}");
        assert_eq!(ledger.length(0) / MS, 1_019);
        assert_eq!(ledger.length(2_000 * MS), 0);
        assert_eq!((last.wait_ms(0), last.wait_ms(last.at), last.tolerance_ms()), (1_019, 1, 1_000));
    }

    #[test]
    fn what_others_have_promised_is_taken() {
        let mut ledger = ledger();
        ledger.advance(5_000 * MS);
        assert!(ledger.grant(0, 1.0, 1_000.0, 0).unwrap().at > 5_000 * MS);
        ledger.advance(1_000 * MS);
        assert!(ledger.length(0) > 5_000 * MS);
    }

    #[test]
    fn a_node_that_takes_nobody_promises_nothing() {
        let mut ledger = ledger();
        for per_s in [0.0, -1.0, f64::NAN, 1e-300] {
            assert_eq!(ledger.grant(0, 1.0, per_s, 0), None, "{per_s}");
        }
        assert_eq!(ledger.length(0), 0);
    }

    #[test]
    fn other_settings_keep_the_promises() {
        let mut ledger = ledger();
        let first = ledger.grant(0, 1.0, 1.0, 0).unwrap();
        ledger.reconfigure(0.5, 10 * HORIZON, MS);
        let second = ledger.grant(0, 1.0, 1.0, 0).unwrap();
        assert!(second.at > first.at + 1_900 * MS && second.tolerance == MS);
    }

    proptest! {
        /// Order, the lead, the horizon, and never more than the filled rate in any second (and one at its edge).
        #[test]
        fn promises_can_be_kept(
            asks in proptest::collection::vec((0u64..50_000_000, any::<u32>()), 1..400),
            per_s in 0.5f64..5_000.0,
        ) {
            let mut ledger = ledger();
            let mut now = 0;
            let mut given = Vec::new();
            for (gap, random) in asks {
                now += gap;
                match ledger.grant(now, 1.0, per_s, random) {
                    Some(grant) => {
                        prop_assert!(grant.at >= now + LEAD);
                        prop_assert!(grant.at <= now + HORIZON + (0.02 * 1e9 / per_s / 0.95) as Nanos + 1);
                        prop_assert!(grant.wait_ms(now) > 0, "every refusal says when");
                        prop_assert!(given.last().is_none_or(|last| *last < grant.at), "first come, first served");
                        given.push(grant.at);
                    }
                    None => prop_assert!(ledger.length(now) + (1e9 / per_s / 0.95) as Nanos + 1 >= HORIZON),
                }
            }
            for (n, from) in given.iter().enumerate() {
                let within = given.iter().skip(n).take_while(|at| **at < from + 1_000 * MS).count();
                prop_assert!(within as f64 <= per_s * 0.95 * 1.000_1 + 2.0, "{within} in a second at {per_s}");
            }
        }

        #[test]
        fn a_slot_is_moved_by_two_percent_of_a_step_at_most(random: u32, per_s in 0.1f64..10_000.0) {
            let even = LEAD as f64 + 1e9 / 0.95 / per_s;
            let grant = ledger().grant(0, 1.0, per_s, random).unwrap();
            prop_assert!((grant.at as f64 - even).abs() <= 0.02 * (even - LEAD as f64) + 2.0);
        }
    }
}
