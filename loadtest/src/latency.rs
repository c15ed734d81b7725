//! Latencies in an HDR histogram, in microseconds, reported in milliseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart; what is longer counts as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Significant decimal digits.
const DIGITS: u8 = 3;

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

impl Default for Latencies {
    /// An empty recorder with three significant digits. It grows with what is recorded, up to the longest latency.
    fn default() -> Self {
        #[allow(clippy::expect_used, reason = "fails for other constants only; a test makes one")]
        let mut histogram = Histogram::new(DIGITS).expect("a valid number of digits");
        histogram.auto(true);
        Self(histogram)
    }
}

impl Latencies {
    /// The value below which this share of the latencies is.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        let us = (latency.as_micros() as u64).clamp(1, LATENCY_US_MAX);
        // It grows to any value below the limit.
        let _ = self.0.record(us);
    }

    /// Adds what another recorder has.
    pub fn merge(&mut self, other: &Self) {
        // Both tell the same values apart, so nothing of the other one can be out of range.
        let _ = self.0.add(&other.0);
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
        let mut latencies = Latencies::default();
        for ms in 1..=1000 {
            latencies.record(Duration::from_millis(ms));
        }
        let p = latencies.percentiles();
        assert!((499.0..502.0).contains(&p.p50) && (989.0..992.0).contains(&p.p99), "{p:?}");
    }
}
