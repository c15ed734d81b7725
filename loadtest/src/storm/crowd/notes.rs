//! What all members of a crowd write down together. One thread, so nothing waits for anything.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use crate::storm::tally::{Outcome, Stream, Tally};

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notes(Rc<RefCell<Book>>);

/// What was noted.
#[derive(Debug, Default)]
pub struct Book {
    /// Counts and latencies; `None` before the run has begun.
    pub tally: Option<Tally>,
    /// What was sent, answered and received; `None` before the run has begun.
    pub ledger: Option<Ledger>,
    /// Sessions that the server ended without being stopped itself, by what it said.
    pub closed_because: BTreeMap<&'static str, u64>,
    /// Sessions that ended because a node was being stopped.
    pub drained: u64,
    /// Sessions that broke without a word from the server.
    pub broken: BTreeMap<&'static str, u64>,
    /// Messages with a receipt, each counted once.
    pub stored: u64,
    /// Messages of neighbours that arrived, each counted once.
    pub received: u64,
    /// Things, or tries of them, that have ended.
    pub ended: u64,
    /// Connections that the plan has taken away.
    pub drops: Vec<Dropped>,
}

/// Clients that lost their connection at once.
#[derive(Debug, Clone)]
pub struct Dropped {
    at: Instant,
    clients: u64,
    outside: u64,
    /// How long each took who is back, in this order.
    back: Vec<Duration>,
}

impl Dropped {
    /// How many they were.
    pub fn clients(&self) -> u64 {
        self.clients
    }

    /// How long it took until the last of them was back; `None`: somebody is not, or there was nobody.
    pub fn all_back(&self) -> Option<Duration> {
        self.back.last().copied().filter(|_| self.outside == 0)
    }

    /// How long each took who is back, the first one first.
    pub fn back(&self) -> &[Duration] {
        &self.back
    }
}

impl Notes {
    /// The run begins.
    pub fn begin(&self, tally: Tally, ledger: Ledger) {
        let mut book = self.0.borrow_mut();
        (book.tally, book.ledger) = (Some(tally), Some(ledger));
    }

    /// Something belongs into the record.
    pub fn record(&self, write: impl FnOnce(&mut Ledger)) {
        if let Some(ledger) = &mut self.0.borrow_mut().ledger {
            write(ledger);
        }
    }

    /// Something was due.
    pub fn on_offered(&self, stream: Stream, due: Instant) {
        if let Some(tally) = &mut self.0.borrow_mut().tally {
            tally.on_offered(stream, due);
        }
    }

    /// Something, or a try of it, has ended.
    pub fn on_outcome(&self, stream: Stream, due: Instant, outcome: Outcome) {
        let mut book = self.0.borrow_mut();
        book.ended += 1;
        if let Some(tally) = &mut book.tally {
            tally.on_outcome(stream, due, Instant::now(), outcome);
        }
    }

    /// A receipt came.
    pub fn on_stored(&self) {
        self.0.borrow_mut().stored += 1;
    }

    /// A neighbour's message came for the first time.
    pub fn on_received(&self) {
        self.0.borrow_mut().received += 1;
    }

    /// Answers, refusals and messages that have come until now.
    pub fn arrived(&self) -> u64 {
        let book = self.0.borrow();
        book.ended + book.stored + book.received
    }

    /// Connections are about to be taken away. The number of this drop.
    pub fn begin_drop(&self, at: Instant) -> usize {
        let drops = &mut self.0.borrow_mut().drops;
        drops.push(Dropped { at, clients: 0, outside: 0, back: Vec::new() });
        drops.len() - 1
    }

    /// One was.
    pub fn on_dropped(&self, drop: usize) {
        if let Some(drop) = self.0.borrow_mut().drops.get_mut(drop) {
            drop.clients += 1;
            drop.outside += 1;
        }
    }

    /// One of them is back.
    pub fn on_back(&self, drop: usize, now: Instant) {
        if let Some(drop) = self.0.borrow_mut().drops.get_mut(drop) {
            drop.outside = drop.outside.saturating_sub(1);
            drop.back.push(now.saturating_duration_since(drop.at));
        }
    }

    /// The server ended a session.
    pub fn on_closed(&self, why: &'static str) {
        *self.0.borrow_mut().closed_because.entry(why).or_default() += 1;
    }

    /// A session ended because its node was being stopped.
    pub fn on_drained(&self) {
        self.0.borrow_mut().drained += 1;
    }

    /// A session broke.
    pub fn on_broken(&self, why: &'static str) {
        *self.0.borrow_mut().broken.entry(why).or_default() += 1;
    }

    /// Everything, at the end.
    pub fn take(&self) -> Book {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_back_when_the_last_one_is() {
        let (notes, now) = (Notes::default(), Instant::now());
        let drop = notes.begin_drop(now);
        let all_back = || notes.0.borrow().drops[drop].all_back();
        assert_eq!(all_back(), None);
        (0..2).for_each(|_| notes.on_dropped(drop));
        notes.on_back(drop, now + Duration::from_secs(1));
        assert_eq!(all_back(), None);
        notes.on_back(drop, now + Duration::from_secs(3));
        assert_eq!(all_back(), Some(Duration::from_secs(3)));
        assert_eq!(notes.take().drops[drop].clients(), 2);
    }
}
