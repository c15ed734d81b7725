//! The mailbox of one session: the events that its device was not yet told, or has not yet taken over.
//!
//! Why it exists: a delivery is a hint with content, and the log is the truth. So a mailbox may lose events, but it must
//! say so: a device that is too slow finds one [`Behind`](wire::Behind) in place of what was dropped, and a connection that is lost is
//! continued only when nothing is missing. It must never hold more than its bounds, whoever reads slowly.
//!
//! Events get their number when they are handed out, so the numbers that a device sees are dense whatever was dropped.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::wire;

/// Events of one mailbox: what a busy group sends while a phone changes its network.
pub const EVENTS_MAX: usize = 256;

/// Bytes of one mailbox: a thousand slow devices in the same busy rooms stay under 256 MiB. One event may be larger than
/// what is left of this, never than this.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// Slots that an empty mailbox keeps: a conversation does not allocate, an idle session costs next to nothing.
const SLOTS_KEPT: usize = 4;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be handed out.
    Kept,
    /// There was no room: it and all that waited were dropped, and one `Behind` waits in their place.
    FellBehind,
}

/// Why a connection cannot be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeGap {
    /// Events after the last one that the client took over are gone.
    #[error("events after the last one seen are no longer kept")]
    Dropped,
    /// The client names an event that it was never sent.
    #[error("an event is named as seen that was never sent")]
    NeverSent,
}

/// The events of one session in order: first those handed out but not yet taken over, then those that wait.
///
/// An event is an encoded [`wire::Event`] without its number, shared by all who receive it.
#[derive(Debug)]
pub struct Mailbox {
    events: VecDeque<Bytes>,
    /// Number of the first of `events`; every lower number is gone.
    first_no: u64,
    /// How many of `events` were handed out on the present connection.
    sent: usize,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::bounded(EVENTS_MAX, EVENT_BYTES_MAX)
    }
}

impl Mailbox {
    /// An empty mailbox with bounds of its own; at least one event fits.
    pub fn bounded(events_max: usize, bytes_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
            first_no: 1,
            sent: 0,
            bytes: 0,
            events_max: events_max.max(1),
            bytes_max,
        }
    }

    /// Adds an event. Where room is short, the copies kept only for a lost connection go first; when that is not enough,
    /// the device is behind.
    pub fn push(&mut self, event: Bytes) -> Pushed {
        while self.is_full_for(event.len()) && self.sent > 0 {
            self.forget_first();
        }
        if self.is_full_for(event.len()) {
            self.fall_behind();
            return Pushed::FellBehind;
        }
        self.bytes += event.len();
        self.events.push_back(event);
        Pushed::Kept
    }

    /// Drops all that waits and leaves one `Behind` in its place.
    pub fn fall_behind(&mut self) {
        while self.events.len() > self.sent {
            self.bytes -= self.events.pop_back().map_or(0, |e| e.len());
        }
        let behind = behind_event();
        while self.is_full_for(behind.len()) && self.sent > 0 {
            self.forget_first();
        }
        self.bytes += behind.len();
        self.events.push_back(behind);
    }

    /// Hands out the next event with its number.
    pub fn next_unsent(&mut self) -> Option<(u64, Bytes)> {
        let event = self.events.get(self.sent)?.clone();
        let no = self.first_no + self.sent as u64;
        self.sent += 1;
        Some((no, event))
    }

    /// True when there is something to hand out.
    pub fn has_unsent(&self) -> bool {
        self.events.len() > self.sent
    }

    /// The client has taken over every event up to `upto`. A number that was never sent, or an old one, changes nothing.
    pub fn on_seen(&mut self, upto: u64) {
        let sent_before = self.first_no + self.sent as u64;
        if upto < sent_before {
            while self.first_no <= upto {
                self.forget_first();
            }
        }
        if self.events.is_empty() {
            self.events.shrink_to(SLOTS_KEPT);
        }
    }

    /// Continues on a new connection of a client that has taken over every event up to `seen`: all later ones are handed
    /// out again.
    pub fn resume(&mut self, seen: u64) -> Result<(), ResumeGap> {
        if seen >= self.first_no + self.sent as u64 {
            return Err(ResumeGap::NeverSent);
        }
        if seen + 1 < self.first_no {
            return Err(ResumeGap::Dropped);
        }
        self.on_seen(seen);
        self.sent = 0;
        Ok(())
    }

    /// Events held.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of the events held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_full_for(&self, len: usize) -> bool {
        self.events.len() >= self.events_max || self.bytes + len > self.bytes_max
    }

    fn forget_first(&mut self) {
        self.bytes -= self.events.pop_front().map_or(0, |e| e.len());
        self.first_no += 1;
        self.sent = self.sent.saturating_sub(1);
    }
}

fn behind_event() -> Bytes {
    let kind = Some(wire::event::Kind::Behind(wire::Behind {}));
    wire::Event { no: 0, kind }.encode_to_vec().into()
}

/// Field 4 (`event`) of a `ServerFrame`, length-delimited.
const EVENT_KEY: u8 = 4 << 3 | 2;
/// Field 1 (`no`) of an `Event`, a varint.
const NO_KEY: u8 = 1 << 3;

/// Appends one frame with a server's event. `event` is encoded already and is copied, never decoded: the fields of a
/// protobuf message may come in any order, so its number is put in front.
pub fn encode_event(no: u64, event: &[u8], out: &mut BytesMut) {
    let event_len = 1 + encoded_len_varint(no) + event.len();
    let frame_len = 1 + encoded_len_varint(event_len as u64) + event_len;
    out.reserve(crate::frame::PREFIX_BYTES + frame_len);
    out.put_u32(frame_len as u32);
    out.put_u8(EVENT_KEY);
    encode_varint(event_len as u64, out);
    out.put_u8(NO_KEY);
    encode_varint(no, out);
    out.put_slice(event);
}

#[cfg(test)]
#[path = "mailbox/tests.rs"]
mod tests;
