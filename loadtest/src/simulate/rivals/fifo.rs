//! No control: a pool of workers and a queue without a bound, first come, first served. What a server does by default.

use buslane_shared::Nanos;

use crate::simulate::job::Job;
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Spent};

/// No control.
#[derive(Debug)]
pub struct Fifo;

impl Policy for Fifo {
    fn arrive(&mut self, _: &Job, _: Nanos) -> Arrival {
        Arrival::Run
    }

    fn next(&mut self, _: Nanos) -> Option<Next> {
        None
    }

    fn done(&mut self, _: &Job, _: Spent, _: Nanos) {}

    fn tick(&mut self, _: Nanos, _: &Readings) {}
}
