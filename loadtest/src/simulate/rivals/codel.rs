//! Controlled delay with adaptive LIFO: who has waited too long is dropped, and under pressure the newest goes first.
//!
//! Source: Ben Maurer, "Fail at Scale", ACM Queue 13(8), 2015: a request may wait M = 5 ms if the queue was not empty in the
//! last N = 100 ms, otherwise N. Adaptive LIFO: newest first while the queue is not empty for so long.

use buslane_shared::Nanos;

use super::pool::Pool;
use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Spent};

const M: Nanos = 5_000_000;
const N: Nanos = 100_000_000;

/// The queue.
#[derive(Debug)]
pub struct CodelLifo {
    pool: Pool,
    empty_at: Nanos,
}

impl CodelLifo {
    /// For a node with this many workers.
    pub fn new(workers: u32) -> Self {
        Self { pool: Pool::new(workers), empty_at: 0 }
    }

    fn is_pressed(&self, now: Nanos) -> bool {
        now > self.empty_at + N
    }
}

impl Policy for CodelLifo {
    fn arrive(&mut self, job: &Job, now: Nanos) -> Arrival {
        if self.pool.try_start() {
            self.empty_at = now;
            return Arrival::Run;
        }
        let patience = if self.is_pressed(now) { M } else { N };
        self.pool.wait(job, now, patience);
        Arrival::Queue
    }

    fn next(&mut self, now: Nanos) -> Option<Next> {
        let pressed = self.is_pressed(now);
        let has_worker = self.pool.has_worker();
        let queue = self.pool.queue();
        // The oldest are at the front, so those whose time is over are found there.
        if queue.front().is_some_and(|w| now > w.until) {
            let waiting = queue.pop_front()?;
            return Some(Next::Drop(waiting.job.id, Refusal::busy(&waiting.job)));
        }
        if !has_worker {
            return None;
        }
        let waiting = if pressed { queue.pop_back() } else { queue.pop_front() };
        if queue.is_empty() {
            self.empty_at = now;
        }
        let waiting = waiting?;
        if now > waiting.until {
            return Some(Next::Drop(waiting.job.id, Refusal::busy(&waiting.job)));
        }
        self.pool.start();
        Some(Next::Start(waiting.job.id))
    }

    fn done(&mut self, _: &Job, _: Spent, _: Nanos) {
        self.pool.end();
    }

    fn tick(&mut self, _: Nanos, _: &Readings) {}
}
