//! What delay is usual on this node while nothing is the matter.
//!
//! A slow virtual machine that is always 3 ms late is not in trouble, and a quick one that is suddenly 2 ms late is. So the
//! guard value becomes the p99 of the node's own calm, but at least 1 ms. It is learnt in windows of 60 s of calm samples, each
//! of which replaces the one before: before the first is full, the configured values hold.

use crate::Nanos;

/// Calm that is needed before anything is believed, and after which a new window begins.
const WINDOW: Nanos = 60_000_000_000;

/// Fewer samples have no p99.
const SAMPLES_MIN: u32 = 600;

/// Between two samples no more than this counts as observed: a node that was suspended has seen nothing.
const GAP_MAX: Nanos = 100_000_000;

/// No guard value is below this: timers themselves tick in milliseconds.
const GUARD_MIN_MS: f64 = 1.0;

/// A learnt guard value is at most this many times the configured one: a machine slower than that in its calm is broken, and
/// not a measure for anything.
pub(super) const FACTOR_MAX: f64 = 4.0;

/// Four steps in each doubling, from 1/16 ms on: 12 octaves reach 256 ms, with an error of 19 %.
const STEPS: usize = 48;
const STEPS_PER_OCTAVE: f64 = 4.0;
const FIRST_MS: f64 = 1.0 / 16.0;

/// A histogram of the calm delay, and what came of the last full one.
#[derive(Debug)]
pub(super) struct Baseline {
    counts: [u32; STEPS],
    samples: u32,
    observed: Nanos,
    last: Option<Nanos>,
    guard_ms: Option<f64>,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { counts: [0; STEPS], samples: 0, observed: 0, last: None, guard_ms: None }
    }
}

impl Baseline {
    /// What was learnt; `None` before 60 s of calm.
    pub(super) fn guard_ms(&self) -> Option<f64> {
        self.guard_ms
    }

    /// Takes a sample; `None`: it was not calm, or not measured.
    pub(super) fn learn(&mut self, now: Nanos, delay_ms: Option<f64>) {
        let since = self.last.replace(now).map_or(0, |last| now.saturating_sub(last));
        let Some(delay_ms) = delay_ms else { return };
        self.observed += since.min(GAP_MAX);
        self.samples += 1;
        if let Some(count) = self.counts.get_mut(step(delay_ms)) {
            *count += 1;
        }
        if self.observed >= WINDOW && self.samples >= SAMPLES_MIN {
            self.guard_ms = Some(self.p99_ms().max(GUARD_MIN_MS));
            (self.counts, self.samples, self.observed) = ([0; STEPS], 0, 0);
        }
    }

    /// The upper end of the step in which the p99 lies.
    fn p99_ms(&self) -> f64 {
        let mut above = self.samples - self.samples / 100;
        let at = self.counts.iter().position(|count| {
            above = above.saturating_sub(*count);
            above == 0
        });
        FIRST_MS * ((at.unwrap_or(STEPS) + 1) as f64 / STEPS_PER_OCTAVE).exp2()
    }
}

fn step(delay_ms: f64) -> usize {
    let octaves = (delay_ms / FIRST_MS).max(1.0).log2();
    ((octaves * STEPS_PER_OCTAVE) as usize).min(STEPS - 1)
}
