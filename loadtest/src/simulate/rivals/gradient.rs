//! Gradient2: the limit follows the quotient of the long-term and the current round trip.
//!
//! Source: github.com/Netflix/concurrency-limits, `Gradient2Limit` with its defaults, sampled by `WindowedLimit` with its
//! defaults (windows of one second and at least ten samples, their mean).

use buslane_shared::Nanos;

use super::limited::Limit;
use crate::simulate::policy::Spent;

const LIMIT_FIRST: f64 = 20.0;
const LIMIT_MIN: f64 = 20.0;
const LIMIT_MAX: f64 = 200.0;
const SMOOTHING: f64 = 0.2;
const QUEUE: f64 = 4.0;
const LONG_WINDOW: f64 = 600.0;
/// So many samples of the long window are averaged plainly.
const WARM_UP: u32 = 10;
const WINDOW: Nanos = 1_000_000_000;
const WINDOW_SAMPLES: u32 = 10;

/// The limit.
#[derive(Debug)]
pub struct Gradient2 {
    limit: f64,
    long: f64,
    samples: u32,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    ends: Nanos,
    sum: f64,
    count: u32,
    in_flight_max: u32,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self { limit: LIMIT_FIRST, long: 0.0, samples: 0, window: Window::default() }
    }
}

impl Limit for Gradient2 {
    fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn sample(&mut self, spent: Spent, now: Nanos) {
        let window = &mut self.window;
        window.sum += spent.round_trip as f64;
        window.count += 1;
        window.in_flight_max = window.in_flight_max.max(spent.in_flight);
        if now >= window.ends && window.count >= WINDOW_SAMPLES {
            let (mean, in_flight) = (window.sum / f64::from(window.count), window.in_flight_max);
            *window = Window { ends: now + WINDOW, ..Window::default() };
            self.update(mean, f64::from(in_flight));
        }
    }
}

impl Gradient2 {
    fn update(&mut self, short: f64, in_flight: f64) {
        self.learn(short);
        let long = self.long;
        if long / short > 2.0 {
            self.long *= 0.9;
        }
        if in_flight < self.limit / 2.0 {
            return;
        }
        let gradient = (long / short).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + QUEUE;
        self.limit = (self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING).clamp(LIMIT_MIN, LIMIT_MAX);
    }

    fn learn(&mut self, short: f64) {
        if self.samples < WARM_UP {
            self.samples += 1;
            self.long += (short - self.long) / f64::from(self.samples);
        } else {
            self.long += (short - self.long) * 2.0 / (LONG_WINDOW + 1.0);
        }
    }
}
