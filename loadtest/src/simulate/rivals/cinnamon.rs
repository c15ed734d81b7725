//! A shedder by PI control over priorities, in the manner of Cinnamon.
//!
//! Source: Holdgaard Thomsen et al., "Cinnamon: Using Century Old Tech to Build a Mean Load Shedder" and "PID Controller for
//! Cinnamon", Uber Engineering, 2023. The error is what came minus what left and what is free, as a part of what left; KP =
//! 0.1, KI = 1.4; every 500 ms while overloaded; the part to reject becomes a threshold over the priorities of the last
//! 1,000 requests, six tiers of 128 cohorts. Its tuner of the number in flight is left out: that number is the workers,
//! which is what the tuner is after. Overload is seen when the queue was never empty for one of these periods.

use std::collections::{BTreeMap, VecDeque};

use buslane_shared::Nanos;

use super::pool::Pool;
use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Spent};

const KP: f64 = 0.1;
const KI: f64 = 1.4;
const PERIOD: Nanos = 500_000_000;
const REMEMBERED: usize = 1_000;
const COHORTS: u16 = 128;

/// A request waits no longer than this before it is turned away.
const QUEUE_TIMEOUT: Nanos = 1_000_000_000;

/// The shedder.
#[derive(Debug)]
pub struct Cinnamon {
    pool: Pool,
    /// Who waits, the most important first and then the oldest.
    queue: BTreeMap<(u16, u64), Job>,
    /// The same, the oldest first; some may have started meanwhile.
    ages: VecDeque<(Nanos, (u16, u64))>,
    queued: u64,
    /// Priorities of the last requests, the most important the lowest.
    recent: VecDeque<u16>,
    threshold: u16,
    integral: f64,
    came: u32,
    left: u32,
    was_empty: bool,
    period_ends: Nanos,
}

impl Cinnamon {
    /// For a node with this many workers.
    pub fn new(workers: u32) -> Self {
        Self {
            pool: Pool::new(workers),
            queue: BTreeMap::new(),
            ages: VecDeque::new(),
            queued: 0,
            recent: VecDeque::with_capacity(REMEMBERED),
            threshold: u16::MAX,
            integral: 0.0,
            came: 0,
            left: 0,
            was_empty: true,
            period_ends: PERIOD,
        }
    }

    fn priority(job: &Job) -> u16 {
        let cohort = u64::from(job.user).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        job.class.index() as u16 * COHORTS + cohort as u16
    }

    fn step(&mut self) {
        if self.was_empty && self.threshold == u16::MAX {
            self.integral = 0.0;
            return;
        }
        let left = f64::from(self.left.max(1));
        let error = (f64::from(self.came) - left - f64::from(self.pool.free())) / left;
        // The integral is the part that is rejected; it stays a part.
        self.integral = (self.integral + KI * error * (PERIOD as f64 / 1e9)).clamp(0.0, 0.99);
        let reject = (KP * error + self.integral).clamp(0.0, 0.99);
        self.threshold = self.quantile(1.0 - reject);
    }

    fn quantile(&self, part: f64) -> u16 {
        let mut sorted: Vec<u16> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let place = (part * sorted.len() as f64) as usize;
        if part >= 1.0 { u16::MAX } else { sorted.get(place).copied().unwrap_or(u16::MAX) }
    }
}

impl Policy for Cinnamon {
    fn arrive(&mut self, job: &Job, now: Nanos) -> Arrival {
        let priority = Self::priority(job);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(priority);
        if priority >= self.threshold {
            return Arrival::Refuse(Refusal::busy(job));
        }
        self.came += 1;
        if self.queue.is_empty() && self.pool.try_start() {
            self.was_empty = true;
            return Arrival::Run;
        }
        self.queued += 1;
        self.queue.insert((priority, self.queued), *job);
        self.ages.push_back((now, (priority, self.queued)));
        Arrival::Queue
    }

    fn next(&mut self, now: Nanos) -> Option<Next> {
        while let Some((_, key)) = self.ages.pop_front_if(|(since, _)| now > *since + QUEUE_TIMEOUT) {
            if let Some(job) = self.queue.remove(&key) {
                return Some(Next::Drop(job.id, Refusal::busy(&job)));
            }
        }
        if !self.pool.has_worker() {
            return None;
        }
        let (_, job) = self.queue.pop_first()?;
        self.was_empty |= self.queue.is_empty();
        self.pool.start();
        Some(Next::Start(job.id))
    }

    fn done(&mut self, _: &Job, _: Spent, _: Nanos) {
        self.left += 1;
        self.pool.end();
    }

    fn tick(&mut self, now: Nanos, _: &Readings) {
        if now >= self.period_ends {
            self.step();
            self.period_ends = now + PERIOD;
            (self.came, self.left, self.was_empty) = (0, 0, false);
        }
    }
}
