//! What is to be told about receiving and reading: the newest word for each room, told together.
//!
//! A server under pressure asks for longer batches, or refuses one for a time; both only make the words fewer.

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
    /// The server wants them gathered for this long.
    batch: Duration,
    /// The server wants none before.
    not_before: Option<Instant>,
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
        let due = self.since? + COLLECT.max(self.batch);
        Some(self.not_before.map_or(due, |earliest| due.max(earliest)))
    }

    /// They are gathered for this long from now on.
    pub fn set_batch(&mut self, batch: Duration) {
        self.batch = batch;
    }

    /// None is told before this.
    pub fn hold_until(&mut self, earliest: Instant) {
        self.not_before = Some(earliest);
    }

    /// They are due now: there is no later.
    pub fn hasten(&mut self) {
        self.batch = Duration::ZERO;
        self.not_before = None;
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
    fn a_server_may_ask_for_patience_and_the_end_knows_none() {
        let (room, start) = (RoomId::from_bytes([1; 16]), Instant::now());
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut marks = Marks::default();
        marks.set_batch(2 * second);
        marks.add(room, Mark { delivered: 1, read: 0 }, start);
        assert_eq!(marks.due_at(), Some(start + 2 * second));
        marks.hold_until(start + minute);
        assert_eq!(marks.due_at(), Some(start + minute));
        assert!(marks.take(start + 3 * second).is_empty());
        marks.hasten();
        assert_eq!(marks.take(start).len(), 1);
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
