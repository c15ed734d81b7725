//! Levels: the order in which requests are given up.
//!
//! `level = class * 128 + keyed_hash(user, hour) % 128`, lower is more important (after DAGOR: Zhou et al., "Overload Control
//! for Scaling WeChat Microservices", SoCC 2018). Within a class the same users stay admitted for an hour, so a
//! conversation succeeds as a whole instead of every message of it being a lottery; with the next hour others have their
//! turn.

use crate::UnixMs;
use crate::class::Class;

/// Steps inside of a class.
pub const STEPS: u16 = 128;

/// All levels: 0 to 1023.
pub const LEVELS: usize = 1024;

/// The first background level.
pub const BACKGROUND: u16 = STEPS * 4;

const HOUR_MS: u64 = 3_600_000;

/// The place of a request in the order of importance, 0 (most important) to 1023.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u16);

impl Level {
    /// The level of a class for a user with this standing.
    pub fn new(class: Class, standing: Standing) -> Self {
        Self(class as u16 * STEPS + standing.step)
    }

    /// 0 to 1023.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The class that it is of.
    pub fn class(self) -> Class {
        Class::of_number(u32::from(self.0 / STEPS))
    }
}

/// Where a user stands among the others for an hour, and the bits that settle a cut through a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    step: u16,
    /// Uniform bits that stay the same for the hour.
    pub bits: u16,
}

impl Standing {
    /// The standing of a user at this time. `key` is the node's secret, so that nobody picks a name for its standing.
    pub fn of(user: &str, key: u64, now_ms: UnixMs) -> Self {
        let hash = mix(user.bytes().fold(key, |h, b| mix(h ^ u64::from(b))) ^ (now_ms / HOUR_MS));
        Self { step: (hash % u64::from(STEPS)) as u16, bits: (hash >> 32) as u16 }
    }

    /// The hour that a standing is for, and when it is over.
    pub fn hour(now_ms: UnixMs) -> u64 {
        now_ms / HOUR_MS
    }
}

/// Finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_spread_over_the_steps_evenly() {
        let mut count = [0u32; STEPS as usize];
        for n in 0..64_000 {
            count[usize::from(Standing::of(&format!("user{n}"), 7, 0).step)] += 1;
        }
        // 500 each; five standard deviations are 112.
        assert!(count.iter().all(|c| (388..612).contains(c)), "{count:?}");
    }

    #[test]
    fn the_order_of_users_lasts_for_an_hour_and_depends_on_the_key() {
        let at = |key, now_ms| -> Vec<u16> {
            (0..64).map(|n| Standing::of(&format!("user{n}"), key, now_ms).step).collect()
        };
        assert_eq!(at(1, 0), at(1, HOUR_MS - 1));
        assert_ne!(at(1, 0), at(1, HOUR_MS));
        assert_ne!(at(1, 0), at(2, 0));
    }

    proptest! {
        #[test]
        fn a_level_lies_in_its_class(class in 0u32..8, user in "[a-z]{1,20}", key: u64, now_ms: u32) {
            let class = Class::of_number(class);
            let level = Level::new(class, Standing::of(&user, key, now_ms.into()));
            prop_assert_eq!(level.class(), class);
            prop_assert!(usize::from(level.number()) < LEVELS);
            prop_assert_eq!(level.number() < BACKGROUND, class.is_foreground());
        }
    }
}
