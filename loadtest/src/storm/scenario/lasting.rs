//! A scenario with a longer or shorter storm: calm weather for a day, an earthquake for five seconds.
//!
//! A longer storm is the same one again, from its beginning, until its time is over; what came after it comes after it. Pure.

use super::{Event, Rate, Scenario};

impl Scenario {
    /// The same with a storm of so many seconds.
    pub fn lasting(mut self, storm_s: u32) -> Self {
        let (old, new) = (f64::from(self.phases.storm_s), f64::from(storm_s));
        if old <= 0.0 || old == new {
            return self;
        }
        self.phases.storm_s = storm_s;
        for logins in &mut self.logins {
            logins.rate.last(old, new);
        }
        for crowd in &mut self.crowd {
            let rates = [&mut crowd.messages, &mut crowd.fetches].into_iter().flatten();
            rates.for_each(|rate| rate.last(old, new));
        }
        if let Some(flood) = &mut self.flood {
            flood.for_s = until(flood.from_s, flood.for_s, old, new);
        }
        if let Some(silent) = &mut self.silent {
            silent.for_s = until(silent.from_s, silent.for_s, old, new);
        }
        // What the shorter storm does not reach does not happen.
        self.events.retain(|event| event.at_s() >= old || event.at_s() < new);
        for event in self.events.iter_mut().filter(|event| event.at_s() >= old) {
            event.shift(new - old);
        }
        self
    }
}

/// How long something goes on that went on for `for_s`: what ended with the storm does so still.
fn until(from_s: f64, for_s: f64, old: f64, new: f64) -> f64 {
    let end = from_s + for_s;
    let end = if end == old { new } else { end.min(new) };
    (end - from_s).max(0.0)
}

impl Event {
    fn shift(&mut self, by: f64) {
        match self {
            Self::Drop { at_s, .. }
            | Self::BusyNeighbour { at_s, .. }
            | Self::BusyDisk { at_s, .. }
            | Self::Restart { at_s } => *at_s += by,
            Self::Order { at_s, begins_s, .. } => {
                *at_s += by;
                *begins_s = begins_s.map(|begins| begins + by);
            }
        }
    }
}

impl Rate {
    /// What was in a storm of `old` seconds fills one of `new`.
    fn last(&mut self, old: f64, new: f64) {
        let mut points = Vec::new();
        add(&mut points, &self.points, f64::NEG_INFINITY, 0.0, 0.0);
        let mut begin = 0.0;
        while begin < new {
            add(&mut points, &self.points, 0.0, old.min(new - begin), begin);
            begin += old;
        }
        add(&mut points, &self.points, old, f64::INFINITY, new - old);
        self.points = points;
    }
}

/// Adds what lies between two moments, `by` later.
fn add(points: &mut Vec<[f64; 2]>, of: &[[f64; 2]], from: f64, to: f64, by: f64) {
    let cut = of.iter().zip(of.iter().skip(1)).filter_map(|(a, b)| cut(*a, *b, from, to));
    for [a, b] in cut {
        let (a, b) = ([a[0] + by, a[1]], [b[0] + by, b[1]]);
        match points.last().copied() {
            Some(last) if last == a => {}
            // Between two pieces there is nothing.
            Some(last) if last[0] < a[0] => points.extend([[last[0], 0.0], [a[0], 0.0], a]),
            _ => points.push(a),
        }
        points.push(b);
    }
}

/// The part of a line between two moments. `None`: there is none, or the line is a step.
fn cut(a: [f64; 2], b: [f64; 2], from: f64, to: f64) -> Option<[[f64; 2]; 2]> {
    let (begin, end) = (a[0].max(from), b[0].min(to));
    let at = |s: f64| [s, a[1] + (b[1] - a[1]) * (s - a[0]) / (b[0] - a[0])];
    (begin < end).then(|| [at(begin), at(end)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::scenario::{Unit, known};
    use proptest::prelude::*;

    fn stretched(points: &[[f64; 2]], old: f64, new: f64) -> Vec<[f64; 2]> {
        let mut rate = Rate { unit: Unit::PerS, points: points.to_vec() };
        rate.last(old, new);
        rate.check().unwrap();
        rate.points
    }

    #[test]
    fn a_longer_storm_is_the_same_again() {
        let flat = stretched(&[[-5.0, 1.0], [30.0, 1.0]], 10.0, 25.0);
        assert_eq!((flat[0], *flat.last().unwrap()), ([-5.0, 1.0], [45.0, 1.0]));
        assert!(flat.iter().all(|point| point[1] == 1.0));
        let twice = stretched(&[[0.0, 13.0], [3.0, 13.0]], 10.0, 20.0);
        assert_eq!(twice, [[0.0, 13.0], [3.0, 13.0], [3.0, 0.0], [10.0, 0.0], [10.0, 13.0], [13.0, 13.0]]);
    }

    #[test]
    fn a_shorter_storm_is_its_beginning_and_what_comes_after_comes_after() {
        let short = stretched(&[[0.0, 0.0], [10.0, 10.0], [10.0, 1.0], [20.0, 1.0]], 10.0, 4.0);
        assert_eq!(short, [[0.0, 0.0], [4.0, 4.0], [4.0, 1.0], [14.0, 1.0]]);
    }

    #[test]
    fn scenarios_stay_right() {
        for scenario in known::list().unwrap() {
            let name = scenario.name.clone();
            for storm_s in [1, 7, 600] {
                let other = scenario.clone().lasting(storm_s);
                let rates = other.logins.iter().map(|logins| &logins.rate);
                rates.for_each(|rate| rate.check().unwrap_or_else(|e| panic!("{name} {storm_s}: {e}")));
                assert!(other.events.iter().all(|event| event.at_s() < f64::from(storm_s)), "{name}");
            }
            assert_eq!(scenario.clone().lasting(scenario.phases.storm_s), scenario);
        }
    }

    proptest! {
        #[test]
        fn what_is_offered_grows_with_the_storm(
            amounts in proptest::collection::vec(0.0f64..50.0, 2..8), times in 1u32..6,
        ) {
            let last = (amounts.len() - 1) as f64;
            let points: Vec<_> = amounts.iter().enumerate().map(|(s, amount)| [s as f64, *amount]).collect();
            let once = Rate { unit: Unit::PerS, points: points.clone() }.total();
            let mut rate = Rate { unit: Unit::PerS, points };
            rate.last(last, last * f64::from(times));
            prop_assert!((rate.total() - once * f64::from(times)).abs() < 1e-6);
        }
    }
}
