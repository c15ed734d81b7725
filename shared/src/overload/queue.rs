//! The jobs that wait for a seat, of all lanes, in the order in which they came.
//!
//! One store for all of them, with a list for each class and protocol: a protocol that is at its cap must not stand in
//! front of the others of its class, and a request that nobody wants any more must leave from the middle. Whatever is done
//! costs the same however many wait (deadlines: their logarithm), and a store that has been as full before allocates nothing.
//!
//! It keeps order and counts, and decides nothing: how much may wait, and who is next, is decided in [`super::lanes`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::Nanos;
use crate::class::{CLASSES, Class, PROTOCOLS, Protocol};
use crate::overload::lanes::{Job, JobKey};

/// One bit for each protocol.
pub type Protocols = u16;

/// All of them.
pub const ANY: Protocols = Protocols::MAX;

/// The bit of a protocol.
pub fn bit(protocol: Protocol) -> Protocols {
    1 << protocol.index()
}

/// Deadlines of jobs that are gone are thrown out when there are this many more of them than of others.
const GONE_MAX: usize = 64;

/// Order of a place that is empty.
const NOBODY: u64 = u64::MAX;

/// Where a job is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32);

/// A job that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The job.
    pub job: Job,
    /// Since when.
    pub since: Nanos,
    /// Its number among all that ever waited.
    pub order: u64,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    waiting: Waiting,
    older: Option<Place>,
    newer: Option<Place>,
}

/// The jobs of one class and protocol.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    oldest: Option<Place>,
    newest: Option<Place>,
    len: u32,
}

/// What waits in one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Jobs.
    pub count: u32,
    /// Bytes that they hold.
    pub bytes: u64,
    /// Protocols that they are of.
    pub protocols: Protocols,
}

/// All that wait.
#[derive(Debug, Default)]
pub struct Queue {
    nodes: Vec<Node>,
    empty: Vec<Place>,
    places: HashMap<(JobKey, Class), Place>,
    flows: [[Flow; PROTOCOLS]; CLASSES],
    totals: [Total; CLASSES],
    deadlines: BinaryHeap<Reverse<(Nanos, u64, Place)>>,
    next_order: u64,
}

impl Queue {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// What waits in a class.
    pub fn total(&self, class: Class) -> Total {
        self.totals.get(class.index()).copied().unwrap_or_default()
    }

    /// How many of a class and protocol wait.
    pub fn count(&self, class: Class, protocol: Protocol) -> u32 {
        self.flow(class, protocol.index()).len
    }

    /// Where this one waits.
    pub fn find(&self, key: JobKey, class: Class) -> Option<Place> {
        self.places.get(&(key, class)).copied()
    }

    /// The job kept here.
    pub fn get(&self, place: Place) -> Option<Waiting> {
        self.node(place).map(|n| n.waiting)
    }

    /// The job of these protocols that has waited longest.
    pub fn oldest(&self, class: Class, protocols: Protocols) -> Option<(Place, Waiting)> {
        let ends = self.ends(class, protocols, |flow| flow.oldest);
        ends.min_by_key(|(_, waiting)| waiting.order)
    }

    /// The job of these protocols that came last.
    pub fn newest(&self, class: Class, protocols: Protocols) -> Option<(Place, Waiting)> {
        let ends = self.ends(class, protocols, |flow| flow.newest);
        ends.max_by_key(|(_, waiting)| waiting.order)
    }

    /// The job whose deadline is next.
    pub fn first_due(&self) -> Option<(Place, Nanos)> {
        self.deadlines.peek().map(|Reverse((at, _, place))| (*place, *at))
    }

    /// Lets a job wait. The caller has made sure that its key does not wait in its class already.
    pub fn push(&mut self, job: Job, now: Nanos) {
        let order = self.next_order;
        self.next_order += 1;
        let older = self.flow(job.class, job.protocol.index()).newest;
        let place = self.keep(Node { waiting: Waiting { job, since: now, order }, older, newer: None });
        if let Some(node) = older.and_then(|p| self.node_mut(p)) {
            node.newer = Some(place);
        }
        if let Some(flow) = self.flow_mut(job.class, job.protocol) {
            flow.oldest.get_or_insert(place);
            flow.newest = Some(place);
            flow.len += 1;
        }
        if let Some(total) = self.totals.get_mut(job.class.index()) {
            total.count += 1;
            total.bytes += u64::from(job.bytes);
            total.protocols |= bit(job.protocol);
        }
        self.places.insert((job.key, job.class), place);
        self.deadlines.push(Reverse((job.deadline, order, place)));
    }

    /// Takes the job kept here out.
    pub fn remove(&mut self, place: Place) -> Option<Waiting> {
        let Node { waiting, older, newer } = *self.node(place)?;
        let job = waiting.job;
        if let Some(node) = older.and_then(|p| self.node_mut(p)) {
            node.newer = newer;
        }
        if let Some(node) = newer.and_then(|p| self.node_mut(p)) {
            node.older = older;
        }
        let flow = self.flow_mut(job.class, job.protocol)?;
        flow.len = flow.len.saturating_sub(1);
        flow.oldest = if flow.oldest == Some(place) { newer } else { flow.oldest };
        flow.newest = if flow.newest == Some(place) { older } else { flow.newest };
        let was_last = flow.len == 0;
        if let Some(total) = self.totals.get_mut(job.class.index()) {
            total.count = total.count.saturating_sub(1);
            total.bytes = total.bytes.saturating_sub(u64::from(job.bytes));
            total.protocols &= if was_last { !bit(job.protocol) } else { ANY };
        }
        if let Some(node) = self.node_mut(place) {
            node.waiting.order = NOBODY;
        }
        self.empty.push(place);
        self.places.remove(&(job.key, job.class));
        self.forget_deadlines();
        Some(waiting)
    }

    fn keep(&mut self, node: Node) -> Place {
        if let Some(place) = self.empty.pop() {
            if let Some(kept) = self.nodes.get_mut(place.0 as usize) {
                *kept = node;
            }
            return place;
        }
        // Far fewer than 2^32 wait: the lanes bound them.
        let place = Place(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        place
    }

    /// Deadlines of jobs that are gone leave when they are the next, or when there are too many of them.
    fn forget_deadlines(&mut self) {
        let nodes = &self.nodes;
        let waits = |(_, order, place): &(Nanos, u64, Place)| {
            nodes.get(place.0 as usize).is_some_and(|n| n.waiting.order == *order)
        };
        while self.deadlines.peek().is_some_and(|Reverse(due)| !waits(due)) {
            self.deadlines.pop();
        }
        if self.deadlines.len() > 2 * self.places.len() + GONE_MAX {
            self.deadlines.retain(|Reverse(due)| waits(due));
        }
    }

    fn ends(
        &self,
        class: Class,
        protocols: Protocols,
        end: impl Fn(Flow) -> Option<Place>,
    ) -> impl Iterator<Item = (Place, Waiting)> {
        let ends =
            bits(protocols & self.total(class).protocols).filter_map(move |p| end(self.flow(class, p)));
        ends.filter_map(|place| Some((place, self.get(place)?)))
    }

    fn node(&self, place: Place) -> Option<&Node> {
        self.nodes.get(place.0 as usize).filter(|n| n.waiting.order != NOBODY)
    }

    fn node_mut(&mut self, place: Place) -> Option<&mut Node> {
        self.nodes.get_mut(place.0 as usize)
    }

    fn flow(&self, class: Class, protocol: usize) -> Flow {
        self.flows.get(class.index()).and_then(|f| f.get(protocol)).copied().unwrap_or_default()
    }

    fn flow_mut(&mut self, class: Class, protocol: Protocol) -> Option<&mut Flow> {
        self.flows.get_mut(class.index())?.get_mut(protocol.index())
    }
}

/// The places of the bits that are set.
fn bits(mut set: Protocols) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let next = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        next
    })
}

#[cfg(test)]
mod tests;
