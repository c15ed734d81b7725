//! A limiter around an adaptive limit, as in Netflix's concurrency-limits: whatever comes beyond the limit is refused.
//!
//! Source: github.com/Netflix/concurrency-limits, `SimpleLimiter` and `Limit`. A limit only estimates; this enforces.

use buslane_shared::Nanos;

use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Refusal, Spent};

/// Estimates how many may be in flight.
pub trait Limit {
    /// The estimate.
    fn limit(&self) -> u32;

    /// A request is done.
    fn sample(&mut self, spent: Spent, now: Nanos);
}

/// Enforces a limit.
#[derive(Debug)]
pub struct Limited<L> {
    limit: L,
    in_flight: u32,
}

impl<L: Limit> Limited<L> {
    /// Around this limit.
    pub fn new(limit: L) -> Self {
        Self { limit, in_flight: 0 }
    }
}

impl<L: Limit> Policy for Limited<L> {
    fn arrive(&mut self, job: &Job, _: Nanos) -> Arrival {
        if self.in_flight >= self.limit.limit() {
            return Arrival::Refuse(Refusal::busy(job));
        }
        self.in_flight += 1;
        Arrival::Run
    }

    fn next(&mut self, _: Nanos) -> Option<Next> {
        None
    }

    fn done(&mut self, _: &Job, spent: Spent, now: Nanos) {
        self.in_flight -= 1;
        self.limit.sample(spent, now);
    }

    fn tick(&mut self, _: Nanos, _: &Readings) {}
}
