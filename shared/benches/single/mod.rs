//! Percentiles of single decisions: a mean hides the one in a hundred that allocates or misses the cache.
//!
//! The cost of reading the clock is in them; [`clock`] prints it, to be read beside them.

use std::time::Instant;

/// Decisions that are timed one by one.
const SINGLE: usize = 200_000;

/// Times a decision again and again, and prints a line.
pub fn one_by_one(name: &str, mut decide: impl FnMut()) {
    let mut nanos: Vec<u128> = (0..SINGLE)
        .map(|_| {
            let began = Instant::now();
            decide();
            began.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let at = |share: f64| nanos.get((SINGLE as f64 * share) as usize).copied().unwrap_or_default();
    println!("{name}, one by one: p50 {} ns, p99 {} ns, p99.9 {} ns", at(0.5), at(0.99), at(0.999));
}

/// What the clock itself costs.
pub fn clock(_: &mut criterion::Criterion) {
    one_by_one("reading the clock", || ());
}
