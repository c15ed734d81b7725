//! The middle of some values and how far they usually are from it, such that a few wild ones change neither.

/// From the median of distances to a standard deviation, for values that are spread normally.
const TO_DEVIATION: f64 = 1.4826;

/// The middle value; of two middle ones their mean. None: there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied()?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted.len().checked_sub(1).and_then(|last| sorted.get(last / 2)).copied()?;
    Some(f64::midpoint(lower, upper))
}

/// How far values usually are from `middle`: the median of the distances, as a standard deviation.
pub fn spread(values: &[f64], middle: f64) -> f64 {
    let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    median(&distances).unwrap_or(0.0) * TO_DEVIATION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_nothing_one_two_and_many() {
        let cases: [(&[f64], Option<f64>); 5] = [
            (&[], None),
            (&[3.0], Some(3.0)),
            (&[4.0, 1.0], Some(2.5)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[1.0, 1e9, 2.0, 3.0], Some(2.5)),
        ];
        for (values, middle) in cases {
            assert_eq!(median(values), middle, "{values:?}");
        }
    }

    #[test]
    fn a_wild_value_does_not_widen_the_spread() {
        let calm = [10.0, 11.0, 9.0, 10.5, 9.5];
        let wild = [10.0, 11.0, 9.0, 10.5, 9_500.0];
        assert!((spread(&calm, 10.0) - spread(&wild, 10.0)).abs() < 0.75);
        assert!(spread(&[7.0; 9], 7.0).abs() < f64::EPSILON);
    }
}
