//! What guessing costs: wrong tokens and failed sign-ins are counted, for each address and in all.
//!
//! Why it exists: tokens are 256 random bits, so guessing is hopeless; the limit is there so that trying is quiet, cheap for us, and noticed. It
//! must never keep out somebody who shows a right token, whatever others have tried from the same address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong tokens are counted for this long.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Wrong tokens of all addresses in a [`WINDOW`]; further ones are told to wait. A script gets one answer a second.
const FAILURES_MAX: u32 = 60;

/// Wrong tokens of one address: a person who mistypes has tries enough, and leaves some to the others.
const ADDRESS_FAILURES_MAX: u32 = 20;

/// Addresses that are counted at a time; beyond that only the sum is.
const ADDRESSES_MAX: usize = 1_024;

/// Wrong tokens, counted.
pub(super) struct Failures {
    all: Count,
    by_address: HashMap<IpAddr, Count>,
    /// When somebody was last told about a burst.
    told: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Count {
    since: Instant,
    count: u32,
}

/// What becomes of a wrong token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is told that it is wrong.
    Wrong,
    /// It is told to wait.
    Slowed {
        /// Seconds.
        wait_s: u64,
        /// Wrong tokens of this address (or, where those are not many, of all), where this burst is worth an entry in the audit.
        burst: Option<u32>,
    },
}

impl Failures {
    pub(super) fn new(now: Instant) -> Self {
        Self { all: Count { since: now, count: 0 }, by_address: HashMap::new(), told: None }
    }

    /// Counts a wrong token.
    pub(super) fn on_failure(&mut self, from: IpAddr, now: Instant) -> Verdict {
        let all = self.all.add(now);
        let own = self.count_of(network(from), now).map_or(0, |count| count.add(now));
        if all <= FAILURES_MAX && own <= ADDRESS_FAILURES_MAX {
            return Verdict::Wrong;
        }
        let wait_s = WINDOW.saturating_sub(now.duration_since(self.all.since)).as_secs().max(1);
        let burst = if own > ADDRESS_FAILURES_MAX { own } else { all };
        Verdict::Slowed { wait_s, burst: self.tell(now).then_some(burst) }
    }

    /// Whether this address has failed so often that nothing is asked elsewhere for it.
    pub(super) fn is_slowed(&self, from: IpAddr, now: Instant) -> bool {
        let count = self.by_address.get(&network(from));
        count.is_some_and(|count| {
            count.count > ADDRESS_FAILURES_MAX && now.duration_since(count.since) < WINDOW
        })
    }

    /// Whether somebody should be told; at most once in a window, so that guessing does not fill the audit.
    fn tell(&mut self, now: Instant) -> bool {
        let due = self.told.is_none_or(|told| now.duration_since(told) >= WINDOW);
        if due {
            self.told = Some(now);
        }
        due
    }

    fn count_of(&mut self, from: IpAddr, now: Instant) -> Option<&mut Count> {
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&from) {
            self.by_address.retain(|_, count| now.duration_since(count.since) < WINDOW);
            if self.by_address.len() >= ADDRESSES_MAX {
                return None;
            }
        }
        Some(self.by_address.entry(from).or_insert(Count { since: now, count: 0 }))
    }
}

impl Count {
    fn add(&mut self, now: Instant) -> u32 {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// One owner: an address, or the 64 bits of an IPv6 network.
pub(super) fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(no: u32) -> IpAddr {
        IpAddr::from(no.to_be_bytes())
    }

    #[test]
    fn an_address_is_slowed_before_all_are_and_forgiven_after_a_window() {
        let mut now = Instant::now();
        let mut failures = Failures::new(now);
        for _ in 0..ADDRESS_FAILURES_MAX {
            assert_eq!(failures.on_failure(address(1), now), Verdict::Wrong);
        }
        let slowed = failures.on_failure(address(1), now);
        assert_eq!(slowed, Verdict::Slowed { wait_s: 60, burst: Some(21) });
        assert_eq!(failures.on_failure(address(1), now), Verdict::Slowed { wait_s: 60, burst: None });
        assert_eq!(failures.on_failure(address(2), now), Verdict::Wrong, "others are not slowed");
        assert_eq!([1, 2, 3].map(|no| failures.is_slowed(address(no), now)), [true, false, false]);
        now += WINDOW;
        assert!(!failures.is_slowed(address(1), now));
        assert_eq!(failures.on_failure(address(1), now), Verdict::Wrong);
    }

    #[test]
    fn many_addresses_are_slowed_together() {
        let now = Instant::now();
        let mut failures = Failures::new(now);
        for no in 0..FAILURES_MAX {
            assert_eq!(failures.on_failure(address(no), now), Verdict::Wrong);
        }
        assert_eq!(failures.on_failure(address(9_999), now), Verdict::Slowed { wait_s: 60, burst: Some(61) });
    }

    #[test]
    fn a_network_of_addresses_is_one_and_the_table_is_bounded() {
        let now = Instant::now();
        let mut failures = Failures::new(now);
        for no in 0..u64::from(ADDRESS_FAILURES_MAX) {
            let host = Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(no));
            failures.on_failure(host.into(), now);
        }
        let slowed = failures.on_failure("2001:db8::ffff".parse().unwrap(), now);
        assert!(matches!(slowed, Verdict::Slowed { .. }), "{slowed:?}");
        for no in 0..5_000 {
            failures.on_failure(address(no), now);
        }
        assert_eq!(failures.by_address.len(), ADDRESSES_MAX);
    }
}
