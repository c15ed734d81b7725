//! DAGOR: a level of admission over business and user priority, moved by the mean queueing time of a window.
//!
//! Source: Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018 (arXiv:1806.04075): windows of one
//! second or 2,000 requests, overload at a mean queueing time of 20 ms, alpha = 5 % fewer, beta = 1 % more, 128 user levels,
//! a histogram of the last window to find the level. A task that has waited for 500 ms is dropped: WeChat's default timeout.

use buslane_shared::Nanos;

use super::pool::Pool;
use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Spent};

const WINDOW: Nanos = 1_000_000_000;
const WINDOW_REQUESTS: u32 = 2_000;
const OVERLOAD: f64 = 20_000_000.0;
/// Default timeout of a task.
const TIMEOUT: Nanos = 500_000_000;
const ALPHA: f64 = 0.05;
const BETA: f64 = 0.01;
const USERS: usize = 128;
const LEVELS: usize = 8 * USERS;

/// Admission by levels.
#[derive(Debug)]
pub struct Dagor {
    pool: Pool,
    /// Levels below this are admitted.
    level: usize,
    came: Vec<u32>,
    admitted: u32,
    waited: f64,
    started: u32,
    window_ends: Nanos,
}

impl Dagor {
    /// For a node with this many workers.
    pub fn new(workers: u32) -> Self {
        Self {
            pool: Pool::new(workers),
            level: LEVELS,
            came: vec![0; LEVELS],
            admitted: 0,
            waited: 0.0,
            started: 0,
            window_ends: WINDOW,
        }
    }

    fn level_of(job: &Job) -> usize {
        let user = u64::from(job.user).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        job.class.index() * USERS + user as usize
    }

    fn started(&mut self, waited: Nanos) {
        self.waited += waited as f64;
        self.started += 1;
    }

    fn close_window(&mut self, now: Nanos) {
        let mean = self.waited / f64::from(self.started.max(1));
        let admitted = f64::from(self.admitted);
        if mean > OVERLOAD {
            self.lower(admitted * ALPHA);
        } else {
            let came: u32 = self.came.iter().sum();
            self.raise(f64::from(came) * BETA);
        }
        self.came.fill(0);
        (self.admitted, self.started, self.waited) = (0, 0, 0.0);
        self.window_ends = now + WINDOW;
    }

    fn lower(&mut self, fewer: f64) {
        let mut left = fewer;
        while left > 0.0 && self.level > 1 {
            self.level -= 1;
            left -= f64::from(self.came.get(self.level).copied().unwrap_or(0));
        }
    }

    fn raise(&mut self, more: f64) {
        let mut left = more;
        while left > 0.0 && self.level < LEVELS {
            left -= f64::from(self.came.get(self.level).copied().unwrap_or(0));
            self.level += 1;
        }
    }
}

impl Policy for Dagor {
    fn arrive(&mut self, job: &Job, now: Nanos) -> Arrival {
        let level = Self::level_of(job);
        if let Some(came) = self.came.get_mut(level) {
            *came += 1;
        }
        if level >= self.level {
            return Arrival::Refuse(Refusal::busy(job));
        }
        self.admitted += 1;
        if self.pool.try_start() {
            self.started(0);
            return Arrival::Run;
        }
        self.pool.wait(job, now, TIMEOUT);
        Arrival::Queue
    }

    fn next(&mut self, now: Nanos) -> Option<Next> {
        if !self.pool.has_worker() {
            return None;
        }
        let waiting = self.pool.queue().pop_front()?;
        self.started(now - waiting.since);
        if now > waiting.until {
            return Some(Next::Drop(waiting.job.id, Refusal::busy(&waiting.job)));
        }
        self.pool.start();
        if self.started >= WINDOW_REQUESTS {
            self.close_window(now);
        }
        Some(Next::Start(waiting.job.id))
    }

    fn done(&mut self, _: &Job, _: Spent, _: Nanos) {
        self.pool.end();
    }

    fn tick(&mut self, now: Nanos, _: &Readings) {
        if now >= self.window_ends || self.started >= WINDOW_REQUESTS {
            self.close_window(now);
        }
    }
}
