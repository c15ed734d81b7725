//! How often one address or one user may come: token buckets (GCRA, by governor), one for each key.
//!
//! Why it exists: a gateway answers strangers, so the work that one of them can cause has a ceiling. An address is charged
//! only after its handshake has shown that the peer really is there, so nobody can use up the share of somebody else with
//! forged packets. It must never hold more keys than its cap, whatever the peers do.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buslane_shared::refusal::{Code, Refusal};
use governor::clock::{Clock, MonotonicClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};

use crate::config::Rate;
use crate::shed::Lane;

/// Keys of one kind of bucket. 65,536 of them are some 6 MiB, and dropping the idle ones takes about a millisecond.
pub const KEYS_MAX: usize = 65_536;

/// The idle keys are dropped at most this often when the table is full, so that a flood of keys cannot make every request
/// walk the table.
const FULL_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A refused peer is asked to wait up to this part of the wait longer, so that those who were refused together do not
/// come back together.
const RETRY_JITTER: f64 = 0.25;

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address (one customer usually has a whole one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressKey {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6([u16; 4]),
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        // An IPv4 peer of a dual-stack socket shows up as ::ffff:a.b.c.d.
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Who is charged: an address, and beside it those at the same address who hold a foreground pass. Behind one address there may be
/// a thousand phones that wake and one person who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Where he comes from.
    pub address: AddressKey,
    /// What he has shown that he comes for.
    pub lane: Lane,
}

/// The refusal of somebody who comes too often, with the time to wait: `wait`, a little longer by chance.
pub fn too_often(what: &str, wait: Duration) -> Refusal {
    let jittered = wait.mul_f64(1.0 + RETRY_JITTER * rand::random::<f64>());
    let wait_ms = u32::try_from(jittered.as_millis()).unwrap_or(u32::MAX).max(1);
    Refusal::new(Code::RateLimited, format!("too many requests {what}; wait for the time given"))
        .retry_after_ms(wait_ms)
}

/// Token buckets, one for each key.
pub struct Buckets<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    limiter: RateLimiter<K, BoundedStore<K>, C, NoOpMiddleware<C::Instant>>,
    keys_max: usize,
    born: C::Instant,
    /// Age of the buckets, in milliseconds, at the last sweep that was made because the table was full.
    full_swept_ms: AtomicU64,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Buckets of this rate on the machine's monotonic clock.
    pub fn new(rate: Rate) -> Self {
        Self::with_clock(rate, KEYS_MAX, MonotonicClock)
    }
}

impl<K: Hash + Eq + Clone, C: Clock> Buckets<K, C> {
    fn with_clock(rate: Rate, keys_max: usize, clock: C) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(at_least_one(rate.per_minute)).allow_burst(at_least_one(rate.burst));
        let store = BoundedStore { map: DashMapStateStore::default(), keys_max };
        let born = clock.now();
        Self {
            limiter: RateLimiter::new(quota, store, clock),
            keys_max,
            born,
            full_swept_ms: AtomicU64::new(0),
        }
    }

    /// Takes one token of `key`, or says after what time there will be one.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        if self.limiter.len() >= self.keys_max {
            self.sweep_when_full();
        }
        let taken = self.limiter.check_key(key);
        taken.map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }

    /// Forgets the keys whose bucket is full again: they are the same as keys that never came.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    fn sweep_when_full(&self) {
        let age = self.limiter.clock().now().duration_since(self.born);
        let age_ms = u64::try_from(Duration::from(age).as_millis()).unwrap_or(u64::MAX);
        let interval_ms = FULL_SWEEP_INTERVAL.as_millis() as u64;
        let claim = |last: u64| (last == 0 || age_ms >= last + interval_ms).then_some(age_ms.max(1));
        if self.full_swept_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok() {
            self.limiter.retain_recent();
        }
    }
}

/// The states of the buckets, in a table that does not grow beyond its cap.
///
/// A key that finds the table full of busy keys is not metered, and counted. Refusing it instead would let anybody with
/// so many addresses lock all others out, while somebody with so many addresses is not held by a bucket for each of them
/// anyway; what holds him are the permits at the door.
struct BoundedStore<K: Hash + Eq + Clone> {
    map: DashMapStateStore<K>,
    keys_max: usize,
}

impl<K: Hash + Eq + Clone> StateStore for BoundedStore<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if self.map.len() < self.keys_max || self.map.contains_key(key) {
            return self.map.measure_and_replace(key, f);
        }
        metrics::counter!("buslane_gateway_unmetered_total").increment(1);
        f(None).map(|(outcome, _)| outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for BoundedStore<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.map.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.map.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::net::Ipv6Addr;

    fn key(text: &str) -> AddressKey {
        AddressKey::from(text.parse::<IpAddr>().unwrap())
    }

    fn buckets(
        burst: u32,
        per_minute: u32,
        keys_max: usize,
    ) -> (Buckets<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Buckets::with_clock(Rate { burst, per_minute }, keys_max, clock.clone()), clock)
    }

    #[test]
    fn an_ipv6_customer_is_one_address_and_a_mapped_ipv4_address_is_ipv4() {
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        assert_eq!(key("::1"), AddressKey::from(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn a_bucket_says_when_to_come_back_and_keeps_its_word() {
        let (buckets, clock) = buckets(3, 60, 10);
        for _ in 0..3 {
            assert_eq!(buckets.take(&1), Ok(()));
        }
        let wait = buckets.take(&1).unwrap_err();
        assert!(wait > Duration::from_millis(900) && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(buckets.take(&2), Ok(()), "another key has its own bucket");
        clock.advance(wait);
        assert_eq!(buckets.take(&1), Ok(()));
        assert!(buckets.take(&1).is_err());
    }

    #[test]
    fn idle_keys_are_forgotten_and_busy_ones_are_not() {
        let (buckets, clock) = buckets(1, 60, 100);
        for key in 0..50 {
            buckets.take(&key).unwrap();
        }
        clock.advance(Duration::from_millis(1500));
        buckets.take(&99).unwrap();
        clock.advance(Duration::from_millis(700));
        buckets.sweep();
        assert_eq!(buckets.limiter.len(), 1);
        assert!(buckets.take(&99).is_err(), "a sweep gives nobody a fresh bucket");
    }

    #[test]
    fn a_full_table_makes_room_by_itself_and_never_grows() {
        let (buckets, clock) = buckets(1, 60, 8);
        for key in 0..8 {
            buckets.take(&key).unwrap();
        }
        // All are busy: newcomers pass unmetered, the known ones stay metered.
        for key in 100..200 {
            assert_eq!(buckets.take(&key), Ok(()));
        }
        assert_eq!(buckets.limiter.len(), 8);
        assert!(buckets.take(&3).is_err());
        // Once they are idle the next newcomer finds room, without any housekeeping from outside.
        clock.advance(Duration::from_secs(2));
        assert_eq!(buckets.take(&100), Ok(()));
        assert_eq!(buckets.limiter.len(), 1);
        assert!(buckets.take(&100).is_err());
    }

    #[test]
    fn a_refusal_names_a_time_that_is_long_enough() {
        for _ in 0..100 {
            let refusal = too_often("from this address", Duration::from_millis(800));
            assert_eq!(refusal.code, Code::RateLimited);
            assert!((800..=1000).contains(&refusal.retry_after_ms), "{}", refusal.retry_after_ms);
        }
        assert_eq!(too_often("x", Duration::ZERO).retry_after_ms, 1, "0 would mean that no time is given");
    }
}
