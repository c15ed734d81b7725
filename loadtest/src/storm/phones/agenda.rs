//! What is to be done when: a heap of entries, the earliest first, those of the same moment in the order of their coming.
//!
//! It must never give out an entry before its time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Things with their times.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    next: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    number: u64,
    what: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<T> Agenda<T> {
    /// Something is to be done then.
    pub fn put(&mut self, at: Instant, what: T) {
        self.heap.push(Entry { at, number: self.next, what });
        self.next += 1;
    }

    /// The time of the earliest.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// The earliest, if its time has come; with that time.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, T)> {
        let due = self.next_at().is_some_and(|at| at <= now);
        due.then(|| self.heap.pop()).flatten().map(|entry| (entry.at, entry.what))
    }

    /// Nothing is to be done any more.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// All that is left, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = (Instant, T)> {
        self.heap.drain().map(|entry| (entry.at, entry.what))
    }
}

/// The earliest is the greatest.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_earliest_first_and_never_before_its_time() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut agenda = Agenda::default();
        for (ms, what) in [(30, 'c'), (10, 'a'), (20, 'b'), (10, 'A')] {
            agenda.put(at(ms), what);
        }
        assert_eq!((agenda.next_at(), agenda.pop(at(9))), (Some(at(10)), None));
        assert_eq!(agenda.pop(at(10)), Some((at(10), 'a')));
        assert_eq!(agenda.pop(at(25)), Some((at(10), 'A')));
        assert_eq!(agenda.pop(at(25)), Some((at(20), 'b')));
        assert_eq!((agenda.pop(at(25)), agenda.is_empty()), (None, false));
        assert_eq!(agenda.drain().collect::<Vec<_>>(), [(at(30), 'c')]);
        assert!(agenda.is_empty());
    }
}
