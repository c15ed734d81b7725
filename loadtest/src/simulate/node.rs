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

/// Which side of the machine a job is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A person waits.
    Foreground,
    /// Nobody does.
    Background,
}

/// The workers.
#[derive(Debug)]
pub struct Node {
    workers: u32,
    threads: Threads,
    busy: [u32; 2],
    waiting: VecDeque<JobId>,
    rejecting: Decaying,
    seats_per_processor: f64,
    accounted: Nanos,
    used: f64,
    rejected: f64,
}

impl Node {
    /// With this many workers.
    pub fn new(workers: u32, threads: Threads) -> Self {
        Self {
            workers,
            threads,
            busy: [0; 2],
            waiting: VecDeque::new(),
            rejecting: Decaying::default(),
            seats_per_processor: f64::from(workers) / PROCESSORS,
            accounted: 0,
            used: 0.0,
            rejected: 0.0,
        }
    }

    /// Jobs that were taken and are not done.
    pub fn in_flight(&self) -> u32 {
        self.busy() + self.waiting.len() as u32
    }

    /// Takes a job; it waits where no worker is free.
    pub fn take(&mut self, id: JobId) {
        self.waiting.push_back(id);
    }

    /// The next job for which a worker is free.
    pub fn next(&mut self) -> Option<JobId> {
        if self.busy() < self.workers { self.waiting.pop_front() } else { None }
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
    pub fn reject(&mut self, cost: Nanos, now: Nanos) {
        let seat_time = cost as f64 * self.seats_per_processor;
        self.rejecting.add(seat_time, now);
        self.rejected += seat_time;
    }

    /// Whether the socket's buffer overflows: a first packet that comes now is lost.
    pub fn is_deaf(&mut self, now: Nanos) -> bool {
        self.share_rejecting(now) >= RECEIVING_MAX
    }

    /// What has happened since the last time.
    pub fn readings(&mut self, now: Nanos, elapsed: Nanos) -> Readings {
        self.account(now);
        let whole = elapsed.max(1) as f64 * f64::from(self.workers);
        let rejecting = (std::mem::take(&mut self.rejected) / whole).min(1.0);
        let used = (std::mem::take(&mut self.used) / whole + rejecting).min(1.0);
        Readings { used }
    }

    fn busy(&self) -> u32 {
        self.busy.iter().sum()
    }

    fn account(&mut self, now: Nanos) {
        self.used += f64::from(self.busy()) * (now - self.accounted) as f64;
        self.accounted = now;
    }

    fn share_rejecting(&mut self, now: Nanos) -> f64 {
        (self.rejecting.rate(now) / f64::from(self.workers)).min(RECEIVING_MAX)
    }

    /// How much longer work takes because rejections take their part.
    fn stretch(&mut self, side: Side, now: Nanos) -> f64 {
        let all = f64::from(self.workers);
        let left = all * (1.0 - self.share_rejecting(now));
        let [foreground, background] = self.busy.map(f64::from);
        let stretch = match (self.threads, side) {
            (Threads::Shared, _) => (foreground + background) / left,
            (Threads::Apart, Side::Foreground) => foreground / all,
            (Threads::Apart, Side::Background) => background / (left - foreground).max(all * LEFT_MIN),
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
        (0..foreground).for_each(|_| _ = node.begin(Side::Foreground, MS, 0));
        (0..background).for_each(|_| _ = node.begin(Side::Background, MS, 0));
        node
    }

    #[test]
    fn what_is_taken_waits_for_a_worker_in_its_order() {
        let mut node = Node::new(1, Threads::Shared);
        node.take(JobId(1));
        node.take(JobId(2));
        assert_eq!(node.next(), Some(JobId(1)));
        assert_eq!(node.begin(Side::Foreground, MS, 0), MS);
        assert_eq!((node.next(), node.in_flight()), (None, 2));
        node.end(Side::Foreground, MS);
        assert_eq!(node.next(), Some(JobId(2)));
    }

    #[test]
    fn rejections_take_from_work_only_when_the_machine_is_full() {
        for (busy, stretched) in [(4, false), (31, true)] {
            let mut node = full(Threads::Shared, busy, 0);
            // A quarter of the machine, for a while.
            (0..100).for_each(|n| node.reject(500_000, n * MS));
            let takes = node.begin(Side::Foreground, MS, 100 * MS);
            assert_eq!(takes > MS + MS / 4, stretched, "{busy}: {takes}");
        }
    }

    #[test]
    fn with_threads_apart_only_background_pays_for_rejections() {
        let mut node = full(Threads::Apart, 10, 21);
        (0..100).for_each(|n| node.reject(500_000, n * MS));
        assert_eq!(node.begin(Side::Foreground, MS, 100 * MS), MS);
        assert!(node.begin(Side::Background, MS, 100 * MS) > MS + MS / 4);
    }

    #[test]
    fn receiving_never_takes_more_than_one_of_the_processors() {
        let mut node = full(Threads::Shared, 31, 0);
        assert!(!node.is_deaf(0));
        (0..200).for_each(|n| node.reject(2_000_000, n * MS));
        assert!(node.is_deaf(200 * MS));
        let takes = node.begin(Side::Foreground, MS, 200 * MS);
        assert!((2 * MS - 10..=2 * MS).contains(&takes), "{takes}");
        assert!(!node.is_deaf(300 * MS), "it is forgotten");
    }

    #[test]
    fn readings_are_shares_of_the_time_since_the_last() {
        let mut node = full(Threads::Shared, 8, 8);
        node.reject(1_000_000, 5 * MS);
        let readings = node.readings(10 * MS, 10 * MS);
        assert!((readings.used - 0.55).abs() < 1e-9, "{readings:?}");
        assert!((node.readings(20 * MS, 10 * MS).used - 0.5).abs() < 1e-9);
    }
}
