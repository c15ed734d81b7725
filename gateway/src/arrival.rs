//! What somebody showed in the first packet of a connection, and what it is worth at this door.
//!
//! Why it exists: strangers and those who have been here before knock alike, and only the mark in the first packet tells them
//! apart before anything is spent. It must never honour a mark twice, and never let a mark stand in for a proof: it says who goes
//! first, not who may.

use buslane_shared::UnixMs;
use buslane_shared::class::Class;
use buslane_shared::mark::{self, Kind, MarkBytes, Use, Used};
use buslane_shared::token::KeyRing;
use parking_lot::Mutex;

use crate::shed::Lane;

/// Marks remembered, of each generation: 1,600 a second for eleven minutes, in 18 MiB when there are so many. Beyond it a holder
/// counts as a stranger, whoever keeps to his slot is put off again, and it is counted.
const USED_MAX: usize = 1 << 20;

/// Whoever shows nothing that is worth anything, or what he holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Nothing.
    Stranger,
    /// A pass or a slot of this system, for what a phone does by itself.
    Background,
    /// A pass for what a person looks at.
    Foreground,
}

impl Holder {
    /// Whose share of the address he uses.
    pub fn lane(self) -> Lane {
        match self {
            Self::Foreground => Lane::Foreground,
            Self::Background | Self::Stranger => Lane::Background,
        }
    }
}

/// What came with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// What it is worth.
    pub holder: Holder,
    /// The mark, if it is worth something.
    pub mark: Option<MarkBytes>,
}

impl Arrival {
    /// Of a stranger.
    pub const STRANGER: Self = Self { holder: Holder::Stranger, mark: None };

    /// What the first connection id says. Nothing is used up by looking.
    pub fn read(first_id: &[u8], keys: &KeyRing, now_ms: UnixMs) -> Self {
        let Ok(read) = keys.marks().read(first_id, now_ms) else { return Self::STRANGER };
        let holder = match (read.kind, read.class) {
            (Kind::Pass, class) if class.is_foreground() => Holder::Foreground,
            (Kind::Pass | Kind::Slot, _) => Holder::Background,
        };
        Self { holder, mark: first_id.try_into().ok() }
    }

    /// Whether a slot that is named later is the one that was shown.
    pub fn has_shown(&self, slot: &[u8]) -> bool {
        self.mark.is_some_and(|mark| mark == slot)
    }
}

/// The marks that were used at this gateway.
pub struct Spent(Mutex<Used>);

impl Default for Spent {
    fn default() -> Self {
        Self(Mutex::new(Used::new(USED_MAX)))
    }
}

impl Spent {
    /// Uses a mark up.
    pub fn take(&self, mark: &MarkBytes, now_ms: UnixMs) -> Use {
        self.0.lock().take(mark::identity(mark), now_ms)
    }

    /// Uses the mark of an arrival up; whoever shows it again counts as a stranger.
    pub fn admit(&self, arrival: Arrival, now_ms: UnixMs) -> Arrival {
        let Some(mark) = arrival.mark else { return arrival };
        let outcome = self.take(&mark, now_ms);
        metrics::counter!("buslane_gateway_marks_total", "what" => outcome.name()).increment(1);
        if outcome == Use::First { arrival } else { Arrival::STRANGER }
    }
}

/// The class in which what is given out for a lane is served.
pub fn class(lane: Lane) -> Class {
    match lane {
        Lane::Foreground => Class::Look,
        Lane::Background => Class::Wake,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::mark::{Mark, NodeTag};
    use buslane_shared::wire;

    const NOW_MS: UnixMs = 1_000_000_000;

    fn ring() -> KeyRing {
        let key =
            wire::TokenKey { id: 1, secret: vec![7; 32].into(), not_before_ms: 0, expires_ms: u64::MAX };
        KeyRing::new(&wire::KeySet { keys: vec![key] })
    }

    fn shown(mark: &Mark) -> Holder {
        let ring = ring();
        let bytes = ring.marks().make(mark, NOW_MS).unwrap();
        let arrival = Arrival::read(&bytes, &ring, NOW_MS);
        assert_eq!(arrival.mark.is_some(), arrival.holder != Holder::Stranger);
        arrival.holder
    }

    #[test]
    fn what_is_shown_and_what_it_is_worth() {
        let node = NodeTag::of("m1");
        let rows = [
            (Mark::pass(Class::Look, NOW_MS, 1), Holder::Foreground),
            (Mark::going_on(Class::Talk, node, NOW_MS, 1), Holder::Foreground),
            (Mark::pass(Class::Wake, NOW_MS, 1), Holder::Background),
            (Mark::slot(Class::Wake, node, NOW_MS, 1_000, 1), Holder::Background),
            (Mark::slot(Class::Wake, node, NOW_MS + 5_000, 1_000, 1), Holder::Stranger),
            (Mark::slot(Class::Wake, node, NOW_MS - 5_000, 1_000, 1), Holder::Stranger),
            (Mark::pass(Class::Look, NOW_MS - 300_000, 1), Holder::Stranger),
        ];
        for (mark, holder) in rows {
            assert_eq!(shown(&mark), holder, "{mark:?}");
        }
        for bytes in [&[][..], &[0; 8], &[0x11; 20], &[0xff; 20]] {
            assert_eq!(Arrival::read(bytes, &ring(), NOW_MS), Arrival::STRANGER);
        }
    }

    #[test]
    fn a_mark_is_worth_something_once() {
        let ring = ring();
        let bytes = ring.marks().make(&Mark::pass(Class::Look, NOW_MS, 1), NOW_MS).unwrap();
        let (arrival, spent) = (Arrival::read(&bytes, &ring, NOW_MS), Spent::default());
        assert_eq!(spent.admit(arrival, NOW_MS), arrival);
        assert_eq!(spent.admit(arrival, NOW_MS), Arrival::STRANGER);
        assert_eq!(spent.admit(Arrival::STRANGER, NOW_MS), Arrival::STRANGER);
        assert!(arrival.has_shown(&bytes) && !arrival.has_shown(&[]) && !Arrival::STRANGER.has_shown(&[]));
    }
}
