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

/// What is due within this time of each other is sorted only when its time comes: the heap stays small, and quick.
const BUCKET: Nanos = 10_000_000;

/// All that is to come.
#[derive(Debug, Default)]
pub struct Agenda {
    /// What is due in the current bucket or before.
    heap: BinaryHeap<Entry>,
    later: Vec<Vec<Entry>>,
    current: usize,
    written: u64,
}

impl Agenda {
    /// What is due up to then is kept; what would come later never happens.
    pub fn until(horizon: Nanos) -> Self {
        let mut later = Vec::new();
        later.resize_with(bucket(horizon) + 1, Vec::new);
        Self { later, ..Self::default() }
    }

    /// Writes something down.
    pub fn add(&mut self, at: Nanos, event: Event) {
        self.written += 1;
        let entry = Entry { at, number: self.written, event };
        if bucket(at) <= self.current {
            self.heap.push(entry);
        } else if let Some(bucket) = self.later.get_mut(bucket(at)) {
            bucket.push(entry);
        }
    }

    /// When the next is due, if before `limit`.
    pub fn due(&mut self, limit: Nanos) -> Option<Nanos> {
        let last = bucket(limit).min(self.later.len());
        while self.heap.is_empty() && self.current < last {
            self.current += 1;
            self.heap.extend(self.later.get_mut(self.current).map(std::mem::take).unwrap_or_default());
        }
        self.heap.peek().map(|e| e.at).filter(|at| *at < limit)
    }

    /// The next.
    pub fn take(&mut self) -> Option<Event> {
        self.heap.pop().map(|e| e.event)
    }
}

fn bucket(at: Nanos) -> usize {
    (at / BUCKET) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_equals_in_their_order() {
        let mut agenda = Agenda::until(10 * BUCKET);
        for (at, id) in [(5, 1), (3, 2), (5, 3), (3, 4), (4 + 3 * BUCKET, 5), (4, 6), (11 * BUCKET, 7)] {
            agenda.add(at, Event::Done(JobId(id)));
        }
        assert_eq!(agenda.due(3), None);
        assert_eq!(agenda.due(Nanos::MAX), Some(3));
        let next = || agenda.due(Nanos::MAX).and_then(|_| agenda.take());
        let order: Vec<_> = std::iter::from_fn(next).collect();
        assert_eq!(order, [2, 4, 6, 1, 3, 5].map(|id| Event::Done(JobId(id))), "the last is beyond the end");
    }

    #[test]
    fn what_is_written_down_late_is_not_lost() {
        let mut agenda = Agenda::until(10 * BUCKET);
        agenda.add(5 * BUCKET, Event::Done(JobId(1)));
        assert_eq!(agenda.due(6 * BUCKET), Some(5 * BUCKET));
        agenda.add(5 * BUCKET - 1, Event::Done(JobId(2)));
        agenda.add(5 * BUCKET + 1, Event::Done(JobId(3)));
        let next = || agenda.due(Nanos::MAX).and_then(|_| agenda.take());
        assert_eq!(std::iter::from_fn(next).collect::<Vec<_>>(), [2, 1, 3].map(|id| Event::Done(JobId(id))));
    }
}
