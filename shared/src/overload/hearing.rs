//! How often a session is refused before less of it is heard.
//!
//! In an emergency a claim to be foreground beyond what a person could have (`claims`) counts like a refusal.
//!
//! To read a request and refuse it costs a node some 40 us, most of it in the network: not much less than to serve it. A client that
//! does not listen could so keep a processor busy with refusals alone. Beyond this bucket its stream is left unread for a moment: the
//! flow control of QUIC then holds its requests back where they cost nothing, at its own side. Kept as one number, as in
//! [`super::claims`].
//!
//! It must never meet somebody who listens: who waits as told with one request is refused once a second, and a phone that comes
//! online with a full outbox is left unread for about as long as it was told to wait. And it must never keep a session unread for so
//! long that its pings come too late.

use crate::Nanos;
use crate::class::Class;

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
const UNREAD: std::ops::RangeInclusive<Nanos> = MEMORY / 2..=MEMORY * 3 / 2;

/// The bucket of one session. A new one is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hearing {
    /// When the bucket is full again.
    full_at: Nanos,
}

impl Hearing {
    /// A request of this class was refused once more for lack of capacity. Until when nothing more is to be read of the session, if so;
    /// `random` are uniform bits.
    pub fn on_refused(&mut self, class: Class, now: Nanos, random: u32) -> Option<Nanos> {
        let weight = if class.is_foreground() { FOREGROUND_WEIGHT } else { 1 };
        let empty = now.saturating_add(MEMORY);
        self.full_at = self.full_at.max(now).saturating_add(weight * INTERVAL).min(empty);
        let (least, most) = (*UNREAD.start(), *UNREAD.end());
        let unread = least + ((u128::from(most - least) * u128::from(random)) >> 32) as Nanos;
        (self.full_at == empty).then(|| now.saturating_add(unread))
    }
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
        assert_eq!(heard(&mut hearing, Class::Wake, 4 * SECOND), (20, 6 * SECOND), "half of it");
    }

    #[test]
    fn where_somebody_looks_four_are_as_much_as_forty() {
        let mut hearing = Hearing::default();
        assert_eq!(heard(&mut hearing, Class::Talk, SECOND), (4, 3 * SECOND));
        assert_eq!(heard(&mut hearing, Class::Bulk, 3 * SECOND), (4, 5 * SECOND));
        assert_eq!(heard(&mut hearing, Class::Social, 5 * SECOND), (40, 7 * SECOND));
    }

    #[test]
    fn however_many_are_refused_at_once_it_is_heard_again_soon() {
        let mut hearing = Hearing::default();
        let last = (0..1_000).filter_map(|_| hearing.on_refused(Class::Wake, SECOND, MIDDLE)).last();
        assert_eq!(last, Some(3 * SECOND));
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

        /// Who is refused once a second is never left unread, whatever he asks for.
        #[test]
        fn who_listens_is_always_heard(count in 1u64..1_000, class in 0u32..8) {
            let mut hearing = Hearing::default();
            let class = Class::of_number(class);
            prop_assert!((0..count).all(|n| hearing.on_refused(class, n * SECOND, 0).is_none()));
        }
    }
}
