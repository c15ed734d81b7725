//! How long answers took, counted by bounds that are the same everywhere.
//!
//! Why it exists: a count is one addition, and counts of two seconds or two nodes can be added and subtracted, which percentiles
//! cannot. Four bounds to the octave keep the error of a percentile under a tenth. Nothing here allocates.

/// Quarters of an octave above 50 us, in nanoseconds: 50 us times 2^(0/4) to 2^(3/4).
const QUARTERS_NS: [u64; 4] = [50_000, 59_460, 70_711, 84_090];

/// How many bounds there are: 50 us to 62 s, beyond the longest deadline.
const BOUNDS: usize = 82;

/// Upper bounds, microseconds.
pub const LATENCY_BOUNDS_US: [u64; BOUNDS] = bounds();

/// How many counts there are: one for each bound, and one for what took longer than the last.
pub const LATENCY_COUNTS: usize = BOUNDS + 1;

#[allow(clippy::indexing_slicing)] // Evaluated by the compiler: an index out of range would not compile.
const fn bounds() -> [u64; BOUNDS] {
    let mut bounds = [0; BOUNDS];
    let mut n = 0;
    while n < BOUNDS {
        bounds[n] = (QUARTERS_NS[n % 4] << (n / 4)) / 1_000;
        n += 1;
    }
    bounds
}

/// Which count is that of an answer that took this long.
pub fn latency_place(took_us: u64) -> usize {
    LATENCY_BOUNDS_US.partition_point(|bound| *bound < took_us)
}

/// The time that this share of the answers (0.99: all but the hundredth part) took at most, microseconds. None: there were none. What
/// took longer than the last bound is given as that bound.
pub fn percentile_us(counts: &[u64], share: f64) -> Option<u64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = ((all as f64 * share).ceil() as u64).clamp(1, all);
    let mut seen = 0;
    let place = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    })?;
    let upper = LATENCY_BOUNDS_US.get(place).or(LATENCY_BOUNDS_US.last()).copied()?;
    let lower = place.checked_sub(1).and_then(|before| LATENCY_BOUNDS_US.get(before)).copied();
    // The geometric middle is never further from either end than half the step between them.
    Some(lower.map_or(upper, |lower| ((lower as f64 * upper as f64).sqrt()) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_rise_by_less_than_a_fifth_from_50_us_to_a_minute() {
        assert_eq!(LATENCY_BOUNDS_US[0], 50);
        assert!(LATENCY_BOUNDS_US[BOUNDS - 1] > 60_000_000);
        for pair in LATENCY_BOUNDS_US.windows(2) {
            let rise = pair[1] as f64 / pair[0] as f64;
            assert!((1.15..=1.21).contains(&rise), "{pair:?}");
        }
    }

    #[test]
    fn each_time_has_its_place() {
        for (took_us, place) in [(0, 0), (50, 0), (51, 1), (59, 1), (60, 2), (u64::MAX, BOUNDS)] {
            assert_eq!(latency_place(took_us), place, "{took_us}");
        }
        for (n, bound) in LATENCY_BOUNDS_US.into_iter().enumerate() {
            assert_eq!((latency_place(bound), latency_place(bound + 1)), (n, n + 1));
        }
    }

    #[test]
    fn a_percentile_is_at_most_a_tenth_from_the_truth() {
        for truth_us in [60, 333, 1_000, 7_777, 48_000, 950_000, 59_000_000] {
            let mut counts = [0; LATENCY_COUNTS];
            counts[latency_place(truth_us)] = 10;
            for share in [0.01, 0.5, 0.99, 1.0] {
                let told = percentile_us(&counts, share).unwrap() as f64;
                assert!((told / truth_us as f64 - 1.0).abs() <= 0.1, "{truth_us}: {told}");
            }
        }
    }

    #[test]
    fn the_hundredth_part_is_left_out() {
        let mut counts = [0; LATENCY_COUNTS];
        (counts[latency_place(100)], counts[latency_place(1_000_000)]) = (99, 1);
        assert!(percentile_us(&counts, 0.99).unwrap() < 120);
        assert!(percentile_us(&counts, 0.991).unwrap() > 900_000);
        assert_eq!(percentile_us(&[0; LATENCY_COUNTS], 0.5), None);
        counts = [0; LATENCY_COUNTS];
        counts[BOUNDS] = 1;
        assert_eq!(percentile_us(&counts, 0.5), LATENCY_BOUNDS_US.last().copied(), "no longer than is known");
    }
}
