//! Scales and ticks of charts: pure functions from what is shown to where it goes.

use super::words;

/// From values to a place between 0 (bottom) and 1 (top).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// From the first to the second, both above 0, by orders of magnitude.
    Log(f64, f64),
}

impl Scale {
    /// From 0 to a round number that holds all values.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        if most <= 0.0 {
            return Self::Linear(1.0);
        }
        let step = round_step(most / 4.0);
        Self::Linear((most / step - 1e-9).ceil() * step)
    }

    /// Whole orders of magnitude that hold all values above 0.
    pub fn log(values: impl Iterator<Item = f64>) -> Self {
        let good = values.filter(|value| value.is_finite() && *value > 0.0);
        let (least, most) =
            good.fold((f64::INFINITY, 0.0_f64), |(least, most), v| (least.min(v), most.max(v)));
        if most <= 0.0 {
            return Self::Log(0.1, 10.0);
        }
        let (from, to) = (order(least.log10().floor()), order((most * (1.0 - 1e-9)).log10().ceil()));
        Self::Log(from, if to > from { to } else { from * 10.0 })
    }

    /// Where a value is; what is beyond an end is at that end.
    pub fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear(most) => value / most,
            Self::Log(from, to) => (value.max(from).log10() - from.log10()) / (to.log10() - from.log10()),
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Values with a line and a label, `wanted` of them or a few less.
    pub fn ticks(self, wanted: usize) -> Vec<f64> {
        match self {
            Self::Linear(most) => multiples(0.0, most, round_step(most / wanted.max(1) as f64)),
            Self::Log(from, to) => log_ticks(from, to, wanted),
        }
    }
}

fn order(exponent: f64) -> f64 {
    10_f64.powf(exponent)
}

fn log_ticks(from: f64, to: f64, wanted: usize) -> Vec<f64> {
    let decades = (to / from).log10().round().max(1.0) as usize;
    let stride = decades.div_ceil(wanted.max(1));
    let begin = from.log10().round();
    (0..=decades).step_by(stride).map(|n| order(begin + n as f64)).collect()
}

/// The least of 1, 2, 5, 10, 20, ... that is not below.
fn round_step(least: f64) -> f64 {
    let unit = order(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| unit * factor >= least * (1.0 - 1e-9));
    unit * factor.unwrap_or(10.0)
}

fn multiples(from: f64, to: f64, step: f64) -> Vec<f64> {
    let first = (from / step - 1e-9).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last).map(|n| n as f64 * step).collect()
}

/// Steps of a time axis, in seconds.
const TIME_STEPS_S: [f64; 15] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0];

/// Times with a label, `wanted` of them at most or a few more.
pub fn time_ticks(from_s: f64, to_s: f64, wanted: usize) -> Vec<f64> {
    let least = (to_s - from_s) / wanted.max(1) as f64;
    let step = TIME_STEPS_S.into_iter().find(|step| *step >= least).unwrap_or(86_400.0);
    multiples(from_s, to_s, step)
}

/// A time on its axis: `0`, `20 s`, `-1 min`.
pub fn time_label(at_s: f64, span_s: f64) -> String {
    if at_s == 0.0 {
        "0".to_owned()
    } else if span_s > 360.0 && (at_s / 60.0).fract() == 0.0 {
        format!("{} min", words::count(at_s / 60.0))
    } else {
        format!("{} s", words::count(at_s))
    }
}

/// An amount on its axis, short: `2.5k`, `1M`.
pub fn amount_label(value: f64) -> String {
    match value.abs() {
        huge if huge >= 1e6 => format!("{}M", words::three_digits(value / 1e6)),
        large if large >= 1e4 => format!("{}k", words::three_digits(value / 1e3)),
        _ => words::three_digits(value),
    }
}

/// A latency on its axis: `0.1 ms`, `10 s`.
pub fn latency_label(ms: f64) -> String {
    if ms < 1e3 { format!("{} ms", words::digits(ms, 6)) } else { format!("{} s", amount_label(ms / 1e3)) }
}

/// Rows for labels that must not touch each other: the first row in which each has room, `None` where none has.
/// `labels`: where each begins and how wide it is, by their beginning.
pub fn rows(labels: &[(f64, f64)], rows_max: usize) -> Vec<Option<usize>> {
    let mut taken_to = vec![f64::NEG_INFINITY; rows_max];
    let place = |(begin, width): &(f64, f64)| {
        let row = taken_to.iter().position(|end| end <= begin)?;
        *taken_to.get_mut(row)? = begin + width;
        Some(row)
    };
    labels.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_scale_ends_at_a_round_number() {
        for (most, end, ticks) in [
            (29_000.0, 30_000.0, 4),
            (212.0, 250.0, 4),
            (1.0, 1.0, 3),
            (0.0, 1.0, 3),
            (0.03, 0.03, 4),
            (f64::NAN, 1.0, 3),
        ] {
            let scale = Scale::linear([most].into_iter());
            let Scale::Linear(found) = scale else { panic!("{scale:?}") };
            assert!(found >= end * 0.8 - 1e-9 && found <= end * 1.34, "{most}: {found}");
            let count = scale.ticks(4).len();
            assert!((ticks - 1..=ticks + 2).contains(&count), "{most}: {:?}", scale.ticks(4));
        }
    }

    #[test]
    fn a_log_scale_has_whole_orders() {
        let scale = Scale::log([0.09, 0.6, 1_830.0].into_iter());
        let Scale::Log(from, to) = scale else { panic!("{scale:?}") };
        assert!((from - 0.01).abs() < 1e-9 && (to - 10_000.0).abs() < 1e-6, "{from} {to}");
        assert_eq!(scale.ticks(6).len(), 7);
        assert_eq!(scale.ticks(3).len(), 4);
        assert!((scale.place(10.0) - 0.5).abs() < 1e-9);
        assert_eq!((scale.place(0.0), scale.place(1e9)), (0.0, 1.0));
        assert_eq!(Scale::log([1.0].into_iter()), Scale::Log(1.0, 10.0));
        assert_eq!(Scale::log(std::iter::empty()), Scale::Log(0.1, 10.0));
    }

    #[test]
    fn time_has_sensible_ticks() {
        for (from, to, wanted, ticks) in [
            (-10.0, 50.0, 6, vec![-10.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
            (0.0, 1.0, 8, vec![0.0, 1.0]),
            (-60.0, 3_540.0, 8, vec![0.0, 600.0, 1_200.0, 1_800.0, 2_400.0, 3_000.0]),
        ] {
            assert_eq!(time_ticks(from, to, wanted), ticks);
        }
        assert_eq!(time_label(0.0, 60.0), "0");
        assert_eq!(time_label(-10.0, 60.0), "-10 s");
        assert_eq!(time_label(600.0, 3_600.0), "10 min");
        assert_eq!(time_label(90.0, 3_600.0), "90 s");
        assert_eq!((amount_label(2_500.0), amount_label(25_000.0)), ("2,500".to_owned(), "25k".to_owned()));
        assert_eq!((amount_label(1_200_000.0), amount_label(0.25)), ("1.2M".to_owned(), "0.25".to_owned()));
    }

    #[test]
    fn latencies_have_units() {
        for (ms, wanted) in [(0.01, "0.01 ms"), (100.0, "100 ms"), (1_000.0, "1 s"), (100_000.0, "100 s")] {
            assert_eq!(latency_label(ms), wanted);
        }
    }

    #[test]
    fn labels_that_would_touch_go_to_the_next_row() {
        let labels = [(0.0, 50.0), (10.0, 50.0), (20.0, 50.0), (60.0, 10.0)];
        assert_eq!(rows(&labels, 2), [Some(0), Some(1), None, Some(0)]);
        assert_eq!(rows(&[], 2), []);
    }
}
