//! The node: workers, what waits for one, and what rejections take from all of them.
//!
//! A worker is a seat. The machine has [`PROCESSORS`] processors and [`SEATS`] seats, so a second of a seat stands for a
//! sixteenth of a second of a processor, and a rejection that takes a microsecond of a processor takes sixteen of a seat.
//! Rejections come first, as packets do on a real machine: while they take a share of the machine, work that is under way
//! takes longer (processor sharing). They never take more than [`RECEIVING_MAX`]: one task reads a socket, and what it does
//! not read in time is lost in the socket's buffer, which costs nothing.

use std::collections::VecDeque;

use buslane_shared::Nanos;

use super::job::JobId;
use super::policy::{Readings, Threads};

/// Processors of the machine.
pub const PROCESSORS: f64 = 2.0;

/// Seats of a node of the usual size.
pub const SEATS: u32 = 32;

/// The most of the machine that reading and rejecting can take.
const RECEIVING_MAX: f64 = 0.5;

/// Over which time the share of rejections is averaged, in ns.
const MEMORY: f64 = 10_000_000.0;

/// What background is left where threads are apart, however much foreground there is.
const LEFT_MIN: f64 = 0.02;

/// Which side of the machine a job is on, where its threads are laid out apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Threads of normal priority: all requests, and logins of people.
    Front,
    /// Threads that get what the others leave: logins of phones that act alone.
    Wake,
}

/// The workers.
#[derive(Debug)]
pub struct Node {
    workers: u32,
    threads: Threads,
    busy: [u32; 2],
    waiting: [VecDeque<JobId>; 2],
    rejecting: [Decaying; 2],
    seats_per_processor: f64,
    accounted: Nanos,
    used: [f64; 2],
}

impl Node {
    /// With this many workers.
    pub fn new(workers: u32, threads: Threads) -> Self {
        Self {
            workers,
            threads,
            busy: [0; 2],
            waiting: Default::default(),
            rejecting: Default::default(),
            seats_per_processor: f64::from(workers) / PROCESSORS,
            accounted: 0,
            used: [0.0; 2],
        }
    }

    /// Jobs that were taken and are not done.
    pub fn in_flight(&self) -> u32 {
        self.busy.iter().sum::<u32>() + self.waiting.iter().map(|w| w.len() as u32).sum::<u32>()
    }

    /// Takes a job; it waits where no worker is free.
    pub fn take(&mut self, side: Side, id: JobId) {
        let [front, wake] = &mut self.waiting;
        match (self.threads, side) {
            (Threads::Shared, _) | (Threads::Apart, Side::Front) => front.push_back(id),
            (Threads::Apart, Side::Wake) => wake.push_back(id),
        }
    }

    /// The next job for which a worker is free. Apart, each side has all workers, and the processors choose between them.
    pub fn next(&mut self) -> Option<JobId> {
        let [front, wake] = self.busy;
        let [waiting, waiting_at_wake] = &mut self.waiting;
        match self.threads {
            Threads::Shared if front + wake < self.workers => waiting.pop_front(),
            Threads::Shared => None,
            Threads::Apart => {
                let next = if front < self.workers { waiting.pop_front() } else { None };
                next.or_else(|| if wake < self.workers { waiting_at_wake.pop_front() } else { None })
            }
        }
    }

    /// A worker begins with work of so much seat time: for how long he is busy.
    pub fn begin(&mut self, side: Side, work: Nanos, now: Nanos) -> Nanos {
        self.account(now);
        if let Some(busy) = self.busy.get_mut(side as usize) {
            *busy += 1;
        }
        (work as f64 * self.stretch(side, now)) as Nanos
    }

    /// A worker is done.
    pub fn end(&mut self, side: Side, now: Nanos) {
        self.account(now);
        if let Some(busy) = self.busy.get_mut(side as usize) {
            *busy = busy.saturating_sub(1);
        }
    }

    /// Something was rejected at this cost of a processor.
    pub fn reject(&mut self, side: Side, cost: Nanos, now: Nanos) {
        let seat_time = cost as f64 * self.seats_per_processor;
        if let Some(rejecting) = self.rejecting.get_mut(side as usize) {
            rejecting.add(seat_time, now);
        }
        if let Some(used) = self.used.get_mut(side as usize) {
            *used += seat_time;
        }
    }

    /// Whether the socket's buffer overflows: a first packet that comes now is lost.
    pub fn is_deaf(&mut self, side: Side, now: Nanos) -> bool {
        let [front, wake] = self.shares_rejecting(now);
        let share = match (self.threads, side) {
            (Threads::Shared, _) => front + wake,
            (Threads::Apart, Side::Front) => front,
            (Threads::Apart, Side::Wake) => wake,
        };
        share >= RECEIVING_MAX
    }

    /// What has happened since the last time.
    pub fn readings(&mut self, now: Nanos, elapsed: Nanos) -> Readings {
        self.account(now);
        let whole = elapsed.max(1) as f64 * f64::from(self.workers);
        let [front, wake] = std::mem::take(&mut self.used).map(|u| u / whole);
        let front = front.min(1.0);
        Readings { front, wake: wake.min(1.0 - front) }
    }

    /// Apart, what both sides want at a time may be more than there is; the front is served first.
    fn account(&mut self, now: Nanos) {
        let elapsed = (now - self.accounted) as f64;
        for (used, busy) in self.used.iter_mut().zip(self.busy) {
            *used += f64::from(busy) * elapsed;
        }
        self.accounted = now;
    }

    /// What rejections take of the machine, on each side.
    fn shares_rejecting(&mut self, now: Nanos) -> [f64; 2] {
        let all = f64::from(self.workers);
        self.rejecting.each_mut().map(|r| (r.rate(now) / all).min(RECEIVING_MAX))
    }

    /// How much longer work takes because rejections take their part.
    fn stretch(&mut self, side: Side, now: Nanos) -> f64 {
        let all = f64::from(self.workers);
        let [front, wake] = self.busy.map(f64::from);
        let [rejects, wake_rejects] = self.shares_rejecting(now);
        let stretch = match (self.threads, side) {
            (Threads::Shared, _) => {
                (front + wake) / (all * (1.0 - (rejects + wake_rejects).min(RECEIVING_MAX)))
            }
            (Threads::Apart, Side::Front) => front / (all * (1.0 - rejects)),
            (Threads::Apart, Side::Wake) => {
                let left = all * (1.0 - rejects - wake_rejects) - front;
                wake / left.max(all * LEFT_MIN)
            }
        };
        stretch.max(1.0)
    }
}

/// A rate that forgets.
#[derive(Debug, Default)]
struct Decaying {
    sum: f64,
    at: Nanos,
}

impl Decaying {
    fn add(&mut self, amount: f64, now: Nanos) {
        self.fade(now);
        self.sum += amount;
    }

    fn rate(&mut self, now: Nanos) -> f64 {
        self.fade(now);
        self.sum / MEMORY
    }

    fn fade(&mut self, now: Nanos) {
        if self.sum > 0.0 && now > self.at {
            self.sum *= (-((now - self.at) as f64) / MEMORY).exp();
        }
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn full(threads: Threads, foreground: u32, background: u32) -> Node {
        let mut node = Node::new(SEATS, threads);
        (0..foreground).for_each(|_| _ = node.begin(Side::Front, MS, 0));
        (0..background).for_each(|_| _ = node.begin(Side::Wake, MS, 0));
        node
    }

    #[test]
    fn what_is_taken_waits_for_a_worker_in_its_order() {
        let mut node = Node::new(1, Threads::Shared);
        node.take(Side::Front, JobId(1));
        node.take(Side::Wake, JobId(2));
        assert_eq!(node.next(), Some(JobId(1)));
        assert_eq!(node.begin(Side::Front, MS, 0), MS);
        assert_eq!((node.next(), node.in_flight()), (None, 2));
        node.end(Side::Front, MS);
        assert_eq!(node.next(), Some(JobId(2)));
    }

    #[test]
    fn with_threads_apart_a_person_never_waits_for_a_phone() {
        let mut node = full(Threads::Apart, 31, 32);
        node.take(Side::Wake, JobId(1));
        node.take(Side::Front, JobId(2));
        assert_eq!((node.next(), node.next()), (Some(JobId(2)), None));
    }

    #[test]
    fn rejections_take_from_work_only_when_the_machine_is_full() {
        for (busy, stretched) in [(4, false), (31, true)] {
            let mut node = full(Threads::Shared, busy, 0);
            // A quarter of the machine, for a while.
            (0..100).for_each(|n| node.reject(Side::Wake, 500_000, n * MS));
            let takes = node.begin(Side::Front, MS, 100 * MS);
            assert_eq!(takes > MS + MS / 4, stretched, "{busy}: {takes}");
        }
    }

    #[test]
    fn with_threads_apart_only_background_pays_for_rejections() {
        let mut node = full(Threads::Apart, 10, 21);
        (0..100).for_each(|n| node.reject(Side::Wake, 500_000, n * MS));
        assert_eq!(node.begin(Side::Front, MS, 100 * MS), MS);
        assert!(node.begin(Side::Wake, MS, 100 * MS) > MS + MS / 4);
    }

    #[test]
    fn receiving_never_takes_more_than_one_of_the_processors() {
        let mut node = full(Threads::Shared, 31, 0);
        assert!(!node.is_deaf(Side::Front, 0));
        (0..200).for_each(|n| node.reject(Side::Wake, 2_000_000, n * MS));
        assert!(node.is_deaf(Side::Front, 200 * MS));
        let takes = node.begin(Side::Front, MS, 200 * MS);
        assert!((2 * MS - 10..=2 * MS).contains(&takes), "{takes}");
        assert!(!node.is_deaf(Side::Front, 300 * MS), "it is forgotten");
        let mut apart = full(Threads::Apart, 31, 0);
        (0..200).for_each(|n| apart.reject(Side::Wake, 2_000_000, n * MS));
        assert!(apart.is_deaf(Side::Wake, 200 * MS) && !apart.is_deaf(Side::Front, 200 * MS));
    }

    #[test]
    fn readings_are_shares_of_the_time_since_the_last() {
        let mut node = full(Threads::Shared, 8, 8);
        node.reject(Side::Wake, 1_000_000, 5 * MS);
        let readings = node.readings(10 * MS, 10 * MS);
        assert!((readings.front - 0.25).abs() < 1e-9 && (readings.wake - 0.3).abs() < 1e-9, "{readings:?}");
        assert!((node.readings(20 * MS, 10 * MS).wake - 0.25).abs() < 1e-9);
    }
}
