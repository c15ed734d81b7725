//! Puts what arrives in order: each message of a room once, without a hole. Pure: `now` is an argument.
//!
//! Deliveries are hints. One that continues its room is passed on; one from the past is dropped and counted; one from the
//! future is kept for a moment, because what is missing is often on its way (one's own message, whose receipt travels
//! another road). What is still missing then is fetched from the log.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use buslane_shared::id::RoomId;

use crate::options::FirstLogin;
use crate::types::{Event, Message, Page};

/// How long a hole may be before the log is asked: a round trip of a slow network.
const PATIENCE: Duration = Duration::from_millis(250);

/// Messages kept behind holes, over all rooms. Beyond it they are dropped; the log has them.
const STASH_MAX: usize = 256;

/// Bodies kept behind holes.
const STASH_BYTES_MAX: usize = 1024 * 1024;

/// Rooms that ask the log at a time: enough to hide the round trips, few enough to leave a phone's link alive.
pub(crate) const HEALS_MAX: usize = 8;

#[derive(Debug, Default)]
struct Room {
    /// Everything up to here was passed on.
    cursor: u64,
    /// The highest sequence that is known to exist.
    head: u64,
    stash: BTreeMap<u64, Message>,
    /// Since when something is missing.
    hole_since: Option<Instant>,
    asking: bool,
    /// It stands in the queue of those that must ask.
    queued: bool,
}

impl Room {
    fn is_behind(&self) -> bool {
        self.cursor < self.head
    }
}

/// Everything about what this device has received.
#[derive(Debug)]
pub(crate) struct Inbox {
    rooms: HashMap<RoomId, Room>,
    /// Rooms with a hole that is still young.
    young: HashSet<RoomId>,
    /// Rooms that must ask the log, in turn.
    must_ask: VecDeque<RoomId>,
    asking: usize,
    stashed: usize,
    stashed_bytes: usize,
    /// Deliveries that were there already.
    duplicates: u64,
    /// Where rooms begin that this device has never seen, until it has seen the room list once.
    fresh: Option<FirstLogin>,
}

impl Inbox {
    /// With the cursors of an earlier run; `fresh`: there was none.
    pub fn new(cursors: HashMap<RoomId, u64>, fresh: Option<FirstLogin>) -> Self {
        let room = |cursor| Room { cursor, head: cursor, ..Room::default() };
        Self {
            rooms: cursors.into_iter().map(|(id, cursor)| (id, room(cursor))).collect(),
            young: HashSet::new(),
            must_ask: VecDeque::new(),
            asking: 0,
            stashed: 0,
            stashed_bytes: 0,
            duplicates: 0,
            fresh,
        }
    }

    /// Deliveries that were dropped because they had been passed on before.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Takes a delivery, or one's own message with its receipt. What is to be passed on is appended to `out`, of which at
    /// most `space` more may be.
    pub fn on_message(&mut self, message: Message, space: usize, now: Instant, out: &mut Vec<Event>) {
        let id = message.room;
        if self.fresh == Some(FirstLogin::FromNow) && !self.rooms.contains_key(&id) {
            let cursor = message.seq.saturating_sub(1);
            self.rooms.insert(id, Room { cursor, head: cursor, ..Room::default() });
        }
        let room = self.rooms.entry(id).or_default();
        if message.seq <= room.cursor || room.stash.contains_key(&message.seq) {
            self.duplicates += 1;
            return;
        }
        room.head = room.head.max(message.seq);
        if message.seq == room.cursor + 1 && out.len() < space {
            room.cursor = message.seq;
            out.push(Event::Message(message));
        } else if self.stashed < STASH_MAX && self.stashed_bytes + message.weight_bytes() <= STASH_BYTES_MAX {
            self.stashed += 1;
            self.stashed_bytes += message.weight_bytes();
            room.stash.insert(message.seq, message);
        }
        self.drain(id, space, now, out);
    }

    /// Takes what the room list says. A cursor that begins here is returned, to be kept.
    pub fn on_head(&mut self, id: RoomId, head: u64) -> Option<u64> {
        let from_now = self.fresh == Some(FirstLogin::FromNow);
        let begins = (from_now && !self.rooms.contains_key(&id)).then_some(head);
        let room = self.rooms.entry(id).or_default();
        room.cursor = begins.unwrap_or(room.cursor);
        room.head = room.head.max(head);
        if room.is_behind() {
            self.ask(id);
        }
        begins
    }

    /// The whole room list was taken: rooms that appear from now on are read from their beginning. True the first time.
    pub fn on_rooms_listed(&mut self) -> bool {
        self.fresh.take().is_some()
    }

    /// Takes a page of the log. Messages that do not fit into `space` are asked for again later.
    pub fn on_page(&mut self, id: RoomId, page: Page, space: usize, now: Instant, out: &mut Vec<Event>) {
        self.stop_asking(id);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        room.head = room.head.max(page.head);
        let first = page.first.max(1);
        if room.cursor + 1 < first {
            // A new device just begins where the log begins; for one that was here before, something is missing for ever.
            if room.cursor > 0 {
                out.push(Event::Skipped { room: id, from: room.cursor + 1, to: first - 1 });
            }
            room.cursor = first - 1;
        }
        let empty = page.messages.is_empty();
        for message in page.messages {
            if message.seq <= room.cursor {
                continue;
            }
            if message.seq != room.cursor + 1 || out.len() >= space {
                break;
            }
            room.cursor = message.seq;
            out.push(Event::Message(message));
        }
        if empty && !page.more {
            // The log has nothing more for this user: what a hint promised was not for them.
            room.head = room.cursor;
            let stash = std::mem::take(&mut room.stash);
            self.unstash(stash.values());
        }
        self.drain(id, space, now, out);
        if self.rooms.get(&id).is_some_and(Room::is_behind) {
            self.ask(id);
        }
    }

    /// The log could not be asked; it will be again.
    pub fn on_ask_failed(&mut self, id: RoomId) {
        self.stop_asking(id);
        self.ask(id);
    }

    /// The user may not read the room: forget that there is something to fetch, keep the cursor.
    pub fn on_shut_out(&mut self, id: RoomId) {
        self.stop_asking(id);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.head = room.cursor;
            room.hole_since = None;
            let stash = std::mem::take(&mut room.stash);
            self.unstash(stash.values());
        }
        self.young.remove(&id);
    }

    /// The connection is gone: nothing is being asked any more, everything that is behind has to be.
    pub fn on_disconnect(&mut self) {
        self.asking = 0;
        let asking: Vec<_> =
            self.rooms.iter_mut().filter(|(_, r)| r.asking).map(|(id, r)| (*id, r)).collect();
        let mut again = Vec::with_capacity(asking.len());
        for (id, room) in asking {
            room.asking = false;
            again.push(id);
        }
        for id in again {
            self.ask(id);
        }
    }

    /// The next room to ask the log for, and after which sequence.
    pub fn next_ask(&mut self, now: Instant) -> Option<(RoomId, u64)> {
        self.age(now);
        while self.asking < HEALS_MAX {
            let id = self.must_ask.pop_front()?;
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            room.queued = false;
            if room.asking || !room.is_behind() {
                continue;
            }
            room.asking = true;
            self.asking += 1;
            return Some((id, room.cursor));
        }
        None
    }

    /// When a young hole will be old.
    pub fn next_wake(&self) -> Option<Instant> {
        self.young.iter().filter_map(|id| Some(self.rooms.get(id)?.hole_since? + PATIENCE)).min()
    }

    /// Whether every room is as far as it is known to be.
    pub fn is_caught_up(&self) -> bool {
        self.asking == 0 && self.must_ask.is_empty() && self.young.is_empty()
    }

    /// How far a room was passed on.
    #[cfg(test)]
    pub fn cursor(&self, id: RoomId) -> u64 {
        self.rooms.get(&id).map_or(0, |r| r.cursor)
    }

    /// Passes on what continues the room now, and judges what is left.
    fn drain(&mut self, id: RoomId, space: usize, now: Instant, out: &mut Vec<Event>) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let mut freed = Vec::new();
        while let Some(entry) = room.stash.first_entry() {
            if *entry.key() > room.cursor + 1 || (*entry.key() == room.cursor + 1 && out.len() >= space) {
                break;
            }
            let message = entry.remove();
            freed.push(message.weight_bytes());
            if message.seq == room.cursor + 1 {
                room.cursor = message.seq;
                out.push(Event::Message(message));
            } else {
                self.duplicates += 1;
            }
        }
        if !room.is_behind() {
            room.hole_since = None;
            self.young.remove(&id);
        } else if !room.asking && !room.queued && room.hole_since.is_none() {
            room.hole_since = Some(now);
            self.young.insert(id);
        }
        self.stashed = self.stashed.saturating_sub(freed.len());
        self.stashed_bytes = self.stashed_bytes.saturating_sub(freed.iter().sum());
    }

    /// Holes that have grown old are for the log.
    fn age(&mut self, now: Instant) {
        if self.young.is_empty() {
            return;
        }
        let is_old = |id: &RoomId| {
            self.rooms.get(id).and_then(|r| r.hole_since).is_none_or(|since| now >= since + PATIENCE)
        };
        let old: Vec<_> = self.young.iter().copied().filter(is_old).collect();
        for id in old {
            self.young.remove(&id);
            self.ask(id);
        }
    }

    fn ask(&mut self, id: RoomId) {
        self.young.remove(&id);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.hole_since = None;
            if !room.queued && !room.asking && room.is_behind() {
                room.queued = true;
                self.must_ask.push_back(id);
            }
        }
    }

    fn stop_asking(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id)
            && room.asking
        {
            room.asking = false;
            self.asking = self.asking.saturating_sub(1);
        }
    }

    fn unstash<'a>(&mut self, gone: impl Iterator<Item = &'a Message>) {
        for message in gone {
            self.stashed = self.stashed.saturating_sub(1);
            self.stashed_bytes = self.stashed_bytes.saturating_sub(message.weight_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
