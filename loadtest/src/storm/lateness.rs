//! How late a thread of the driver was itself, by the phase in which things were due.
//!
//! By phase, because the quiet one lasts longer than many a storm: a driver that was late in the storm only would look punctual over the
//! whole run, and one that was late in the quiet phase only makes the storm look better than it was.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures;
use super::result::ByPhase;
use super::timing::Phase;
use crate::latency::Latencies;

/// What was late, and by how much.
#[derive(Debug, Clone, Default)]
pub struct Lateness {
    phases: BTreeMap<Phase, Latencies>,
}

impl Lateness {
    /// Something that was due in this phase was begun so late.
    pub fn record(&mut self, phase: Phase, late: Duration) {
        self.phases.entry(phase).or_default().record(late);
    }

    /// The 99th percentile of each phase in which something was due, in milliseconds.
    pub fn p99_ms(&self) -> ByPhase {
        let of = |phase| self.phases.get(&phase).map(p99_ms);
        ByPhase { quiet: of(Phase::Quiet), storm: of(Phase::Storm), after: of(Phase::After) }
    }

    /// The same of the whole run.
    pub fn p99_ms_of_all(&self) -> Option<f64> {
        let all = self.phases.values().cloned().reduce(|mut all, phase| {
            all.merge(&phase);
            all
        });
        all.as_ref().map(p99_ms)
    }
}

fn p99_ms(late: &Latencies) -> f64 {
    figures::ms(late.quantile(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_quiet_phase_hides_no_late_storm() {
        let mut lateness = Lateness::default();
        assert_eq!((lateness.p99_ms(), lateness.p99_ms_of_all()), (ByPhase::default(), None));
        for _ in 0..1_000 {
            lateness.record(Phase::Quiet, Duration::from_micros(100));
        }
        for _ in 0..9 {
            lateness.record(Phase::Storm, Duration::from_millis(40));
        }
        let p99 = lateness.p99_ms();
        assert!((39.0..41.0).contains(&p99.storm.unwrap()), "{p99:?}");
        assert!(p99.quiet.unwrap() < 0.2 && p99.after.is_none(), "{p99:?}");
        assert!(lateness.p99_ms_of_all().unwrap() < 0.2);
    }
}
