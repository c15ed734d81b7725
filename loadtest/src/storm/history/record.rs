//! What the phones of a run have sent, been told and received, in the order in which it happened at each of them.
//!
//! A thread appends to a record of its own, without a lock and without moving what is there; the records are merged when the
//! run is over. It must never leave anything out in silence: a record that is full says so, and the check covers less.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use buslane_shared::wire::{self, message};

/// Entries of a run at most, 48 bytes each: 960 MB of the driver's memory.
pub const ENTRIES_MAX: usize = 20_000_000;

/// Entries that are allocated at a time: a record that grows never copies what it has.
const CHUNK: usize = 16_384;

/// A phone, as a number of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device(pub(super) u32);

/// A conversation, as a number of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Room(pub(super) u32);

/// The sender's name for a message.
pub(super) type ClientKey = [u8; 16];

/// Who wrote what, in 8 bytes.
pub(super) type Print = u64;

/// In place of the print of a message: a change of members.
pub(super) const CHANGE: Print = 0;

/// How a session relates to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// A new one: what was missed meanwhile has to be fetched.
    Fresh,
    /// The server promised that nothing is lost.
    Resumed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Handed to the server; once for each try.
    Sent,
    /// Stored, says the server.
    Receipt,
    /// Certainly not stored, says the server about one try.
    Refused,
    /// Came by itself.
    Delivered,
    /// Was asked for.
    Fetched,
    Opened,
    Resumed,
    /// Events were dropped, says the server.
    Behind,
    /// Everything that was on its way had its time to come.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub kind: Kind,
    pub device: u32,
    /// Meaningless where only the session is meant.
    pub room: u32,
    /// Since the beginning of the record.
    pub at_ms: u32,
    pub seq: u64,
    pub client_id: ClientKey,
    pub print: Print,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoomFacts {
    pub id: Vec<u8>,
    /// Users that were members when the record began.
    pub members: Vec<u32>,
}

/// What happened at the phones of one thread, or of all when merged.
#[derive(Debug, Clone)]
pub struct Record {
    began: Instant,
    chunks: Vec<Vec<Entry>>,
    len: usize,
    entries_max: usize,
    cut: bool,
    pub(super) users: Vec<String>,
    user_numbers: HashMap<String, u32>,
    /// The user of each device.
    pub(super) devices: Vec<u32>,
    pub(super) rooms: Vec<RoomFacts>,
    room_numbers: HashMap<Vec<u8>, u32>,
}

impl Record {
    /// An empty record. Sessions that were opened before `began` have come to rest by then.
    pub fn new(began: Instant) -> Self {
        Self::bounded(began, ENTRIES_MAX)
    }

    /// As [`Self::new`], with room for so many entries: for one of several threads that share the bound.
    pub fn bounded(began: Instant, entries_max: usize) -> Self {
        Self {
            began,
            chunks: Vec::new(),
            len: 0,
            entries_max,
            cut: false,
            users: Vec::new(),
            user_numbers: HashMap::new(),
            devices: Vec::new(),
            rooms: Vec::new(),
            room_numbers: HashMap::new(),
        }
    }

    /// One more device of a user.
    pub fn device(&mut self, user: &str) -> Device {
        let user = self.user(user);
        self.devices.push(user);
        Device(number(self.devices.len() - 1))
    }

    /// A room and its members before the first message of the run. Every room in which phones of the run may hear anything is
    /// to be named; a delivery from any other one is a finding.
    pub fn room<'a>(&mut self, id: &[u8], members: impl IntoIterator<Item = &'a str>) -> Room {
        let members: Vec<u32> = members.into_iter().map(|user| self.user(user)).collect();
        let room = self.room_number(id);
        if let Some(facts) = self.rooms.get_mut(room as usize) {
            facts.members.extend(members);
        }
        Room(room)
    }

    /// A session is open.
    pub fn on_session(&mut self, device: Device, continuity: Continuity, at: Instant) {
        let kind = match continuity {
            Continuity::Fresh => Kind::Opened,
            Continuity::Resumed => Kind::Resumed,
        };
        self.about_session(kind, device, at);
    }

    /// The server said that events were dropped.
    pub fn on_behind(&mut self, device: Device, at: Instant) {
        self.about_session(Kind::Behind, device, at);
    }

    /// The run is over for this phone: its session is still open, and what was on its way has had its time. What it does not have
    /// now is lost. A phone without this word (it was cut off, nobody waited) is not asked for what came last.
    pub fn on_end(&mut self, device: Device, at: Instant) {
        self.about_session(Kind::Ended, device, at);
    }

    /// A message was handed to the server: each try of it.
    pub fn on_sent(&mut self, device: Device, room: Room, client_id: &[u8], body: &[u8], at: Instant) {
        let sender = self.name_of(device);
        let print = print(sender, body);
        self.about_message(Kind::Sent, device, room, client_id, Place { seq: 0, print }, at);
    }

    /// The server said that it is stored.
    pub fn on_receipt(&mut self, device: Device, room: Room, client_id: &[u8], seq: u64, at: Instant) {
        self.about_message(Kind::Receipt, device, room, client_id, Place { seq, print: 0 }, at);
    }

    /// A try was refused. One that may have been done all the same stays open.
    pub fn on_refusal(
        &mut self,
        device: Device,
        room: Room,
        client_id: &[u8],
        refusal: &wire::Refusal,
        at: Instant,
    ) {
        if !refusal.maybe_applied {
            self.about_message(Kind::Refused, device, room, client_id, Place { seq: 0, print: 0 }, at);
        }
    }

    /// A message came by itself.
    pub fn on_delivery(&mut self, device: Device, message: &wire::Message, at: Instant) {
        self.received(Kind::Delivered, device, message, at);
    }

    /// A message came because it was asked for.
    pub fn on_fetched(&mut self, device: Device, message: &wire::Message, at: Instant) {
        self.received(Kind::Fetched, device, message, at);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether something is missing because the record was full.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Takes over another one. Each phone belongs to one of them.
    pub fn merge(&mut self, other: Self) {
        let later = other.began.saturating_duration_since(self.began);
        let earlier = self.began.saturating_duration_since(other.began);
        let users: Vec<u32> = other.users.iter().map(|user| self.user(user)).collect();
        let of = |numbers: &[u32], n: u32| numbers.get(n as usize).copied().unwrap_or(u32::MAX);
        let mut rooms = Vec::with_capacity(other.rooms.len());
        for facts in &other.rooms {
            let room = self.room_number(&facts.id);
            if let Some(own) = self.rooms.get_mut(room as usize) {
                own.members.extend(facts.members.iter().map(|user| of(&users, *user)));
            }
            rooms.push(room);
        }
        let first_device = number(self.devices.len());
        self.devices.extend(other.devices.iter().map(|user| of(&users, *user)));
        for mut chunk in other.chunks {
            for entry in &mut chunk {
                entry.device += first_device;
                entry.room = of(&rooms, entry.room);
                entry.at_ms = entry.at_ms.saturating_add(millis(later)).saturating_sub(millis(earlier));
            }
            let left = self.entries_max.saturating_sub(self.len);
            self.cut |= chunk.len() > left;
            chunk.truncate(left);
            self.len += chunk.len();
            self.chunks.push(chunk);
        }
        self.cut |= other.cut;
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flatten()
    }

    pub(super) fn name_of(&self, device: Device) -> &str {
        self.user_of(device.0).and_then(|user| self.users.get(user as usize)).map_or("", String::as_str)
    }

    pub(super) fn user_of(&self, device: u32) -> Option<u32> {
        self.devices.get(device as usize).copied()
    }

    pub(super) fn number_of_user(&self, name: &str) -> Option<u32> {
        self.user_numbers.get(name).copied()
    }

    pub(super) fn number_of_room(&self, id: &[u8]) -> Option<u32> {
        self.room_numbers.get(id).copied()
    }

    fn received(&mut self, kind: Kind, device: Device, message: &wire::Message, at: Instant) {
        let print = print_of(message);
        let room = Room(self.room_number(&message.room));
        self.about_message(kind, device, room, &message.client_id, Place { seq: message.seq, print }, at);
    }

    fn about_message(
        &mut self,
        kind: Kind,
        device: Device,
        room: Room,
        client_id: &[u8],
        place: Place,
        at: Instant,
    ) {
        let at_ms = millis(at.saturating_duration_since(self.began));
        let Place { seq, print } = place;
        let client_id = client_key(client_id);
        self.push(Entry { kind, device: device.0, room: room.0, at_ms, seq, client_id, print });
    }

    fn about_session(&mut self, kind: Kind, device: Device, at: Instant) {
        self.about_message(kind, device, Room(0), &[], Place { seq: 0, print: 0 }, at);
    }

    fn push(&mut self, entry: Entry) {
        if self.len >= self.entries_max {
            self.cut = true;
            return;
        }
        self.len += 1;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
    }

    fn user(&mut self, name: &str) -> u32 {
        if let Some(user) = self.user_numbers.get(name) {
            return *user;
        }
        let user = number(self.users.len());
        self.users.push(name.to_owned());
        self.user_numbers.insert(name.to_owned(), user);
        user
    }

    fn room_number(&mut self, id: &[u8]) -> u32 {
        if let Some(room) = self.room_numbers.get(id) {
            return *room;
        }
        let room = number(self.rooms.len());
        self.rooms.push(RoomFacts { id: id.to_vec(), members: Vec::new() });
        self.room_numbers.insert(id.to_vec(), room);
        room
    }
}

/// Where a message is, and what it is.
struct Place {
    seq: u64,
    print: Print,
}

/// Of a message that the server shows.
pub(super) fn print_of(message: &wire::Message) -> Print {
    match &message.content {
        Some(message::Content::Body(body)) => print(&message.sender, body),
        Some(message::Content::Membership(_)) => CHANGE,
        None => print(&message.sender, &[]),
    }
}

/// Never that of a change.
fn print(sender: &str, body: &[u8]) -> Print {
    let mut hasher = DefaultHasher::new();
    (sender, body).hash(&mut hasher);
    hasher.finish().max(CHANGE + 1)
}

/// One that is not 16 bytes long is nobody's.
pub(super) fn client_key(client_id: &[u8]) -> ClientKey {
    client_id.try_into().unwrap_or_default()
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 48, "{}", size_of::<Entry>());
    }

    #[test]
    fn a_full_record_says_so() {
        let now = Instant::now();
        let mut record = Record::bounded(now, 2);
        let device = record.device("a");
        let room = record.room(&[1; 16], ["a", "b"]);
        for n in 0..2 {
            record.on_sent(device, room, &[n; 16], b"x", now);
        }
        assert!(!record.is_cut());
        record.on_sent(device, room, &[2; 16], b"x", now);
        assert!(record.is_cut() && record.len() == 2);
    }

    #[test]
    fn merged_records_agree_about_users_and_rooms() {
        let now = Instant::now();
        let mut one = Record::new(now);
        let (a, room) = (one.device("a"), one.room(&[1; 16], ["a", "b"]));
        one.on_sent(a, room, &[7; 16], b"x", now);
        let mut other = Record::new(now + Duration::from_secs(1));
        let (b, other_room) = (other.device("b"), other.room(&[2; 16], ["b", "c"]));
        let shared = other.room(&[1; 16], []);
        other.on_sent(b, other_room, &[8; 16], b"y", now + Duration::from_secs(3));
        other.on_receipt(b, shared, &[9; 16], 4, now + Duration::from_secs(3));
        one.merge(other);
        let entries: Vec<_> =
            one.entries().map(|e| (one.name_of(Device(e.device)), e.room, e.at_ms)).collect();
        assert_eq!(entries, [("a", 0, 0), ("b", 1, 3_000), ("b", 0, 3_000)]);
        assert_eq!(one.users, ["a", "b", "c"]);
    }
}
