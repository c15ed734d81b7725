//! How often a session is refused before less of it is heard.
//!
//! While the node has nothing to spare a claim to be foreground beyond what a person could have (`claims`) counts like a refusal.
//!
//! To read a request and refuse it costs a node some 40 us, most of it in the network: not much less than to serve it. A client that
//! does not listen could so keep a processor busy with refusals alone. Beyond this bucket its stream is left unread for a moment: the
//! flow control of QUIC then holds its requests back where they cost nothing, at its own side. The bucket is one number, as in
//! [`super::claims`].
//!
//! Where somebody looks and the first request after such a moment is refused again, there is still no place for the session, and one
//! refusal is enough to know it: it is left unread again at once, and for longer.
//!
//! It must never meet somebody who listens from the beginning: who waits as told with one request is refused once a second. A phone
//! that comes online with a full outbox is left unread for about as long as it was told to wait, and for longer where it is refused
//! right after that. And it must never keep a session unread for so
//! long that its pings come too late.

use std::ops::RangeInclusive;

use crate::Nanos;
use crate::class::Class;

const MS: Nanos = 1_000_000;

/// Refusals in a row that a session may have, of requests that nobody waits for.
const BURST: u64 = 40;

/// How many of them one refusal counts for where somebody looks. That happens only where the foreground alone is too much; then
/// every refusal is capacity that somebody else lacks.
const FOREGROUND_WEIGHT: u64 = 10;

/// How fast they are forgotten.
const PER_S: u64 = 20;

const INTERVAL: Nanos = 1_000_000_000 / PER_S;

/// How long until all is forgotten.
const MEMORY: Nanos = BURST * INTERVAL;

/// How long a session is left unread, so that what it says meanwhile is refused in one go, not one by one: a different time each, or
/// those who were refused together would come back together, and the node be idle in between. Its pings wait for as long, and a
/// client that hears nothing for many seconds takes the connection for dead.
const UNREAD: RangeInclusive<Nanos> = MEMORY / 2..=MEMORY * 3 / 2;

/// How long it is left unread when there was no place for it again. A client gives an answer ten seconds.
const UNREAD_AGAIN: RangeInclusive<Nanos> = MEMORY * 3 / 2..=MEMORY * 7 / 2;

/// The bucket of one session. A new one is full. Every session has one, so it keeps milliseconds in 32 bits; what they say is only
/// believed where it is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hearing {
    /// When the bucket is full again.
    full_at: Millis,
    /// Until when it is, or was last, left unread.
    heard_at: Millis,
}

/// A moment, modulo 49 days; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Millis(u32);

impl Millis {
    fn of(at: Nanos) -> Self {
        Self(((at / MS) as u32).max(1))
    }

    /// How long it is from `now` until then; zero where that is over, or more than `most`.
    fn after(self, now: Nanos, most: Nanos) -> Nanos {
        let left = Nanos::from(self.0.wrapping_sub(Self::of(now).0)) * MS;
        if self == Self::default() || left > most { 0 } else { left }
    }

    /// Whether it was less than `most` ago.
    fn was_within(self, now: Nanos, most: Nanos) -> bool {
        let ago = Nanos::from(Self::of(now).0.wrapping_sub(self.0)) * MS;
        self != Self::default() && ago < most
    }
}

impl Hearing {
    /// A request of this class was refused once more for lack of capacity. Until when nothing more is to be read of the session, if so;
    /// `random` are uniform bits.
    pub fn on_refused(&mut self, class: Class, now: Nanos, random: u32) -> Option<Nanos> {
        let left = self.heard_at.after(now, *UNREAD_AGAIN.end());
        if left > 0 {
            // It was under way when the session was left unread, or came on another stream.
            return Some(now.saturating_add(left));
        }
        let is_again = class.is_foreground() && self.heard_at.was_within(now, MEMORY);
        let weight = if class.is_foreground() { FOREGROUND_WEIGHT } else { 1 };
        let owed = self.full_at.after(now, MEMORY).saturating_add(weight * INTERVAL).min(MEMORY);
        self.full_at = Millis::of(now.saturating_add(owed));
        if owed < MEMORY && !is_again {
            return None;
        }
        let until = now.saturating_add(drawn(if is_again { UNREAD_AGAIN } else { UNREAD }, random));
        self.heard_at = Millis::of(until);
        Some(until)
    }
}

/// A time of this range, by uniform bits.
fn drawn(range: RangeInclusive<Nanos>, random: u32) -> Nanos {
    let (least, most) = range.into_inner();
    least + ((u128::from(most - least) * u128::from(random)) >> 32) as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    /// Random bits that make it the mean.
    const MIDDLE: u32 = 1 << 31;

    /// Refusals of this class until it is unread, and until when that is.
    fn heard(hearing: &mut Hearing, class: Class, now: Nanos) -> (u64, Nanos) {
        let mut count = 1;
        loop {
            match hearing.on_refused(class, now, MIDDLE) {
                Some(until) => return (count, until),
                None => count += 1,
            }
        }
    }

    #[test]
    fn a_burst_is_heard_and_then_nothing_for_a_while() {
        let mut hearing = Hearing::default();
        assert_eq!(heard(&mut hearing, Class::Wake, SECOND), (40, 3 * SECOND));
        assert_eq!(heard(&mut hearing, Class::Wake, 3 * SECOND), (40, 5 * SECOND), "all is forgotten");
        assert!((0..20).all(|_| hearing.on_refused(Class::Wake, 10 * SECOND, MIDDLE).is_none()));
        let half_a_second_later = 10 * SECOND + SECOND / 2;
        assert_eq!(heard(&mut hearing, Class::Wake, half_a_second_later).0, 30, "half of it");
    }

    #[test]
    fn where_somebody_looks_four_are_as_much_as_forty() {
        let mut hearing = Hearing::default();
        assert_eq!(heard(&mut hearing, Class::Talk, SECOND), (4, 3 * SECOND));
        assert_eq!(heard(&mut hearing, Class::Bulk, 30 * SECOND), (4, 32 * SECOND));
        assert_eq!(heard(&mut hearing, Class::Social, 50 * SECOND), (40, 52 * SECOND));
    }

    #[test]
    fn where_there_is_still_no_place_one_refusal_is_enough() {
        let mut hearing = Hearing::default();
        assert_eq!(heard(&mut hearing, Class::Talk, SECOND), (4, 3 * SECOND));
        assert_eq!(heard(&mut hearing, Class::Talk, 3 * SECOND), (1, 8 * SECOND));
        assert_eq!(heard(&mut hearing, Class::Talk, 9 * SECOND), (1, 14 * SECOND));
        assert_eq!(
            heard(&mut hearing, Class::Talk, 16 * SECOND),
            (4, 18 * SECOND),
            "it was well for two seconds"
        );
        assert_eq!(heard(&mut hearing, Class::Wake, 18 * SECOND), (40, 20 * SECOND), "nobody looks");
    }

    #[test]
    fn however_many_are_refused_at_once_it_is_heard_again_soon() {
        let mut hearing = Hearing::default();
        let last = (0..1_000).filter_map(|_| hearing.on_refused(Class::Wake, SECOND, MIDDLE)).last();
        assert_eq!(last, Some(3 * SECOND));
        // Those that were under way change nothing.
        let late = hearing.on_refused(Class::Talk, 2 * SECOND, u32::MAX);
        assert_eq!(late, Some(3 * SECOND));
    }

    #[test]
    fn after_weeks_nothing_of_it_is_left() {
        let mut hearing = Hearing::default();
        let around = (u64::from(u32::MAX) - 1_000) * MS;
        assert_eq!(
            heard(&mut hearing, Class::Talk, around),
            (4, around + 2 * SECOND),
            "over the end of 32 bits"
        );
        assert_eq!(heard(&mut hearing, Class::Talk, around + 2 * SECOND).0, 1);
        for days in [1, 20, 30, 48] {
            let later = around + days * 86_400 * SECOND;
            assert_eq!(heard(&mut hearing, Class::Talk, later).0, 4, "{days} days");
        }
    }

    #[test]
    fn nobody_comes_back_together() {
        let until = |random| {
            let mut hearing = Hearing::default();
            (0..40).filter_map(|_| hearing.on_refused(Class::Wake, SECOND, random)).last()
        };
        assert_eq!(until(0), Some(2 * SECOND));
        assert_eq!(until(MIDDLE), Some(3 * SECOND));
        assert!(until(u32::MAX).is_some_and(|at| at <= 4 * SECOND && at > 4 * SECOND - 10));
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Hearing>() <= 8);
    }

    proptest! {
        /// Whoever is only heard when he may be is refused no more often than burst and rate say, in any stretch of time.
        #[test]
        fn refusals_are_bounded(gaps in prop::collection::vec(0u64..SECOND / 10, 1..300), random: u32) {
            let (mut hearing, mut now, mut heard_at) = (Hearing::default(), 0, 0);
            let mut refusals = Vec::new();
            for gap in gaps {
                now = heard_at.max(now + gap);
                refusals.push(now);
                if let Some(until) = hearing.on_refused(Class::Wake, now, random) {
                    heard_at = until;
                }
            }
            for (n, from) in refusals.iter().enumerate() {
                for (m, to) in refusals.iter().enumerate().skip(n) {
                    let allowed = BURST + (to - from) / INTERVAL + 2;
                    prop_assert!((m - n + 1) as u64 <= allowed, "{} refusals from {from} to {to}", m - n + 1);
                }
            }
        }

        /// However often it is refused, it is heard again before a client takes silence for the end.
        #[test]
        fn it_is_never_unread_for_long(
            gaps in prop::collection::vec((0u64..SECOND, 0u32..8, any::<u32>()), 1..300),
        ) {
            let (mut hearing, mut now) = (Hearing::default(), 0);
            for (gap, class, random) in gaps {
                now += gap;
                if let Some(until) = hearing.on_refused(Class::of_number(class), now, random) {
                    prop_assert!(until > now && until <= now + 7 * SECOND);
                }
            }
        }

        /// Who is refused once a second is never left unread, whatever he asks for.
        #[test]
        fn who_listens_is_always_heard(count in 1u64..1_000, class in 0u32..8) {
            let mut hearing = Hearing::default();
            let class = Class::of_number(class);
            prop_assert!((0..count).all(|n| hearing.on_refused(class, n * SECOND, 0).is_none()));
        }
    }
}
