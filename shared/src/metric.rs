//! What a metric is called and what it says: one row of a crate's registry.
//!
//! Why it exists: a number that nobody explains is not read at three in the morning. Every crate lists its metrics beside the code
//! that counts them, so that `/metrics` explains itself and the documented list is made from the same rows. It only names: counting is
//! done where things happen.

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its whole name: `buslane_<part>_…`.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What one of it is.
    pub unit: Unit,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up, until the process ends.
    Counter,
    /// Up and down.
    Gauge,
    /// Many values, counted by size.
    Histogram,
}

/// What one of a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things: requests, sessions, files.
    Count,
    /// Things in a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of a whole, 0 to 1.
    Share,
    /// A name that is written as a number; the help says which is which.
    Code,
}

impl Metric {
    /// Things that are counted.
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, unit: Unit::Count, labels, help }
    }

    /// A value of now.
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, unit, labels, help }
    }

    /// How long something takes.
    pub const fn seconds(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, unit: Unit::Seconds, labels, help }
    }

    /// The same, in another unit.
    pub const fn in_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }
}

impl Kind {
    /// As documents say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// As documents say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::PerSecond => "per second",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Share => "share",
            Self::Code => "code",
        }
    }
}
