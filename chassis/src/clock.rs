//! The two things a pure decision is handed from outside: what time it is, and random bytes.
//!
//! Why it exists: one place to look when a decision saw a strange time. It must never be called from the pure crate.

use std::time::{SystemTime, UNIX_EPOCH};

use buslane_shared::UnixMs;
use rand::RngCore;

/// Milliseconds since the Unix epoch by the wall clock; 0 if the clock stands before it.
pub fn unix_ms() -> UnixMs {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// `N` unpredictable bytes, fit for keys, nonces and identifiers (the generator is seeded and reseeded by the system).
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_past_the_day_this_was_written() {
        assert!(unix_ms() > 1_763_000_000_000);
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<16>(), random::<16>());
    }
}
