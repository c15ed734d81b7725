//! A mode flip: once a second somebody looks how busy the workers are, and in an emergency nothing of background is taken.
//!
//! Source: what operators build first; the ratio of busy threads as the signal is Kakao's, told after the earthquakes of
//! Gyeongju (2016) and Pohang (2017). Its queue is bounded by what foreground waits for at most, one second.

use buslane_shared::Nanos;
use buslane_shared::wire::Posture;

use super::pool::Pool;
use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Spent};

const SAMPLE: Nanos = 1_000_000_000;
const ENTER: f64 = 0.95;
const LEAVE: f64 = 0.70;
const WAIT_MAX: Nanos = 1_000_000_000;

/// The flip.
#[derive(Debug)]
pub struct Flip {
    pool: Pool,
    is_emergency: bool,
    used: f64,
    ticks: f64,
    sample_at: Nanos,
}

impl Flip {
    /// For a node with this many workers.
    pub fn new(workers: u32) -> Self {
        Self { pool: Pool::new(workers), is_emergency: false, used: 0.0, ticks: 0.0, sample_at: SAMPLE }
    }
}

impl Policy for Flip {
    fn arrive(&mut self, job: &Job, now: Nanos) -> Arrival {
        if self.is_emergency && !job.class.is_foreground() {
            return Arrival::Refuse(Refusal::busy(job));
        }
        if self.pool.try_start() {
            return Arrival::Run;
        }
        self.pool.wait(job, now, WAIT_MAX);
        Arrival::Queue
    }

    fn next(&mut self, now: Nanos) -> Option<Next> {
        let has_worker = self.pool.has_worker();
        let is_emergency = self.is_emergency;
        let queue = self.pool.queue();
        let head = queue.front().copied()?;
        let is_refused = now > head.until || is_emergency && !head.job.class.is_foreground();
        if is_refused {
            queue.pop_front();
            return Some(Next::Drop(head.job.id, Refusal::busy(&head.job)));
        }
        if !has_worker {
            return None;
        }
        queue.pop_front();
        self.pool.start();
        Some(Next::Start(head.job.id))
    }

    fn done(&mut self, _: &Job, _: Spent, _: Nanos) {
        self.pool.end();
    }

    fn tick(&mut self, now: Nanos, readings: &Readings) {
        self.used += readings.front + readings.wake;
        self.ticks += 1.0;
        if now >= self.sample_at {
            let busy = self.used / self.ticks;
            self.is_emergency = if self.is_emergency { busy > LEAVE } else { busy > ENTER };
            (self.used, self.ticks, self.sample_at) = (0.0, 0.0, now + SAMPLE);
        }
    }

    fn posture(&self) -> Option<Posture> {
        Some(if self.is_emergency { Posture::Emergency } else { Posture::Normal })
    }
}
