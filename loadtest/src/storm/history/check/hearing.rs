//! What one phone has heard of one room.

use std::collections::HashMap;

use crate::storm::history::record::Kind;
use crate::storm::history::timeline::{Happening, NO_SPAN, Timeline};

/// What one phone has heard of one room.
#[derive(Debug, Default)]
pub struct Hearing {
    /// Each sequence, with the connection on which it came last; `None`: it was asked for.
    got: HashMap<u64, Option<u32>>,
    /// Session and highest sequence of what came last by itself.
    last: (u32, u64),
    /// Lowest and highest sequence that came by itself, by the part of a session.
    by_span: HashMap<u32, (u64, u64)>,
}

/// How something that came relates to what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// As it should.
    New,
    /// Again, after the connection was lost: allowed.
    Repeated,
    /// Again on one connection.
    Twice,
    /// Behind this one, which came earlier in the same session.
    Behind(u64),
}

impl Hearing {
    /// Something came.
    pub fn on_heard(&mut self, happening: &Happening<'_>) -> Heard {
        let seq = happening.entry.seq;
        if happening.entry.kind == Kind::Fetched {
            self.got.entry(seq).or_insert(None);
            return Heard::New;
        }
        let before = self.got.insert(seq, Some(happening.leg));
        // What comes again says nothing about what came beside it.
        if before.flatten().is_none() {
            let (low, high) = self.by_span.entry(happening.span).or_insert((seq, seq));
            (*low, *high) = (seq.min(*low), seq.max(*high));
        }
        let (session, last) = self.last;
        let goes_on = session == happening.session;
        self.last = (happening.session, if goes_on { seq.max(last) } else { seq });
        match before {
            Some(Some(leg)) if leg == happening.leg => Heard::Twice,
            Some(Some(_)) => Heard::Repeated,
            Some(None) | None if goes_on && seq < last => Heard::Behind(last),
            Some(None) | None => Heard::New,
        }
    }

    /// Whether it came at all.
    pub fn has(&self, seq: u64) -> bool {
        self.got.contains_key(&seq)
    }

    /// Whether this phone must have a message of somebody else, sent at this moment and stored under this sequence.
    pub fn must_have(&self, timeline: &Timeline<'_>, device: u32, seq: u64, sent_ms: u32) -> bool {
        // What came around it came in one piece, if that session is known.
        let is_around = |(low, high): &(u64, u64)| *low < seq && seq < *high;
        if self.by_span.iter().any(|(span, range)| *span != NO_SPAN && is_around(range)) {
            return true;
        }
        let Some((number, span)) = timeline.span_at(device, sent_ms) else { return false };
        if sent_ms < span.settled_ms {
            return false;
        }
        let later = self.by_span.get(&number).is_some_and(|(_, high)| seq < *high);
        // Only the last part of the last session can have lasted to the end.
        later || span.ended
    }
}
