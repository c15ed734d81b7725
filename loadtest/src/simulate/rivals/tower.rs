//! `ConcurrencyLimit` under `LoadShed` of the crate tower: at most so many at a time, everything else is refused at once.
//!
//! Source: tower 0.5, `limit/concurrency` and `load_shed` (github.com/tower-rs/tower). It has no default limit; here it is
//! the number of workers, with which nothing ever queues.

use buslane_shared::Nanos;

use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Spent};

/// A fixed limit.
#[derive(Debug)]
pub struct Tower {
    limit: u32,
    in_flight: u32,
}

impl Tower {
    /// For a node with this many workers.
    pub fn new(workers: u32) -> Self {
        Self { limit: workers, in_flight: 0 }
    }
}

impl Policy for Tower {
    fn arrive(&mut self, job: &Job, _: Nanos) -> Arrival {
        if self.in_flight >= self.limit {
            return Arrival::Refuse(Refusal::busy(job));
        }
        self.in_flight += 1;
        Arrival::Run
    }

    fn next(&mut self, _: Nanos) -> Option<Next> {
        None
    }

    fn done(&mut self, _: &Job, _: Spent, _: Nanos) {
        self.in_flight -= 1;
    }

    fn tick(&mut self, _: Nanos, _: &Readings) {}
}
