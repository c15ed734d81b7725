//! The node that nobody can build: it never idles while there is work, wastes nothing and knows everything beforehand.
//!
//! It is a fluid: work flows in and out of one tank. Its figures are what work conservation and draining are held against.

use buslane_shared::Nanos;

use super::job::Call;
use super::load::depends;
use super::scenario::{DEPENDENCY, Scenario};

/// Steps of the fluid.
const BIN: Nanos = 10_000_000;

/// What the ideal node does with the calls of a run.
#[derive(Debug, Clone, Copy)]
pub struct Ideal {
    /// When it has caught up with the surge.
    pub caught_up: Nanos,
    /// Until when work conservation is judged.
    pub judged_until: Nanos,
    /// Work that it has done from the surge's start until then, ns of seats.
    pub work: f64,
}

/// Runs the fluid.
pub fn ideal(scenario: &Scenario, calls: &[Call], workers: u32) -> Ideal {
    let (start, end) = scenario.surge;
    let mut calls = calls.iter().peekable();
    let (mut tank, mut done) = (0.0, Vec::new());
    let mut caught_up = None;
    let mut now = 0;
    while now < scenario.horizon {
        now += BIN;
        while let Some(call) = calls.next_if(|c| c.at < now) {
            tank += f64::from(call.cost) + if depends(call) { DEPENDENCY as f64 } else { 0.0 };
        }
        let out = f64::min(tank, f64::from(workers) * scenario.speed(now - BIN) * BIN as f64);
        tank -= out;
        done.push((now, out));
        if tank <= 0.0 && now >= end && caught_up.is_none() {
            caught_up = Some(now);
        }
    }
    let caught_up = caught_up.unwrap_or(scenario.horizon);
    let judged_until = scenario.judged_until.unwrap_or(caught_up);
    let work = done.iter().filter(|(at, _)| *at > start && *at <= judged_until).map(|(_, out)| out).sum();
    Ideal { caught_up, judged_until, work }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::load::calls;
    use crate::simulate::scenario::known;

    #[test]
    fn a_storm_is_over_when_its_work_is_done() {
        let scenario = known("gyeongju").unwrap();
        let calls = calls(&scenario, 16, 1);
        let ideal = ideal(&scenario, &calls, 16);
        // 3 s of 13 and 0.2, then 0.1 and 0.2 more all the time, at 1 a second.
        let seconds = (ideal.caught_up - scenario.surge.0) as f64 / 1e9;
        let expected = 3.0 * (13.2 - 0.3) / 0.7;
        assert!((seconds / expected - 1.0).abs() < 0.05, "{seconds} of {expected}");
        assert!((ideal.work / (16.0 * seconds * 1e9) - 1.0).abs() < 0.01, "it never idles");
    }

    #[test]
    fn half_of_the_workers_do_half_of_the_work() {
        let scenario = known("metastable").unwrap();
        let calls = calls(&scenario, 16, 1);
        let ideal = ideal(&scenario, &calls, 16);
        // 0.3 of capacity too little for 10 s, 0.2 to spare afterwards.
        let seconds = (ideal.caught_up - scenario.surge.1) as f64 / 1e9;
        assert!((13.0..17.0).contains(&seconds), "{seconds}");
    }
}
