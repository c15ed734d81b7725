//! When the phases of a run are. Everything is reckoned from the moment at which the storm begins.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the storm: what everything is held against.
    Quiet,
    /// While it lasts.
    Storm,
    /// After it: what waited comes in, and memory is given back.
    After,
}

impl Phase {
    /// In the order of a run.
    pub const ALL: [Self; 3] = [Self::Quiet, Self::Storm, Self::After];

    /// As in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Storm => "storm",
            Self::After => "after",
        }
    }
}

/// The phases of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    begin: Instant,
    quiet: Duration,
    storm: Duration,
    after: Duration,
}

impl Timing {
    /// A run that begins at `begin`.
    pub fn new(begin: Instant, quiet: Duration, storm: Duration, after: Duration) -> Self {
        Self { begin, quiet, storm, after }
    }

    /// The first moment.
    pub fn begin(&self) -> Instant {
        self.begin
    }

    /// When the storm begins.
    pub fn storm_begin(&self) -> Instant {
        self.begin + self.quiet
    }

    /// When it ends.
    pub fn storm_end(&self) -> Instant {
        self.storm_begin() + self.storm
    }

    /// The last moment.
    pub fn end(&self) -> Instant {
        self.storm_end() + self.after
    }

    /// The moment so many seconds after the storm's beginning; negative: before it. Never before the run.
    pub fn at(&self, offset_s: f64) -> Instant {
        let from_begin = self.quiet.as_secs_f64() + offset_s;
        self.begin + Duration::try_from_secs_f64(from_begin.max(0.0)).unwrap_or_default()
    }

    /// Seconds from the storm's beginning.
    pub fn offset_s(&self, at: Instant) -> f64 {
        let storm = self.storm_begin();
        if at >= storm { (at - storm).as_secs_f64() } else { -(storm - at).as_secs_f64() }
    }

    /// The phase of a moment; before the run it is quiet, behind it after.
    pub fn phase(&self, at: Instant) -> Phase {
        if at < self.storm_begin() {
            Phase::Quiet
        } else if at < self.storm_end() {
            Phase::Storm
        } else {
            Phase::After
        }
    }

    /// Whole seconds of the run before a moment: the place in a table by seconds. Never beyond [`Self::seconds`] - 1.
    pub fn second(&self, at: Instant) -> usize {
        let since = at.saturating_duration_since(self.begin).as_secs() as usize;
        since.min(self.seconds().saturating_sub(1))
    }

    /// How many seconds there are, a broken one counted.
    pub fn seconds(&self) -> usize {
        (self.end() - self.begin).as_secs_f64().ceil() as usize
    }

    /// The offset of the beginning of a second in such a table.
    pub fn second_offset_s(&self, second: usize) -> f64 {
        second as f64 - self.quiet.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_a_phase_and_an_offset() {
        let s = Duration::from_secs;
        let timing = Timing::new(Instant::now(), s(10), s(5), s(20));
        for (offset_s, phase, second) in [
            (-10.0, Phase::Quiet, 0),
            (-0.5, Phase::Quiet, 9),
            (0.0, Phase::Storm, 10),
            (4.9, Phase::Storm, 14),
            (5.0, Phase::After, 15),
            (900.0, Phase::After, 34),
        ] {
            let at = timing.at(offset_s);
            assert_eq!((timing.phase(at), timing.second(at)), (phase, second), "{offset_s}");
            assert!((timing.offset_s(at) - offset_s).abs() < 1e-6);
        }
        assert_eq!(timing.at(-11.0), timing.begin());
        assert_eq!((timing.seconds(), timing.second_offset_s(0)), (35, -10.0));
    }
}
