//! Partitioned limits: an adaptive limit for all, and a guaranteed part of it for each kind of traffic once it is reached.
//!
//! Source: github.com/Netflix/concurrency-limits, `AbstractPartitionedLimiter`, with the parts of its README: 90 % live, 10 %
//! batch; foreground is live. Its limit is `Gradient2`.

use buslane_shared::Nanos;

use super::gradient::Gradient2;
use super::limited::Limit;
use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Spent};

const LIVE: f64 = 0.9;
const BATCH: f64 = 0.1;

/// The limiter.
#[derive(Debug, Default)]
pub struct Partitioned {
    limit: Gradient2,
    live: u32,
    batch: u32,
}

impl Partitioned {
    fn partition(&mut self, job: &Job) -> (&mut u32, f64) {
        if job.class.is_foreground() { (&mut self.live, LIVE) } else { (&mut self.batch, BATCH) }
    }
}

impl Policy for Partitioned {
    fn arrive(&mut self, job: &Job, _: Nanos) -> Arrival {
        let limit = self.limit.limit();
        let is_full = self.live + self.batch >= limit;
        let (busy, part) = self.partition(job);
        let guaranteed = (f64::from(limit) * part).ceil().max(1.0) as u32;
        if is_full && *busy >= guaranteed {
            return Arrival::Refuse(Refusal::busy(job));
        }
        *busy += 1;
        Arrival::Run
    }

    fn next(&mut self, _: Nanos) -> Option<Next> {
        None
    }

    fn done(&mut self, job: &Job, spent: Spent, now: Nanos) {
        *self.partition(job).0 -= 1;
        self.limit.sample(spent, now);
    }

    fn tick(&mut self, _: Nanos, _: &Readings) {}
}
