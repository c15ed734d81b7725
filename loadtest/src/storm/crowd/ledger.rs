//! What the members of a crowd write into the record of the run, by the number of the member.
//!
//! It must never write down what was not so: a member without a number is not written down at all.

use std::time::Instant;

use buslane_shared::wire;
use bytes::Bytes;

use crate::storm::history::{Continuity, Device, Record, Room};

/// Entries of one crowd at most, 48 bytes each: 384 MB. A record that is full says so, and the check covers what is in it.
const ENTRIES_MAX: usize = 8_000_000;

/// A record, and who is who in it.
#[derive(Debug)]
pub struct Ledger {
    record: Record,
    /// By member: neighbours are `2n` and `2n + 1`.
    places: Vec<(Device, Room)>,
}

impl Ledger {
    /// Opened when the run begins: the session of every member is there, and so is the room of each pair.
    pub fn open<'a>(pairs: impl Iterator<Item = ([&'a str; 2], &'a Bytes)>, begin: Instant) -> Self {
        let mut record = Record::bounded(begin, ENTRIES_MAX);
        let mut places = Vec::new();
        for (users, id) in pairs {
            let room = record.room(id, users);
            for user in users {
                let device = record.device(user);
                record.on_session(device, Continuity::Fresh, begin);
                places.push((device, room));
            }
        }
        Self { record, places }
    }

    /// A message was handed to the server: each try of it.
    pub fn on_sent(&mut self, member: usize, client_id: &[u8], body: &[u8]) {
        self.write(member, |record, (device, room), now| record.on_sent(device, room, client_id, body, now));
    }

    /// It is stored.
    pub fn on_receipt(&mut self, member: usize, client_id: &[u8], seq: u64) {
        self.write(member, |record, (device, room), now| {
            record.on_receipt(device, room, client_id, seq, now)
        });
    }

    /// A try was refused.
    pub fn on_refusal(&mut self, member: usize, client_id: &[u8], refusal: &wire::Refusal) {
        self.write(member, |record, (device, room), now| {
            record.on_refusal(device, room, client_id, refusal, now);
        });
    }

    /// A message came by itself.
    pub fn on_delivery(&mut self, member: usize, message: &wire::Message) {
        self.write(member, |record, (device, _), now| record.on_delivery(device, message, now));
    }

    /// A message came because it was asked for.
    pub fn on_fetched(&mut self, member: usize, message: &wire::Message) {
        self.write(member, |record, (device, _), now| record.on_fetched(device, message, now));
    }

    /// The server says that events were dropped.
    pub fn on_behind(&mut self, member: usize) {
        self.write(member, |record, (device, _), now| record.on_behind(device, now));
    }

    /// A session is open again.
    pub fn on_session(&mut self, member: usize, continuity: Continuity) {
        self.write(member, |record, (device, _), now| record.on_session(device, continuity, now));
    }

    /// The run is over while its session is open.
    pub fn on_end(&mut self, member: usize) {
        self.write(member, |record, (device, _), now| record.on_end(device, now));
    }

    /// Everything that was written.
    pub fn into_record(self) -> Record {
        self.record
    }

    fn write(&mut self, member: usize, entry: impl FnOnce(&mut Record, (Device, Room), Instant)) {
        if let Some(place) = self.places.get(member) {
            entry(&mut self.record, *place, Instant::now());
        }
    }
}
