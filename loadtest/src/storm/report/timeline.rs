//! The seconds of a run as points of a chart: each second by itself, or several together where a run is too long to draw
//! each of them.

use crate::storm::result::{Run, Second, StreamSecond};
use crate::storm::tally::Stream;

/// More points than this nobody can tell apart.
const POINTS_MAX: usize = 400;

/// What is counted as foreground: what a person waits for. Receipts are the same messages as [`Stream::Talk`].
pub const FOREGROUND: [Stream; 4] = [Stream::Talk, Stream::LookLogin, Stream::Crowd, Stream::Look];

/// What is counted as background, whatever it claims to be.
pub const BACKGROUND: [Stream; 3] = [Stream::WakeLogin, Stream::CatchUp, Stream::Liar];

/// The seconds of a run, one or several to a point.
#[derive(Debug, Clone, Copy)]
pub struct Timeline<'a> {
    seconds: &'a [Second],
    /// Seconds in a point.
    pub step: usize,
    /// Where it begins, seconds from the storm's beginning.
    pub from_s: f64,
    /// Where it ends.
    pub to_s: f64,
}

impl<'a> Timeline<'a> {
    /// Of a run.
    pub fn new(run: &'a Run) -> Self {
        let seconds = run.seconds.as_slice();
        let from_s = seconds.first().map_or(0.0, |second| second.at_s);
        let to_s = seconds.last().map_or(1.0, |second| second.at_s + 1.0).max(from_s + 1.0);
        Self { seconds, step: seconds.len().div_ceil(POINTS_MAX).max(1), from_s, to_s }
    }

    /// The same on a time axis that others share.
    pub fn within(self, (from_s, to_s): (f64, f64)) -> Self {
        Self { from_s, to_s, ..self }
    }

    /// The beginning of each point.
    pub fn begins_s(&self) -> Vec<f64> {
        self.seconds.chunks(self.step).filter_map(|point| Some(point.first()?.at_s)).collect()
    }

    /// So many a second, in the mean of a point.
    pub fn per_s(&self, count: impl Fn(&Second) -> u64) -> Vec<f64> {
        let mean = |point: &[Second]| point.iter().map(&count).sum::<u64>() as f64 / point.len() as f64;
        self.seconds.chunks(self.step).map(mean).collect()
    }

    /// The most of a point; `None`: not measured.
    pub fn most(&self, of: impl Fn(&Second) -> Option<f64>) -> Vec<Option<f64>> {
        let most = |point: &[Second]| point.iter().filter_map(&of).reduce(f64::max);
        self.seconds.chunks(self.step).map(most).collect()
    }

    /// A count of several streams together, a second.
    pub fn streams_per_s(&self, streams: &[Stream], count: impl Fn(&StreamSecond) -> u64) -> Vec<f64> {
        let of = |second: &Second| -> u64 {
            streams.iter().filter_map(|s| second.streams.get(s)).map(&count).sum()
        };
        self.per_s(of)
    }

    /// A latency of a stream; of several seconds the worst.
    pub fn latency_ms(&self, stream: Stream, of: impl Fn(&StreamSecond) -> Option<f64>) -> Vec<Option<f64>> {
        self.most(|second| second.streams.get(&stream).and_then(&of))
    }
}

/// Both together, point by point.
pub fn stacked(below: &[f64], above: &[f64]) -> Vec<f64> {
    below.iter().zip(above).map(|(below, above)| below + above).collect()
}
