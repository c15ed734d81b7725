//! The ledger of slots: when those who are turned away come back.
//!
//! `slot = max(slot, now + 20 ms) + cost / (fill x rate)`: each one's time lies behind all that were promised before, as far
//! apart as the node needs to serve one of them. So a storm of any size comes back as an even stream just below what the
//! node can take. Whoever is known to ask again before his time is told the same one: nobody gains by asking often, and
//! nobody's impatience takes the times of others. Times differ by up to 2 % of a step from the even grid, so that
//! nodes do not fall into step with each other. It must never promise a time to two who are known to differ, and never one beyond its horizon: what is so
//! far away is not known.

use std::collections::HashMap;

use crate::id::DeviceId;
use crate::{Nanos, UnixMs};

/// No slot is nearer than this: an answer needs a round trip to arrive.
pub const LEAD: Nanos = 20_000_000;

/// The largest part of a step by which a slot is moved.
const JITTER: f64 = 0.02;

/// Those whose times are remembered; of more nobody knows whether they ask again. Room for all of them is made at once, 1.6 MB, so that
/// nobody waits while it grows.
const ASKERS_MAX: usize = 57_344;

/// When all places are taken, those whose time is over are looked for this often.
const PRUNE_EVERY: Nanos = 1_000_000_000;

/// The part of the tolerance by which a time that is told again differs, either way: somebody on the path who sees two answers must not
/// know by the time that both went to one device.
const BLUR: f64 = 0.25;

const SECOND: f64 = 1e9;

/// Slots further away than this are spaced by what is usual: they lie behind the storm of now, and spaced as if it never ended, the node
/// would stand idle then.
const FAR: Nanos = 20_000_000_000;

/// How many logins a node takes in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Now.
    pub now: f64,
    /// In a while, as far as anybody knows; never taken to be less than now.
    pub later: f64,
}

impl Rates {
    /// That for slots so far ahead.
    pub fn at(&self, ahead: Nanos) -> f64 {
        if ahead > FAR { self.now.max(self.later) } else { self.now }
    }
}

impl From<f64> for Rates {
    /// The same now and later.
    fn from(per_s: f64) -> Self {
        Self { now: per_s, later: per_s }
    }
}

/// Who asks: 24 bits of a hash of a device, enough to tell who asks again from who asks first. Two who are taken for one are told the same
/// time, and the second to come has to ask anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker(u32);

impl Asker {
    /// Bits of an asker.
    pub const BITS: u32 = 24;

    /// The asker that a device is.
    pub fn of(device: DeviceId) -> Self {
        let [a, b, c, d] = fnv(device.as_bytes()).to_be_bytes();
        Self::from_bits(u32::from_be_bytes([0, a ^ d, b, c]))
    }

    /// From these bits, the lower ones.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & (u32::MAX >> (u32::BITS - Self::BITS)))
    }

    /// Its bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Uniform bits as a number from -1 to 1.
fn unit(random: u32) -> f64 {
    f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A promised time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The time.
    pub at: Nanos,
    /// The one that is told, well within the tolerance.
    pub told: Nanos,
    /// How far before and after it the client may come.
    pub tolerance: Nanos,
    /// Any bits, the same whenever this time is told: they tell the promises of one asker apart.
    pub number: u8,
}

impl Grant {
    /// The time itself, by a clock that shows `now_ms` at `now`: where the window of the slot lies.
    pub fn at_ms(&self, now: Nanos, now_ms: UnixMs) -> UnixMs {
        let (ahead, ago) = (self.at.saturating_sub(now), now.saturating_sub(self.at));
        now_ms.saturating_add(ahead / 1_000_000).saturating_sub(ago / 1_000_000)
    }

    /// Until the time that is told, in whole milliseconds, never 0.
    pub fn wait_ms(&self, now: Nanos) -> u32 {
        let ms = self.told.saturating_sub(now) / 1_000_000;
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
    /// What was promised to whom, where it is known who asked.
    promised: HashMap<Asker, (Nanos, u8)>,
    pruned_at: Nanos,
}

impl Ledger {
    /// An empty ledger that fills this part of the rate, up to the horizon.
    pub fn new(fill: f64, horizon: Nanos, tolerance: Nanos) -> Self {
        Self { fill, horizon, tolerance, slot: 0, promised: HashMap::new(), pruned_at: 0 }
    }

    /// Takes over other settings; what was promised stays promised.
    pub fn reconfigure(&mut self, fill: f64, horizon: Nanos, tolerance: Nanos) {
        (self.fill, self.horizon, self.tolerance) = (fill, horizon, tolerance);
    }

    /// As [`Self::grant`]; an asker whose time is still to come is told that one again.
    pub fn grant_to(
        &mut self,
        asker: Option<Asker>,
        now: Nanos,
        cost: f64,
        rates: impl Into<Rates>,
        random: u32,
    ) -> Option<Grant> {
        if let Some((at, number)) = self.promised_to(asker, now) {
            let off = self.tolerance as f64 * BLUR * unit(random);
            let told = at.saturating_add_signed(off as i64).max(now.saturating_add(LEAD));
            return Some(Grant { at, told, tolerance: self.tolerance, number });
        }
        let grant = self.grant(now, cost, rates, random)?;
        if let Some(asker) = asker {
            self.remember(asker, (grant.at, grant.number), now);
        }
        Some(grant)
    }

    /// About when [`Self::grant_to`] would let him come; `None`: at no finite time.
    pub fn next(&self, asker: Option<Asker>, now: Nanos, rates: impl Into<Rates>) -> Option<Nanos> {
        self.promised_to(asker, now)
            .map(|(at, _)| at)
            .or_else(|| self.after(now, 1.0, rates).map(|(slot, _)| slot))
    }

    /// What was promised to him, if its time is still to come.
    fn promised_to(&self, asker: Option<Asker>, now: Nanos) -> Option<(Nanos, u8)> {
        let known = self.promised.get(&asker?).copied();
        known.filter(|(at, _)| *at >= now.saturating_add(LEAD))
    }

    /// The time behind all that were promised, and how far that is from the last one.
    fn after(&self, now: Nanos, cost: f64, rates: impl Into<Rates>) -> Option<(Nanos, f64)> {
        let per_s = rates.into().at(self.length(now));
        let step = cost / (self.fill * per_s) * SECOND;
        // A rate of nothing gives no finite step, and no slot. Beyond any horizon, the conversion stops at the largest number.
        (step.is_finite() && step >= 0.0)
            .then(|| (self.slot.max(now.saturating_add(LEAD)).saturating_add(step as Nanos), step))
    }

    /// Somebody comes. Whether his time is now; what was promised to him is kept then.
    pub fn redeem(&mut self, asker: Asker, now: Nanos) -> bool {
        let is_due = self.promised.get(&asker).is_some_and(|(at, _)| at.abs_diff(now) <= self.tolerance);
        is_due && self.promised.remove(&asker).is_some()
    }

    /// Somebody comes in his time, and there is no place for him yet: he is to come again at `told`, and what was promised is not kept until
    /// then. `None`: it is not his time.
    pub fn keep_waiting(&self, asker: Asker, now: Nanos, told: Nanos) -> Option<Grant> {
        let (at, number) = *self.promised.get(&asker)?;
        let is_due = at.abs_diff(now) <= self.tolerance;
        is_due.then_some(Grant { at, told, tolerance: self.tolerance, number })
    }

    fn remember(&mut self, asker: Asker, promise: (Nanos, u8), now: Nanos) {
        if self.promised.capacity() == 0 {
            self.promised.reserve(ASKERS_MAX);
        }
        if self.promised.len() >= ASKERS_MAX && now >= self.pruned_at.saturating_add(PRUNE_EVERY) {
            self.pruned_at = now;
            self.promised.retain(|_, (at, _)| at.saturating_add(self.tolerance) > now);
        }
        if self.promised.len() < ASKERS_MAX || self.promised.contains_key(&asker) {
            self.promised.insert(asker, promise);
        }
    }

    /// Gives back what is remembered of times that are all over.
    pub fn tidy(&mut self, now: Nanos) {
        if self.promised.capacity() > 0 && self.slot.saturating_add(self.tolerance) <= now {
            self.promised = HashMap::new();
        }
    }

    /// Promises the next time to somebody who costs as much as `cost` usual ones, at a node that takes these rates of those.
    /// `None`: it would be beyond the horizon. `random` are uniform bits.
    pub fn grant(&mut self, now: Nanos, cost: f64, rates: impl Into<Rates>, random: u32) -> Option<Grant> {
        let (slot, step) = self.after(now, cost, rates)?;
        if slot > now.saturating_add(self.horizon) {
            return None;
        }
        self.slot = slot;
        let at = slot.saturating_add_signed((unit(random) * JITTER * step) as i64);
        Some(Grant { at, told: at, tolerance: self.tolerance, number: random as u8 })
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
    fn who_asks_again_is_told_the_same_time_and_takes_nobody_elses() {
        let mut ledger = ledger();
        let ask =
            |ledger: &mut Ledger, n: u32, now| ledger.grant_to(Some(Asker(n)), now, 1.0, 10.0, n).unwrap();
        let first: Vec<_> = (0..100).map(|n| ask(&mut ledger, n, 0)).collect();
        let length = ledger.length(0);
        assert!((length / MS).abs_diff(10_546) < 100, "100 at 9.5 a second: {length}");
        let again: Vec<_> = (0..100).map(|n| ask(&mut ledger, n, MS)).collect();
        assert_eq!(ledger.length(0), length);
        for (first, again) in first.iter().zip(&again) {
            assert_eq!((first.at, first.number), (again.at, again.number));
            assert!(first.at == first.told && again.told.abs_diff(first.at) <= TOLERANCE / 4);
            assert!(again.told >= MS + LEAD && again.wait_ms(MS) > 0);
        }
        assert!(ask(&mut ledger, 0, first[0].at + MS).at > first[99].at, "his time is over");
        assert!(ask(&mut ledger, 100, MS).at > first[99].at);
        let over = ledger.length(0) + TOLERANCE;
        ledger.tidy(over - 1);
        assert_eq!(ledger.promised.len(), 101);
        ledger.tidy(over);
        assert_eq!(ledger.promised.capacity(), 0);
    }

    #[test]
    fn who_comes_in_his_time_is_known_once() {
        let mut ledger = ledger();
        let Grant { at, number, .. } = ledger.grant_to(Some(Asker(7)), 0, 50.0, 10.0, 0x0700_0007).unwrap();
        assert!(!ledger.redeem(Asker(7), at - TOLERANCE - 1) && !ledger.redeem(Asker(8), at));
        assert!(!ledger.redeem(Asker(7), at + TOLERANCE + 1));
        assert_eq!(ledger.keep_waiting(Asker(7), at - TOLERANCE - 1, at), None);
        let kept = ledger.keep_waiting(Asker(7), at + MS, at + 201 * MS).unwrap();
        assert_eq!((kept.at, kept.told, kept.number), (at, at + 201 * MS, number));
        assert_eq!((number, kept.at_ms(at + 5 * MS, 1_000), kept.at_ms(at - 5 * MS, 1_000)), (7, 995, 1_005));
        assert!(ledger.redeem(Asker(7), at - TOLERANCE));
        assert!(!ledger.redeem(Asker(7), at));
    }

    #[test]
    fn as_many_as_ask_no_more_is_remembered_than_its_bound() {
        let mut ledger = Ledger::new(0.95, 3_600_000 * MS, TOLERANCE);
        for n in 0..2 * ASKERS_MAX as u32 {
            assert!(ledger.grant_to(Some(Asker(n)), 0, 1.0, 1_000.0, n).is_some());
        }
        assert_eq!(ledger.promised.len(), ASKERS_MAX);
        let now = 30_000 * MS;
        ledger.grant_to(Some(Asker(u32::MAX)), now, 1.0, 1_000.0, 0).unwrap();
        let left = ASKERS_MAX - ledger.promised.len();
        let mut full = Ledger::new(0.95, 3_600_000 * MS, TOLERANCE);
        for n in 0..ASKERS_MAX as u32 {
            assert!(full.grant_to(Some(Asker(n)), 0, 1.0, 1_000.0, n).is_some());
        }
        // The time of the first is over, and nobody was looked for yet.
        full.pruned_at = LEAD;
        let again = |full: &mut Ledger| full.grant_to(Some(Asker(0)), LEAD + MS, 1.0, 1_000.0, 0).unwrap().at;
        assert_eq!(again(&mut full), again(&mut full), "who is there already is written down");
        assert!((27_000..28_000).contains(&left), "what is over goes: {left}");
    }

    #[test]
    fn devices_are_told_apart() {
        let askers: std::collections::HashSet<_> =
            (0..10_000_u128).map(|n| Asker::of(DeviceId::from_bytes((n << 64 | n).to_be_bytes()))).collect();
        assert!(askers.len() > 9_950, "{}", askers.len());
        assert!(
            askers
                .iter()
                .all(|asker| asker.bits() < 1 << Asker::BITS && Asker::from_bits(asker.bits()) == *asker)
        );
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
