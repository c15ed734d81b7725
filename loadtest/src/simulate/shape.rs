//! How a load changes with time, as a multiple of what the node can do.

use buslane_shared::Nanos;

/// A load over time.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Straight lines between these points, in seconds; before the first and after the last it stays.
    Lines(Vec<(f64, f64)>),
    /// `before`, and then `mean` plus or minus `swing`, one period after the other, each longer than the one before: from
    /// 0.1 s to 10 s.
    Waves {
        /// Seconds until the waves begin.
        from: f64,
        /// Until then.
        before: f64,
        /// In the middle.
        mean: f64,
        /// How far it goes to each side.
        swing: f64,
    },
    /// `mean`, and for `long` of each `every` seconds `times` as much.
    Bursts {
        /// Between the bursts.
        mean: f64,
        /// How much more.
        times: f64,
        /// Seconds from burst to burst.
        every: f64,
        /// Seconds of a burst.
        long: f64,
    },
}

/// Each period of [`Shape::Waves`] is this much longer than the one before.
const LONGER: f64 = 1.1;
const PERIOD_MIN: f64 = 0.1;
const PERIOD_MAX: f64 = 10.0;

impl Shape {
    /// The same load always.
    pub fn level(load: f64) -> Self {
        Self::Lines(vec![(0.0, load)])
    }

    /// The load at this time.
    pub fn at(&self, now: Nanos) -> f64 {
        let seconds = now as f64 / 1e9;
        match self {
            Self::Lines(points) => on_lines(points, seconds),
            Self::Waves { from, before, .. } if seconds < *from => *before,
            Self::Waves { from, mean, swing, .. } => mean + swing * wave(seconds - from),
            Self::Bursts { mean, times, every, long } => {
                let is_burst = seconds >= *every && seconds % every < *long;
                if is_burst { mean * times } else { *mean }
            }
        }
    }
}

fn on_lines(points: &[(f64, f64)], seconds: f64) -> f64 {
    let mut before = points.first().copied().unwrap_or_default();
    for &(at, load) in points {
        if seconds < at {
            let part = (seconds - before.0) / (at - before.0);
            return if part <= 0.0 { before.1 } else { before.1 + part * (load - before.1) };
        }
        before = (at, load);
    }
    before.1
}

/// A square wave, -1 or 1, whose periods grow from [`PERIOD_MIN`] to [`PERIOD_MAX`] and begin again.
fn wave(seconds: f64) -> f64 {
    let (mut left, mut period) = (seconds, PERIOD_MIN);
    while left >= period {
        left -= period;
        period *= LONGER;
        if period > PERIOD_MAX {
            period = PERIOD_MIN;
        }
    }
    if left < period / 2.0 { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn lines_stay_before_and_after_and_are_straight_between() {
        let shape = Shape::Lines(vec![(10.0, 1.0), (20.0, 3.0), (20.0, 0.5)]);
        let at = |s: Nanos| shape.at(s * SECOND);
        assert_eq!([at(0), at(10), at(15), at(20), at(99)], [1.0, 1.0, 2.0, 0.5, 0.5]);
        assert_eq!(Shape::level(0.3).at(7 * SECOND), 0.3);
    }

    #[test]
    fn waves_are_around_their_mean_in_all_periods() {
        let shape = Shape::Waves { from: 0.0, before: 0.1, mean: 0.5, swing: 0.2 };
        let ms: Vec<f64> = (0..110_000).map(|n| shape.at(n * 1_000_000)).collect();
        assert!((ms.iter().sum::<f64>() / ms.len() as f64 - 0.5).abs() < 0.02);
        assert!(ms.iter().all(|l| (l - 0.5).abs() > 0.19));
    }

    #[test]
    fn bursts_come_and_go_but_not_at_the_start() {
        let shape = Shape::Bursts { mean: 0.2, times: 3.0, every: 2.0, long: 0.2 };
        let at = |ms: Nanos| shape.at(ms * 1_000_000);
        assert_eq!(
            [at(100), at(1_999), at(2_100), at(2_300)].map(|l| (l * 10.0).round()),
            [2.0, 2.0, 6.0, 2.0]
        );
    }
}
