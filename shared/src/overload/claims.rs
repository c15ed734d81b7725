//! How often a user may claim that somebody is looking.
//!
//! Foreground is a claim of the client, and a client may lie. Beyond its bucket a claim is not refused: it is treated as
//! background (C5), and counted. An honest person does not come near it; a phone that calls everything foreground gets no
//! more from it than five requests a second.
//!
//! It is kept for every session, so it is one number: the theoretical arrival time of the generic cell rate algorithm (ITU-T
//! I.371), which is a token bucket turned around. The limits are an argument: one change holds for all sessions at once.

use crate::Nanos;
use crate::overload::settings;

const SECOND: Nanos = 1_000_000_000;

/// The bucket of one user or session. A new one is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claims {
    /// When the bucket is full again.
    full_at: Nanos,
}

impl Claims {
    /// Whether one more claim is believed; it is taken from the bucket if so.
    pub fn take(&mut self, settings: &settings::Claims, now: Nanos) -> bool {
        let interval = (SECOND / u64::from(settings.per_s.max(1))).max(1);
        let depth = interval.saturating_mul(u64::from(settings.burst));
        let full_at = self.full_at.max(now).saturating_add(interval);
        let is_believed = full_at - now <= depth;
        if is_believed {
            self.full_at = full_at;
        }
        is_believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: settings::Claims = settings::Claims { burst: 20, per_s: 5 };

    fn believed(claims: &mut Claims, count: u32, now: Nanos) -> u32 {
        (0..count).filter(|_| claims.take(&LIMITS, now)).count() as u32
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut claims = Claims::default();
        assert_eq!(believed(&mut claims, 100, 7), 20);
        assert_eq!(believed(&mut claims, 100, 7 + SECOND), 5);
        assert_eq!(believed(&mut claims, 100, 7 + SECOND + SECOND / 10), 0);
        assert_eq!(believed(&mut claims, 100, 7 + SECOND + SECOND / 5), 1);
        assert_eq!(believed(&mut claims, 100, 7 + 60 * SECOND), 20, "full again, and not more than full");
    }

    #[test]
    fn other_limits_hold_at_once() {
        let mut claims = Claims::default();
        believed(&mut claims, 20, 0);
        assert!(!claims.take(&LIMITS, 0));
        assert!(claims.take(&settings::Claims { burst: 100, per_s: 5 }, 0));
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Claims>() <= 16);
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            burst in 1u32..50,
            per_s in 1u32..50,
            gaps in prop::collection::vec(0u64..SECOND / 2, 1..200),
        ) {
            let limits = settings::Claims { burst, per_s };
            let (mut claims, mut now, mut taken) = (Claims::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                if claims.take(&limits, now) {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let most = f64::from(burst) + f64::from(per_s) * (to - from) as f64 / SECOND as f64 + 1.0;
                    prop_assert!((last - first + 1) as f64 <= most);
                }
            }
        }

        #[test]
        fn who_stays_below_the_rate_is_always_believed(per_s in 1u32..50, extra in prop::collection::vec(0u64..SECOND, 1..100)) {
            let limits = settings::Claims { burst: 1, per_s };
            let (mut claims, mut now) = (Claims::default(), 0);
            for gap in extra {
                now += SECOND / u64::from(per_s) + gap;
                prop_assert!(claims.take(&limits, now));
            }
        }
    }
}
