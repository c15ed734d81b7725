//! Kubernetes API Priority and Fairness: priority levels with seats of their own, fair queues inside of them.
//!
//! Source: kubernetes.io/docs/concepts/cluster-administration/flow-control and KEP-1040. Shares, lendable parts, queues, hand
//! size and queue length are those of the suggested configuration; limits are adjusted every 10 s to a smoothed demand;
//! a request may wait a quarter of its time; who is rejected is told to come back after a second. Fair queuing counts
//! requests and not their seat-seconds, since all requests of a level cost about the same here.

use std::collections::VecDeque;

use buslane_shared::Nanos;

use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Rejection, Spent, Told};

const SECOND: Nanos = 1_000_000_000;
const ADJUST: Nanos = 10 * SECOND;
const SMOOTHING: f64 = 0.977;
const QUEUE_MAX: usize = 50;
const WAIT_MAX: Nanos = 15 * SECOND;

/// A priority level of the suggested configuration.
struct Suggested {
    shares: f64,
    lendable: f64,
    queues: usize,
    hand: u32,
}

const fn suggested(shares: f64, lendable: f64, queues: usize, hand: u32) -> Suggested {
    Suggested { shares, lendable, queues, hand }
}

/// leader-election, workload-high, workload-low, global-default and catch-all, which has no queues.
const SUGGESTED: [Suggested; 5] = [
    suggested(10.0, 0.0, 16, 4),
    suggested(40.0, 0.5, 128, 6),
    suggested(100.0, 0.9, 128, 6),
    suggested(20.0, 0.5, 128, 6),
    suggested(5.0, 0.0, 0, 0),
];

/// Which class is of which level: control, talk, what else a person sees, what phones do, the rest.
const LEVEL_OF: [usize; 8] = [0, 1, 2, 2, 3, 3, 4, 4];

#[derive(Debug)]
struct Level {
    min: f64,
    limit: u32,
    in_flight: u32,
    waiting: u32,
    queues: Vec<Queue>,
    hand: u32,
    demand: Demand,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<(Job, Nanos)>,
    /// Requests served, as if it had always had its part.
    served: u64,
}

#[derive(Debug, Default)]
struct Demand {
    sum: f64,
    squares: f64,
    samples: f64,
    smooth: f64,
}

/// All priority levels.
#[derive(Debug)]
pub struct Apf {
    levels: Vec<Level>,
    seats: f64,
    adjust_at: Nanos,
}

impl Apf {
    /// For a node with this many workers.
    pub fn new(workers: u32) -> Self {
        let seats = f64::from(workers);
        let all: f64 = SUGGESTED.iter().map(|l| l.shares).sum();
        let level = |l: &Suggested| {
            let nominal = (seats * l.shares / all).ceil();
            Level {
                min: nominal - (nominal * l.lendable).round(),
                limit: nominal as u32,
                in_flight: 0,
                waiting: 0,
                queues: (0..l.queues).map(|_| Queue::default()).collect(),
                hand: l.hand,
                demand: Demand::default(),
            }
        };
        Self { levels: SUGGESTED.iter().map(level).collect(), seats, adjust_at: ADJUST }
    }

    fn level(&mut self, job: &Job) -> Option<&mut Level> {
        self.levels.get_mut(LEVEL_OF.get(job.class.index()).copied()?)
    }

    /// Divides the seats by smoothed demand; nobody gets less than what it does not lend.
    fn adjust(&mut self) {
        let wanted: Vec<(f64, f64)> =
            self.levels.iter_mut().map(|l| (l.min, l.demand.smoothed().max(l.min).max(1.0))).collect();
        let sum = |part: f64| wanted.iter().map(|(min, want)| min.max(part * want)).sum::<f64>();
        let (mut low, mut high) = (0.0, self.seats);
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if sum(middle) > self.seats { high = middle } else { low = middle }
        }
        for (level, (min, want)) in self.levels.iter_mut().zip(&wanted) {
            level.limit = min.max(low * want).round().max(1.0) as u32;
        }
    }
}

impl Demand {
    fn sample(&mut self, seats: f64) {
        self.sum += seats;
        self.squares += seats * seats;
        self.samples += 1.0;
    }

    fn smoothed(&mut self) -> f64 {
        let n = self.samples.max(1.0);
        let mean = self.sum / n;
        let envelope = mean + (self.squares / n - mean * mean).max(0.0).sqrt();
        self.smooth = envelope.max(SMOOTHING * self.smooth + (1.0 - SMOOTHING) * envelope);
        (self.sum, self.squares, self.samples) = (0.0, 0.0, 0.0);
        self.smooth
    }
}

impl Level {
    fn offer(&mut self, job: &Job, now: Nanos) -> Arrival {
        if self.waiting == 0 && self.in_flight < self.limit {
            self.in_flight += 1;
            return Arrival::Run;
        }
        let busy = Refusal { rejection: Rejection::of_request(job), told: Told::At(now + SECOND) };
        let least = self.queues.iter().filter(|q| !q.jobs.is_empty()).map(|q| q.served).min().unwrap_or(0);
        let Some(queue) = self.shortest(job.user).filter(|q| q.jobs.len() < QUEUE_MAX) else {
            return Arrival::Refuse(busy);
        };
        if queue.jobs.is_empty() {
            queue.served = queue.served.max(least);
        }
        let wait = ((job.deadline - now) / 4).min(WAIT_MAX);
        queue.jobs.push_back((*job, now + wait));
        self.waiting += 1;
        Arrival::Queue
    }

    /// The shortest queue of the user's hand.
    fn shortest(&mut self, user: u32) -> Option<&mut Queue> {
        let deck = self.queues.len() as u64;
        let card = |n: u32| (hash(user, n) % deck.max(1)) as usize;
        let length = |n: &usize| self.queues.get(*n).map_or(usize::MAX, |q| q.jobs.len());
        let shortest = (0..self.hand).map(card).min_by_key(length)?;
        self.queues.get_mut(shortest)
    }

    fn next(&mut self, now: Nanos) -> Option<Next> {
        if self.waiting == 0 || self.in_flight >= self.limit {
            return None;
        }
        let queue = self.queues.iter_mut().filter(|q| !q.jobs.is_empty()).min_by_key(|q| q.served)?;
        let (job, until) = queue.jobs.pop_front()?;
        self.waiting -= 1;
        if now > until {
            let told = Told::At(now + SECOND);
            return Some(Next::Drop(job.id, Refusal { rejection: Rejection::of_request(&job), told }));
        }
        queue.served += 1;
        self.in_flight += 1;
        Some(Next::Start(job.id))
    }
}

fn hash(user: u32, card: u32) -> u64 {
    let mixed = (u64::from(user) << 8 | u64::from(card)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

impl Policy for Apf {
    fn arrive(&mut self, job: &Job, now: Nanos) -> Arrival {
        match self.level(job) {
            Some(level) => level.offer(job, now),
            None => Arrival::Refuse(Refusal::busy(job)),
        }
    }

    fn next(&mut self, now: Nanos) -> Option<Next> {
        self.levels.iter_mut().find_map(|l| l.next(now))
    }

    fn done(&mut self, job: &Job, _: Spent, _: Nanos) {
        if let Some(level) = self.level(job) {
            level.in_flight -= 1;
        }
    }

    fn tick(&mut self, now: Nanos, _: &Readings) {
        for level in &mut self.levels {
            level.demand.sample(f64::from(level.in_flight + level.waiting));
        }
        if now >= self.adjust_at {
            self.adjust_at = now + ADJUST;
            self.adjust();
        }
    }
}
