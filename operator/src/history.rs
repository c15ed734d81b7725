//! What happened lately: samples of three resolutions and the happenings between them, in memory only.
//!
//! Why it exists: a page that is opened in the middle of a night needs the hours before. Seconds are kept for ten minutes, tens of
//! seconds for three hours, minutes for a day: some 4 MiB. A restart forgets it (metrics are for weeks, and the audit is for ever). It
//! must never grow beyond that, and never be waited for by the node that is looked at.

mod ring;

use std::sync::Arc;
use std::time::Duration;

use buslane_shared::UnixMs;
use parking_lot::Mutex;

use crate::happening::Happening;
use crate::view::{Sample, TrafficView};

use ring::Ring;

/// Happenings that are kept: a bad day has some hundreds.
const HAPPENINGS_MAX: usize = 2_048;

/// A stretch of time that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// Ten minutes, by seconds.
    TenMinutes,
    /// Three hours, by ten seconds.
    ThreeHours,
    /// A day, by minutes.
    Day,
}

impl Stretch {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TenMinutes, Self::ThreeHours, Self::Day];

    /// As it is written in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenMinutes => "10m",
            Self::ThreeHours => "3h",
            Self::Day => "24h",
        }
    }

    /// The stretch of that name, and how long it is; "1m" is the end of the finest.
    pub fn named(name: &str) -> Option<(Self, Duration)> {
        if name == "1m" {
            return Some((Self::TenMinutes, Duration::from_secs(60)));
        }
        let known = Self::ALL.into_iter().find(|stretch| stretch.name() == name);
        known.map(|stretch| (stretch, stretch.length()))
    }

    /// Resolution.
    pub fn step_ms(self) -> u32 {
        match self {
            Self::TenMinutes => 1_000,
            Self::ThreeHours => 10_000,
            Self::Day => 60_000,
        }
    }

    fn samples_max(self) -> usize {
        match self {
            Self::TenMinutes => 600,
            Self::ThreeHours => 1_080,
            Self::Day => 1_440,
        }
    }

    /// How far it goes back.
    pub fn length(self) -> Duration {
        Duration::from_millis(u64::from(self.step_ms()) * self.samples_max() as u64)
    }

    fn place(self) -> usize {
        self as usize
    }
}

/// What is kept.
#[derive(Debug)]
pub struct History(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    samples: [Ring<Arc<Sample>>; 3],
    happenings: Ring<Happening>,
}

impl Default for History {
    fn default() -> Self {
        let samples = Stretch::ALL.map(|stretch| Ring::new(stretch.samples_max()));
        Self(Mutex::new(Kept { samples, happenings: Ring::new(HAPPENINGS_MAX) }))
    }
}

impl History {
    /// Keeps a sample of the resolution of that stretch.
    pub fn on_sample(&self, stretch: Stretch, sample: Arc<Sample>) {
        if let Some(ring) = self.0.lock().samples.get_mut(stretch.place()) {
            ring.push(sample);
        }
    }

    /// Keeps a happening.
    pub fn on_happening(&self, happening: Happening) {
        self.0.lock().happenings.push(happening);
    }

    /// The last second.
    pub fn last(&self) -> Option<Arc<Sample>> {
        let kept = self.0.lock();
        kept.samples.get(Stretch::TenMinutes.place()).and_then(Ring::last).cloned()
    }

    /// The last samples of a resolution, oldest first.
    pub fn samples(&self, stretch: Stretch) -> Vec<Arc<Sample>> {
        let kept = self.0.lock();
        kept.samples.get(stretch.place()).map(|ring| ring.iter().cloned().collect()).unwrap_or_default()
    }

    /// What happened since then, oldest first.
    pub fn happenings(&self, since_ms: UnixMs) -> Vec<Happening> {
        let kept = self.0.lock();
        let mut found: Vec<Happening> =
            kept.happenings.iter().filter(|happening| happening.at_ms >= since_ms).cloned().collect();
        // What other nodes tell comes late.
        found.sort_by_key(|happening| happening.at_ms);
        found
    }

    /// What was in a resolution for so long, up to now.
    pub fn view(&self, stretch: Stretch, length: Duration, node: &str, now_ms: UnixMs) -> TrafficView {
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let since_ms = now_ms.saturating_sub(length_ms);
        let samples = self.samples(stretch);
        let recent = samples.iter().filter(|sample| sample.at_ms >= since_ms);
        TrafficView {
            node: node.to_owned(),
            step_ms: stretch.step_ms(),
            samples: recent.map(|sample| Sample::clone(sample)).collect(),
            happenings: self.happenings(since_ms),
            now_ms,
        }
    }
}

#[cfg(test)]
mod tests;
