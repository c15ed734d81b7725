//! Vegas: the limit grows while the estimated queue is short and shrinks while it is long.
//!
//! Source: github.com/Netflix/concurrency-limits, `VegasLimit` with its defaults, after Brakmo, O'Malley, Peterson, "TCP
//! Vegas", SIGCOMM 1994. The library draws its probe's jitter at random; here it walks through the same range.

use buslane_shared::Nanos;

use super::limited::Limit;
use crate::simulate::policy::Spent;

const LIMIT_FIRST: f64 = 20.0;
const LIMIT_MAX: f64 = 1_000.0;
const PROBE_MULTIPLIER: f64 = 30.0;

/// The limit.
#[derive(Debug)]
pub struct Vegas {
    limit: f64,
    unloaded: f64,
    probes: f64,
    jitter: f64,
}

impl Default for Vegas {
    fn default() -> Self {
        Self { limit: LIMIT_FIRST, unloaded: 0.0, probes: 0.0, jitter: 0.5 }
    }
}

impl Limit for Vegas {
    fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn sample(&mut self, spent: Spent, _: Nanos) {
        let trip = spent.round_trip as f64;
        self.probes += 1.0;
        if self.probes >= self.jitter * PROBE_MULTIPLIER * self.limit {
            self.probes = 0.0;
            self.jitter = 0.5 + (self.jitter + 0.118) % 0.5;
            self.unloaded = trip;
        } else if self.unloaded == 0.0 || trip < self.unloaded {
            self.unloaded = trip;
        } else if f64::from(spent.in_flight) * 2.0 >= self.limit {
            self.adjust((self.limit * (1.0 - self.unloaded / trip)).ceil());
        }
    }
}

impl Vegas {
    fn adjust(&mut self, queue: f64) {
        let step = self.limit.log10().floor().max(1.0);
        let change = if queue <= step {
            6.0 * step
        } else if queue < 3.0 * step {
            step
        } else if queue > 6.0 * step {
            -step
        } else {
            0.0
        };
        self.limit = (self.limit + change).clamp(1.0, LIMIT_MAX);
    }
}
