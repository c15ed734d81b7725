//! The last requests of a session: which, of which class, and what became of them.
//!
//! Why it exists: "what is this phone doing, and what do we tell it?" is asked of one session among half a million, so each of them
//! remembers a little all the time. It is 40 bytes, written without a lock by the session's own tasks and read by whoever asks. It
//! must never hold what a request said.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use buslane_chassis::oversee::RequestFacts;
use buslane_shared::class::{Class, Protocol};
use buslane_shared::{Nanos, UnixMs};

use crate::load::outcome::Outcome;

/// Requests that are remembered.
const KEPT: usize = 4;

/// Bits of a time: milliseconds of the node, for five hundred years.
const TIME_SHIFT: u32 = 16;

const PROTOCOL_SHIFT: u32 = 11;

const CLASS_SHIFT: u32 = 8;

/// The last requests. An entry is `time | protocol, 5 bits | class, 3 bits | outcome, 8 bits`; 0: none.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    next: AtomicU8,
    entries: [AtomicU64; KEPT],
}

impl Trail {
    /// Remembers a request that came at this time of the node.
    pub(crate) fn note(&self, at: Nanos, protocol: Protocol, class: Class, outcome: Outcome) {
        let at_ms = at / 1_000_000 + 1;
        let entry = at_ms << TIME_SHIFT
            | (protocol.index() as u64) << PROTOCOL_SHIFT
            | (class.index() as u64) << CLASS_SHIFT
            | outcome.index() as u64;
        let place = usize::from(self.next.fetch_add(1, Ordering::Relaxed)) % KEPT;
        if let Some(known) = self.entries.get(place) {
            known.store(entry, Ordering::Relaxed);
        }
    }

    /// What is remembered, newest first; `started_ms` is when the time of the node began.
    pub(crate) fn facts(&self, started_ms: UnixMs) -> Vec<RequestFacts> {
        let mut entries: Vec<u64> = self.entries.iter().map(|entry| entry.load(Ordering::Relaxed)).collect();
        entries.sort_unstable_by(|a, b| b.cmp(a));
        entries.into_iter().filter_map(|entry| facts(entry, started_ms)).collect()
    }
}

fn facts(entry: u64, started_ms: UnixMs) -> Option<RequestFacts> {
    let at_ms = (entry >> TIME_SHIFT).checked_sub(1)?;
    let bits = |shift: u32, mask: u64| usize::try_from(entry >> shift & mask).ok();
    Some(RequestFacts {
        at_ms: started_ms.saturating_add(at_ms),
        protocol: Protocol::ALL.get(bits(PROTOCOL_SHIFT, 0x1f)?)?.name(),
        class: Class::ALL.get(bits(CLASS_SHIFT, 0x7)?)?.name(),
        outcome: Outcome::at(bits(0, 0xff)?).name(),
    })
}

#[cfg(test)]
mod tests {
    use buslane_shared::overload::lanes::Why;

    use super::*;
    use crate::load::outcome::Reason;

    #[test]
    fn the_last_four_are_told_newest_first() {
        let trail = Trail::default();
        assert!(trail.facts(0).is_empty());
        trail.note(0, Protocol::RoomList, Class::Look, Outcome::Served);
        let [first] = &trail.facts(5_000)[..] else { panic!("one request") };
        assert_eq!(
            (first.at_ms, first.protocol, first.class, first.outcome),
            (5_000, "room.list", "C2", "admitted")
        );
        for n in 1..300_u64 {
            let outcome = Outcome::Refused(Reason::Lane(Why::Stale));
            trail.note(n * 7_000_000, Protocol::Unknown, Class::Spare, outcome);
        }
        let last = trail.facts(5_000);
        assert_eq!(last.iter().map(|facts| facts.at_ms).collect::<Vec<_>>(), [7_093, 7_086, 7_079, 7_072]);
        assert!(last.iter().all(|f| (f.protocol, f.class, f.outcome) == ("unknown", "C7", "stale")));
    }
}
