//! Latencies in an HDR histogram, in microseconds, reported in milliseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart; what is longer counts as this.
const LATENCY_US_MAX: u64 = 120_000_000;

/// A recorder of latencies.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: f64,
    /// One of a hundred is slower.
    pub p99: f64,
    /// One of a thousand is slower.
    pub p999: f64,
}

impl Latencies {
    /// An empty recorder with three significant digits.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?))
    }

    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record((latency.as_micros() as u64).max(1));
    }

    /// Adds what another recorder has.
    pub fn merge(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many were recorded.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// True when none was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The percentiles.
    pub fn percentiles(&self) -> Percentiles {
        let ms = |q| self.0.value_at_quantile(q) as f64 / 1e3;
        Percentiles { p50: ms(0.5), p99: ms(0.99), p999: ms(0.999) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut latencies = Latencies::new().unwrap();
        for ms in 1..=1000 {
            latencies.record(Duration::from_millis(ms));
        }
        let p = latencies.percentiles();
        assert!((499.0..502.0).contains(&p.p50) && (989.0..992.0).contains(&p.p99), "{p:?}");
    }
}
