//! What was sent lately, so that the cursors of others can be told as "delivered" and "read". Pure and bounded.

use std::collections::VecDeque;

use buslane_shared::id::{ClientId, RoomId};

use crate::outbox::SendState;

/// Messages remembered: what is on a screen, over several rooms. Older ones are not told any more.
const REMEMBERED_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Sent,
    Delivered,
    Read,
}

#[derive(Debug)]
struct Remembered {
    room: RoomId,
    seq: u64,
    client_id: ClientId,
    reached: Reached,
}

/// The latest sends.
#[derive(Debug, Default)]
pub(crate) struct SentLog {
    latest: VecDeque<Remembered>,
}

impl SentLog {
    /// A receipt has come.
    pub fn on_sent(&mut self, room: RoomId, seq: u64, client_id: ClientId) {
        if self.latest.len() >= REMEMBERED_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(Remembered { room, seq, client_id, reached: Reached::Sent });
    }

    /// Another member's cursor has moved: the sends that are further than before, oldest first.
    pub fn on_cursor(&mut self, room: RoomId, delivered: u64, read: u64) -> Vec<(ClientId, SendState)> {
        let mut news = Vec::new();
        for sent in self.latest.iter_mut().filter(|s| s.room == room) {
            let reached = if sent.seq <= read {
                Reached::Read
            } else if sent.seq <= delivered {
                Reached::Delivered
            } else {
                Reached::Sent
            };
            if reached > sent.reached {
                sent.reached = reached;
                let state = if reached == Reached::Read { SendState::Read } else { SendState::Delivered };
                news.push((sent.client_id, state));
            }
        }
        // What was read needs no more news.
        while self.latest.front().is_some_and(|s| s.reached == Reached::Read) {
            self.latest.pop_front();
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_goes_from_sent_to_delivered_to_read_and_never_back() {
        let (room, other) = (RoomId::from_bytes([1; 16]), RoomId::from_bytes([2; 16]));
        let id = |n| ClientId::from_bytes([n; 16]);
        let mut log = SentLog::default();
        log.on_sent(room, 1, id(1));
        log.on_sent(room, 2, id(2));
        log.on_sent(other, 1, id(3));
        assert_eq!(log.on_cursor(room, 1, 0), [(id(1), SendState::Delivered)]);
        assert_eq!(log.on_cursor(room, 2, 1), [(id(1), SendState::Read), (id(2), SendState::Delivered)]);
        assert!(log.on_cursor(room, 2, 1).is_empty());
        assert!(log.on_cursor(room, 1, 0).is_empty());
        assert_eq!(log.on_cursor(room, 0, 2), [(id(2), SendState::Read)]);
        assert_eq!(log.latest.len(), 1);
    }

    #[test]
    fn it_is_bounded() {
        let mut log = SentLog::default();
        for n in 0..2 * REMEMBERED_MAX as u64 {
            log.on_sent(RoomId::from_bytes([1; 16]), n, ClientId::from_bytes([1; 16]));
        }
        assert_eq!(log.latest.len(), REMEMBERED_MAX);
    }
}
