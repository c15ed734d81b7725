//! When single things are due, from a rate over time: pure, and the same for the same seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Rate, Unit};

/// Things of one rate at most: 80 MB of offsets. A storm that wants more is a mistake in the file.
pub const DUE_MAX: f64 = 10_000_000.0;

/// More than a driver can ever plan.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "the rate adds up to {0:.0} things, and {DUE_MAX:.0} is the most that can be planned: lower its points, or --scale"
)]
pub struct TooMany(f64);

/// Multiples of capacity at most: what is more is a mistake in the unit.
const MULTIPLE_MAX: f64 = 1_000.0;

/// What is wrong with a rate, and at which of its points.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WrongPoint {
    /// Its place, from 0.
    pub point: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Rate {
    /// Whether it can be planned: what it is by itself, without the run that it is part of.
    pub fn check(&self) -> Result<(), WrongPoint> {
        let wrong = |point, message: &str| Err(WrongPoint { point, message: message.to_owned() });
        if self.points.len() < 2 {
            return wrong(0, "a rate has at least two points: [[0, 1.0], [10, 1.0]] is 1.0 for ten seconds");
        }
        let mut before = f64::NEG_INFINITY;
        for (point, [at_s, amount]) in self.points.iter().enumerate() {
            if !at_s.is_finite() || !amount.is_finite() || *amount < 0.0 {
                return wrong(point, "a point is [seconds, amount], and an amount is 0 or more");
            }
            if *at_s < before {
                return wrong(
                    point,
                    "it is earlier than the point before it: write points in the order of time",
                );
            }
            if self.unit != Unit::PerS && *amount > MULTIPLE_MAX {
                return wrong(
                    point,
                    "more than 1000 times the capacity: add unit = \"per-s\" if this is a number a second",
                );
            }
            before = *at_s;
        }
        match (self.unit, TooMany(self.total())) {
            (Unit::PerS, too_many) if too_many.0 > DUE_MAX => wrong(0, &too_many.to_string()),
            _ => Ok(()),
        }
    }

    /// The amount at a moment.
    pub fn at(&self, offset_s: f64) -> f64 {
        // Of two points at the same second the later one holds from there on.
        let segment = self.segments().rfind(|[from, to]| from[0] <= offset_s && offset_s < to[0]);
        segment
            .map_or(0.0, |[from, to]| from[1] + (to[1] - from[1]) * (offset_s - from[0]) / (to[0] - from[0]))
    }

    /// The largest amount.
    pub fn max(&self) -> f64 {
        self.points.iter().map(|point| point[1]).fold(0.0, f64::max)
    }

    /// The sum over time.
    pub fn total(&self) -> f64 {
        self.segments().map(|[from, to]| area(from, to)).sum()
    }

    fn segments(&self) -> impl DoubleEndedIterator<Item = [[f64; 2]; 2]> {
        self.points.iter().zip(self.points.iter().skip(1)).map(|(from, to)| [*from, *to])
    }
}

fn area(from: [f64; 2], to: [f64; 2]) -> f64 {
    (to[0] - from[0]) * (from[1] + to[1]) / 2.0
}

/// The moments at which single things are due, in seconds from the storm's beginning, ascending. The n-th one lies where the
/// rate has added up to n and a part that the seed draws.
pub fn due_offsets(rate: &Rate, per_unit: f64, scale: f64, seed: u64) -> Result<Vec<f64>, TooMany> {
    let factor = (per_unit * scale).max(0.0);
    let total = rate.total() * factor;
    if total.is_nan() || total > DUE_MAX {
        return Err(TooMany(total));
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut due = Vec::with_capacity(total as usize + 1);
    let mut before = 0.0;
    for [from, to] in rate.segments() {
        let sum = area(from, to) * factor;
        while (due.len() as f64) + 0.999 < before + sum {
            let wanted = due.len() as f64 + random.random_range(0.0..0.999) - before;
            due.push(from[0] + reach(from, to, factor, wanted.max(0.0)));
        }
        before += sum;
    }
    // The part that is drawn may put two of them in another order where the rate jumps.
    due.sort_by(f64::total_cmp);
    Ok(due)
}

/// How long a line between two points needs to add up to `wanted`.
fn reach(from: [f64; 2], to: [f64; 2], factor: f64, wanted: f64) -> f64 {
    let length = to[0] - from[0];
    let (begin, slope) = (from[1] * factor, (to[1] - from[1]) * factor / length.max(f64::MIN_POSITIVE));
    let time = if slope.abs() < 1e-12 {
        wanted / begin.max(f64::MIN_POSITIVE)
    } else {
        // begin * t + slope * t^2 / 2 = wanted
        let root = (begin * begin + 2.0 * slope * wanted).max(0.0).sqrt();
        2.0 * wanted / (begin + root).max(f64::MIN_POSITIVE)
    };
    time.clamp(0.0, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(points: &[[f64; 2]]) -> Rate {
        Rate { unit: Unit::PerS, points: points.to_vec() }
    }

    #[test]
    fn amounts_are_lines_between_points() {
        let rate = rate(&[[-1.0, 2.0], [1.0, 4.0], [1.0, 10.0], [2.0, 0.0]]);
        for (at, amount) in [(-2.0, 0.0), (-1.0, 2.0), (0.0, 3.0), (1.0, 10.0), (1.5, 5.0), (2.0, 0.0)] {
            assert!((rate.at(at) - amount).abs() < 1e-9, "{at}: {}", rate.at(at));
        }
        assert_eq!((rate.max(), rate.total()), (10.0, 11.0));
    }

    #[test]
    fn what_cannot_be_planned_is_named_with_its_point() {
        for (points, point, word) in [
            (&[[0.0, 1.0]][..], 0, "at least two points"),
            (&[[0.0, 1.0], [1.0, -1.0]], 1, "0 or more"),
            (&[[0.0, f64::NAN], [1.0, 1.0]], 0, "0 or more"),
            (&[[0.0, 1.0], [f64::INFINITY, 1.0]], 1, "[seconds, amount]"),
            (&[[0.0, 1.0], [5.0, 1.0], [4.0, 1.0]], 2, "order of time"),
            (&[[0.0, 1e9], [60.0, 1e9]], 0, "most that can be planned"),
        ] {
            let wrong = rate(points).check().unwrap_err();
            assert!(wrong.point == point && wrong.message.contains(word), "{points:?}: {wrong:?}");
        }
        let multiples = Rate { unit: Unit::Capacity, ..rate(&[[0.0, 1.0], [60.0, 2_000.0]]) };
        assert!(multiples.check().unwrap_err().message.contains("per-s"));
        rate(&[[-1.0, 0.0], [0.0, 0.0], [0.0, 9.0], [60.0, 9.0]]).check().unwrap();
    }

    #[test]
    fn nothing_is_due_where_nothing_is_wanted() {
        for (points, factor) in
            [(&[][..], 1.0), (&[[0.0, 0.0], [9.0, 0.0]], 1.0), (&[[0.0, 5.0], [9.0, 5.0]], 0.0)]
        {
            assert_eq!(due_offsets(&rate(points), 1.0, factor, 1), Ok(Vec::new()));
        }
    }

    #[test]
    fn too_much_is_refused() {
        let error = due_offsets(&rate(&[[0.0, 1e9], [60.0, 1e9]]), 1.0, 1.0, 1).unwrap_err();
        assert!(error.to_string().contains("--scale"), "{error}");
    }

    #[test]
    fn a_step_begins_at_once() {
        let due = due_offsets(&rate(&[[-10.0, 1.0], [0.0, 1.0], [0.0, 1000.0], [1.0, 1000.0]]), 1.0, 1.0, 3)
            .unwrap();
        let before = due.iter().filter(|at| **at < 0.0).count();
        assert!((9..=11).contains(&before) && (1009..=1010).contains(&due.len()), "{before} {}", due.len());
        assert!(due.iter().find(|at| **at >= 0.0).unwrap() < &0.01);
    }

    proptest! {
        #[test]
        fn things_add_up_to_the_rate(
            steps in proptest::collection::vec((0.1f64..5.0, 0.0f64..200.0), 1..8), scale in 0.0f64..3.0, seed: u64,
        ) {
            let mut points = vec![[-3.0, 5.0]];
            for (length, amount) in steps {
                points.push([points.last().unwrap()[0] + length, amount]);
            }
            let rate = rate(&points);
            let due = due_offsets(&rate, 2.0, scale, seed).unwrap();
            prop_assert!((due.len() as f64 - rate.total() * 2.0 * scale).abs() <= 1.0);
            prop_assert!(due.is_sorted());
            let (first, last) = (points[0][0], points.last().unwrap()[0]);
            prop_assert!(due.iter().all(|at| (first..=last).contains(at)));
            prop_assert_eq!(due, due_offsets(&rate, 2.0, scale, seed).unwrap());
        }
    }
}
