//! The entries of a record by room, each with the session in which it happened.
//!
//! It exists because what may be expected of a phone depends on its session: after a new one, or after the server said that it
//! dropped events, what came in between has to be fetched; while it lasts, nothing may be missing.

use std::collections::HashMap;

use super::record::{Entry, Kind, Record};

/// A new session gets deliveries when the session manager has told the backend of it: until then, or until its first
/// delivery, nothing is expected of it.
const SETTLING_MS: u32 = 5_000;

/// In place of a span: a phone of which no session was recorded. Nothing is expected of it.
pub const NO_SPAN: u32 = u32::MAX;

/// Something that happened in a room.
#[derive(Debug, Clone, Copy)]
pub struct Happening<'a> {
    pub entry: &'a Entry,
    /// One session, across its resumed connections.
    pub session: u32,
    /// One connection.
    pub leg: u32,
    /// A part of a session in which no delivery is missing.
    pub span: u32,
}

/// A part of a session in which no delivery is missing.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub start_ms: u32,
    /// From here on everything that is sent must come.
    pub settled_ms: u32,
    /// It lasted to the end of the run, and what was on its way has had its time.
    pub ended: bool,
}

/// A record, read once.
#[derive(Debug)]
pub struct Timeline<'a> {
    /// In the order of each phone; by number of the room.
    pub rooms: Vec<Vec<Happening<'a>>>,
    pub spans: Vec<Span>,
    /// By number of the device, in their order. The last one is the one at the end.
    pub spans_of: HashMap<u32, Vec<u32>>,
    /// By number of the user.
    pub devices_of: HashMap<u32, Vec<u32>>,
}

/// Where a phone is while the record is read.
#[derive(Debug, Clone, Copy)]
struct Now {
    session: u32,
    leg: u32,
    span: u32,
}

impl<'a> Timeline<'a> {
    pub fn of(record: &'a Record) -> Self {
        let mut timeline = Self {
            rooms: vec![Vec::new(); record.rooms.len()],
            spans: Vec::new(),
            spans_of: HashMap::new(),
            devices_of: HashMap::new(),
        };
        let (mut now, mut count) = (HashMap::new(), 0);
        for entry in record.entries() {
            timeline.read(entry, &mut now, &mut count);
        }
        for (device, user) in (0..).zip(&record.devices) {
            timeline.devices_of.entry(*user).or_default().push(device);
        }
        timeline
    }

    fn read(&mut self, entry: &'a Entry, now: &mut HashMap<u32, Now>, count: &mut u32) {
        let mut next = || {
            *count += 1;
            *count
        };
        let at_ms = entry.at_ms;
        let known = now.get(&entry.device).copied();
        let here = known.unwrap_or(Now { session: next(), leg: next(), span: NO_SPAN });
        let here = match entry.kind {
            Kind::Opened => {
                let settled_ms = if at_ms == 0 { 0 } else { at_ms.saturating_add(SETTLING_MS) };
                let span = self.begin_span(entry, settled_ms);
                Now { session: next(), leg: next(), span }
            }
            Kind::Resumed => Now { leg: next(), ..here },
            Kind::Behind => Now { span: self.begin_span(entry, at_ms), ..here },
            Kind::Ended => {
                if let Some(span) = self.spans.get_mut(here.span as usize) {
                    span.ended = true;
                }
                here
            }
            Kind::Sent | Kind::Receipt | Kind::Refused | Kind::Delivered | Kind::Fetched => {
                self.on_message(entry, here);
                here
            }
        };
        now.insert(entry.device, here);
    }

    fn on_message(&mut self, entry: &'a Entry, here: Now) {
        let Now { session, leg, span } = here;
        if entry.kind == Kind::Delivered
            && let Some(span) = self.spans.get_mut(span as usize)
        {
            span.settled_ms = span.settled_ms.min(entry.at_ms);
        }
        if let Some(room) = self.rooms.get_mut(entry.room as usize) {
            room.push(Happening { entry, session, leg, span });
        }
    }

    fn begin_span(&mut self, entry: &Entry, settled_ms: u32) -> u32 {
        let span = u32::try_from(self.spans.len()).unwrap_or(u32::MAX);
        self.spans.push(Span { start_ms: entry.at_ms, settled_ms, ended: false });
        self.spans_of.entry(entry.device).or_default().push(span);
        span
    }

    /// The part of a session of this phone in which a moment lies, and whether it is the last one.
    pub fn span_at(&self, device: u32, at_ms: u32) -> Option<(u32, Span)> {
        let spans = self.spans_of.get(&device)?;
        let behind = spans.partition_point(|span| self.start_ms(*span) <= at_ms);
        let number = *spans.get(behind.checked_sub(1)?)?;
        Some((number, *self.spans.get(number as usize)?))
    }

    fn start_ms(&self, span: u32) -> u32 {
        self.spans.get(span as usize).map_or(u32::MAX, |span| span.start_ms)
    }
}
