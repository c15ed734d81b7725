//! What is to be told about receiving and reading: the newest word for each room, told together.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use buslane_shared::id::RoomId;
use buslane_shared::limits::CURSORS_PER_MARK_MAX;
use buslane_shared::wire;

/// How long marks are collected: a person scrolls through a screen of messages in one mark.
const COLLECT: Duration = Duration::from_millis(250);

/// How far a room was received and read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub delivered: u64,
    pub read: u64,
}

/// Marks that are not told yet. At most one for each room.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    rooms: HashMap<RoomId, Mark>,
    since: Option<Instant>,
}

impl Marks {
    /// Adds a mark; true: it is the first one, so somebody should look at [`Marks::due_at`].
    pub fn add(&mut self, room: RoomId, mark: Mark, now: Instant) -> bool {
        let known = self.rooms.entry(room).or_default();
        known.delivered = known.delivered.max(mark.delivered);
        known.read = known.read.max(mark.read);
        let first = self.since.is_none();
        self.since.get_or_insert(now);
        first
    }

    /// When they are to be told.
    pub fn due_at(&self) -> Option<Instant> {
        self.since.map(|since| since + COLLECT)
    }

    /// They are due now: there is no later.
    pub fn hasten(&mut self) {
        self.since = self.since.and_then(|since| since.checked_sub(COLLECT)).or(self.since);
    }

    /// The next batch that is due.
    pub fn take(&mut self, now: Instant) -> Vec<(RoomId, Mark)> {
        if self.due_at().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let batch: Vec<_> = self.rooms.iter().map(|(r, m)| (*r, *m)).take(CURSORS_PER_MARK_MAX).collect();
        for (room, _) in &batch {
            self.rooms.remove(room);
        }
        if self.rooms.is_empty() {
            self.since = None;
        }
        batch
    }
}

/// The request that tells them.
pub(crate) fn request(batch: &[(RoomId, Mark)]) -> wire::request::Op {
    let cursors = batch
        .iter()
        .map(|(room, m)| wire::Cursor { room: room.to_wire(), delivered: m.delivered, read: m.read })
        .collect();
    wire::request::Op::Mark(wire::Mark { cursors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_words_about_a_room_become_one() {
        let (room, start) = (RoomId::from_bytes([1; 16]), Instant::now());
        let mut marks = Marks::default();
        assert!(marks.add(room, Mark { delivered: 3, read: 0 }, start));
        assert!(!marks.add(room, Mark { delivered: 2, read: 1 }, start + COLLECT / 2));
        assert!(marks.take(start).is_empty());
        assert_eq!(marks.take(start + COLLECT), [(room, Mark { delivered: 3, read: 1 })]);
        assert!(marks.due_at().is_none() && marks.take(start + COLLECT).is_empty());
    }

    #[test]
    fn a_batch_is_not_larger_than_a_request_may_be() {
        let start = Instant::now();
        let mut marks = Marks::default();
        for n in 0..=CURSORS_PER_MARK_MAX as u128 {
            marks.add(RoomId::from_bytes(n.to_be_bytes()), Mark { delivered: 1, read: 0 }, start);
        }
        assert_eq!(marks.take(start + COLLECT).len(), CURSORS_PER_MARK_MAX);
        assert_eq!(marks.take(start + COLLECT).len(), 1);
    }
}
