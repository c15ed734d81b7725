//! Addresses that are held off for a while: those from which proofs, codes or tokens fail again and again, and those that
//! come more often than their rate.
//!
//! Why it exists: guessing is what a person's phone never does, and even a refusal costs a handshake. Such an address first
//! hears a typed refusal with the time to come back; if it keeps coming, it hears nothing until its time is over (an
//! answer costs more than it helps). It must never hold an address off for packets that anybody could have forged: only
//! what came over a completed handshake counts.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::config::Rate;
use crate::limits::Buckets;

/// Addresses held off at a time, some 5 MiB of them. Beyond it nobody is held off anew, and it is counted.
const HELD_MAX: usize = 65_536;

/// Typed refusals that an address is given before it meets silence: enough for a client that is merely broken to show its
/// user what is wrong, and for the phones behind one NAT to learn when to come back.
const ANSWERS_MAX: u32 = 20;

/// An address over its rate is held off for at least this long, so that the silence that follows its refusals lasts long
/// enough to save something.
const EXCESS_HOLD_MIN: Duration = Duration::from_secs(1);

/// How an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing against it.
    Welcome,
    /// It is held off for this long, and is told so.
    Held(Duration),
    /// It is held off and was told so often enough.
    Silenced,
}

struct Hold {
    until: Instant,
    answers: u32,
}

/// The addresses that are held off; `K` is what counts as one.
pub struct Offenders<K: Hash + Eq + Copy + Debug> {
    failures: Buckets<K>,
    held: DashMap<K, Hold>,
    hold_for_failures: Duration,
    held_max: usize,
}

impl<K: Hash + Eq + Copy + Debug> Offenders<K> {
    /// Holds off for `hold_for_failures` whoever fails more often than `tolerated`.
    pub fn new(tolerated: Rate, hold_for_failures: Duration) -> Self {
        Self {
            failures: Buckets::new(tolerated),
            held: DashMap::new(),
            hold_for_failures,
            held_max: HELD_MAX,
        }
    }

    /// How `address` stands now; asking counts as an answer to it.
    pub fn on_request(&self, address: K, now: Instant) -> Standing {
        match self.held.get_mut(&address) {
            Some(mut hold) if now < hold.until => {
                hold.answers = hold.answers.saturating_add(1);
                if hold.answers > ANSWERS_MAX { Standing::Silenced } else { Standing::Held(hold.until - now) }
            }
            _ => Standing::Welcome,
        }
    }

    /// Whether packets of `address` are not even looked at. Changes nothing: their sender may be forged.
    pub fn is_silenced(&self, address: K, now: Instant) -> bool {
        self.held.get(&address).is_some_and(|hold| now < hold.until && hold.answers >= ANSWERS_MAX)
    }

    /// A proof, code or token from `address` was wrong, or its bytes made no sense.
    pub fn on_failure(&self, address: K, now: Instant) {
        if self.failures.take(&address).is_err() && self.hold(address, self.hold_for_failures, now) {
            metrics::counter!("buslane_gateway_holds_total", "why" => "failures").increment(1);
            tracing::warn!(
                ?address,
                seconds = self.hold_for_failures.as_secs(),
                "held off for repeated failures"
            );
        }
    }

    /// `address` came more often than its rate, which has room again after `wait`.
    pub fn on_excess(&self, address: K, wait: Duration, now: Instant) {
        if self.hold(address, wait.max(EXCESS_HOLD_MIN), now) {
            metrics::counter!("buslane_gateway_holds_total", "why" => "rate").increment(1);
        }
    }

    /// Forgets what is over.
    pub fn sweep(&self, now: Instant) {
        self.failures.sweep();
        self.held.retain(|_, hold| now < hold.until);
        self.held.shrink_to_fit();
    }

    /// Begins a hold; false if there is one already, or no room for one.
    fn hold(&self, address: K, duration: Duration, now: Instant) -> bool {
        if self.held.len() >= self.held_max {
            self.held.retain(|_, hold| now < hold.until);
        }
        // Counted before the entry is locked: counting locks all entries in turn.
        let full = self.held.len() >= self.held_max;
        match self.held.entry(address) {
            Entry::Occupied(known) if now < known.get().until => false,
            Entry::Vacant(_) if full => {
                metrics::counter!("buslane_gateway_holds_skipped_total").increment(1);
                false
            }
            entry => {
                entry.insert(Hold { until: now + duration, answers: 0 });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::AddressKey;

    const A: AddressKey = AddressKey::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: AddressKey = AddressKey::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const MINUTE: Duration = Duration::from_secs(60);

    fn offenders() -> Offenders<AddressKey> {
        Offenders::new(Rate { burst: 3, per_minute: 1 }, MINUTE)
    }

    #[test]
    fn a_few_failures_are_human() {
        let offenders = offenders();
        let now = Instant::now();
        for _ in 0..3 {
            offenders.on_failure(A, now);
        }
        assert_eq!(offenders.on_request(A, now), Standing::Welcome);
    }

    #[test]
    fn many_failures_hold_off_then_silence_and_end() {
        let offenders = offenders();
        let now = Instant::now();
        for _ in 0..4 {
            offenders.on_failure(A, now);
        }
        assert_eq!(offenders.on_request(B, now), Standing::Welcome, "others are not touched");
        assert!(!offenders.is_silenced(A, now));
        for _ in 0..ANSWERS_MAX {
            assert_eq!(offenders.on_request(A, now), Standing::Held(MINUTE));
        }
        assert!(offenders.is_silenced(A, now));
        assert_eq!(offenders.on_request(A, now), Standing::Silenced);
        let later = now + MINUTE;
        assert!(!offenders.is_silenced(A, later));
        assert_eq!(offenders.on_request(A, later), Standing::Welcome);
        offenders.sweep(later);
        assert!(offenders.held.is_empty());
    }

    #[test]
    fn more_failures_do_not_prolong_a_hold() {
        let offenders = offenders();
        let now = Instant::now();
        for _ in 0..20 {
            offenders.on_failure(A, now);
        }
        let half = now + MINUTE / 2;
        offenders.on_failure(A, half);
        assert_eq!(offenders.on_request(A, half), Standing::Held(MINUTE / 2));
    }

    #[test]
    fn an_address_over_its_rate_is_held_for_a_second_at_least_and_not_longer_than_needed() {
        let offenders = offenders();
        let now = Instant::now();
        offenders.on_excess(A, Duration::from_millis(10), now);
        assert_eq!(offenders.on_request(A, now), Standing::Held(EXCESS_HOLD_MIN));
        assert_eq!(offenders.on_request(A, now + EXCESS_HOLD_MIN), Standing::Welcome);
        offenders.on_excess(B, MINUTE, now);
        assert_eq!(offenders.on_request(B, now), Standing::Held(MINUTE));
    }

    #[test]
    fn the_list_of_the_held_does_not_grow_beyond_its_cap() {
        let offenders = Offenders { held_max: 1, ..offenders() };
        let now = Instant::now();
        for address in [A, B] {
            for _ in 0..4 {
                offenders.on_failure(address, now);
            }
        }
        assert_eq!(offenders.held.len(), 1);
        assert_eq!(offenders.on_request(B, now), Standing::Welcome);
        // The hold of A is over: there is room for B.
        offenders.on_failure(B, now + MINUTE);
        assert_eq!(offenders.on_request(B, now + MINUTE), Standing::Held(MINUTE));
    }
}
