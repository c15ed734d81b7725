//! What will happen when: a heap of things to come, in the order of time and then of being written down.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use buslane_shared::Nanos;

use super::job::{JobId, Shows};

/// Something to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A worker is done with this job.
    Done(JobId),
    /// The client of this call tries again.
    Attempt(u32, Shows),
}

#[derive(Debug)]
struct Entry {
    at: Nanos,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest: it is what the heap gives first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// All that is to come.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Entry>,
    written: u64,
}

impl Agenda {
    /// Writes something down.
    pub fn add(&mut self, at: Nanos, event: Event) {
        self.written += 1;
        self.heap.push(Entry { at, number: self.written, event });
    }

    /// When the next is due.
    pub fn due(&self) -> Option<Nanos> {
        self.heap.peek().map(|e| e.at)
    }

    /// The next.
    pub fn take(&mut self) -> Option<Event> {
        self.heap.pop().map(|e| e.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_equals_in_their_order() {
        let mut agenda = Agenda::default();
        for (at, id) in [(5, 1), (3, 2), (5, 3), (3, 4), (4, 5)] {
            agenda.add(at, Event::Done(JobId(id)));
        }
        assert_eq!(agenda.due(), Some(3));
        let order: Vec<_> = std::iter::from_fn(|| agenda.take()).collect();
        assert_eq!(order, [2, 4, 5, 1, 3].map(|id| Event::Done(JobId(id))));
    }
}
