//! How often a session is refused before less of it is heard.
//!
//! To read a request and refuse it costs a node some 40 us, most of it in the network: not much less than to serve it. A client that
//! does not listen could so keep a processor busy with refusals alone. Beyond this bucket its stream is left unread for a moment: the
//! flow control of QUIC then holds its requests back where they cost nothing, at its own side. Kept as one number, as in
//! [`super::claims`].
//!
//! It must never meet somebody who listens: who waits as told is refused once a second. And it must never keep a session unread for so
//! long that its pings come too late.

use crate::Nanos;

/// Refusals in a row that a session may have.
const BURST: u64 = 40;

/// Refusals a second that a session may have for long.
const PER_S: u64 = 20;

const INTERVAL: Nanos = 1_000_000_000 / PER_S;

/// Longest time that a session is left unread, however many of its requests are refused at once: its pings wait for as long, and a
/// client that hears nothing for several seconds takes the connection for dead.
const UNREAD_MAX: Nanos = 2_000_000_000;

/// The bucket of one session. A new one is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hearing {
    /// When the bucket is full again.
    full_at: Nanos,
}

impl Hearing {
    /// The session was refused once more for lack of capacity. Until when nothing more is to be read of it, if so.
    pub fn on_refused(&mut self, now: Nanos) -> Option<Nanos> {
        let most = now.saturating_add(BURST * INTERVAL + UNREAD_MAX);
        self.full_at = self.full_at.max(now).saturating_add(INTERVAL).min(most);
        let heard_at = self.full_at.saturating_sub(BURST * INTERVAL);
        (heard_at > now).then_some(heard_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn a_burst_is_heard_and_then_a_rate() {
        let mut hearing = Hearing::default();
        assert!((0..40).all(|_| hearing.on_refused(SECOND).is_none()));
        assert_eq!(hearing.on_refused(SECOND), Some(SECOND + INTERVAL));
        assert_eq!(hearing.on_refused(SECOND), Some(SECOND + 2 * INTERVAL));
        assert_eq!(hearing.on_refused(10 * SECOND), None, "full again");
    }

    #[test]
    fn however_many_are_refused_at_once_it_is_heard_again_soon() {
        let mut hearing = Hearing::default();
        let last = (0..1_000).filter_map(|_| hearing.on_refused(SECOND)).last();
        assert_eq!(last, Some(SECOND + UNREAD_MAX));
        assert_eq!(hearing.on_refused(SECOND + UNREAD_MAX), Some(SECOND + UNREAD_MAX + INTERVAL));
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Hearing>() <= 8);
    }

    proptest! {
        /// Whoever is only heard when he may be is refused no more often than burst and rate say, in any stretch of time.
        #[test]
        fn refusals_are_bounded(gaps in prop::collection::vec(0u64..SECOND / 10, 1..300)) {
            let (mut hearing, mut now, mut heard_at) = (Hearing::default(), 0, 0);
            let mut refusals = Vec::new();
            for gap in gaps {
                now = heard_at.max(now + gap);
                refusals.push(now);
                if let Some(until) = hearing.on_refused(now) {
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

        /// Who is refused once a second is never left unread.
        #[test]
        fn who_listens_is_always_heard(count in 1u64..1_000) {
            let mut hearing = Hearing::default();
            prop_assert!((0..count).all(|n| hearing.on_refused(n * SECOND).is_none()));
        }
    }
}
