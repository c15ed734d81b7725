//! The figures of a run.

use buslane_shared::Nanos;
use buslane_shared::wire::Posture;
use serde::Serialize;

use super::ideal::Ideal;
use super::record::{Person, Record, WINDOW, Window};
use super::scenario::Scenario;
use super::world::Outcome;

/// People's delays may be so much longer than unloaded before they count as harmed.
pub const HARMED: f64 = 1.5;

/// One run, as it is printed with `--json`. Times are in milliseconds, shares from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What happened.
    pub scenario: &'static str,
    /// Who controlled.
    pub policy: &'static str,
    /// Of the calls and the clients.
    pub seed: u64,
    /// People's calls that were answered in time, from the surge's start until it is caught up with.
    pub fg_success: f64,
    /// 99th percentile of people's delays as a multiple of the unloaded one of the same policy and seed.
    pub fg_p99_ratio: f64,
    /// 99th percentile of people's delays.
    pub fg_p99_ms: f64,
    /// From the surge's start until no window of 100 ms harms people any more; null: never.
    pub protect_ms: Option<f64>,
    /// From the surge's start to EMERGENCY (negative: armed beforehand); null: never, or there is no such thing.
    pub enter_ms: Option<f64>,
    /// From the surge's start until all its background logins are in, as a multiple of the time until the ideal
    /// node has caught up with everything (so it may be a little under 1); null: some never were.
    pub drain_ratio: Option<f64>,
    /// Attempts of the phones that listen and were not let in at once; null: there were none.
    pub attempts_per_deferred_login: Option<f64>,
    /// Part of the workers' time that was spent on what nobody waited for any more.
    pub wasted: f64,
    /// How often the posture changed.
    pub posture_changes: usize,
    /// Work that somebody waited for, as a part of what the ideal node does in that time.
    pub work_conservation: f64,
    /// Jain's index over people's success: 1 when all fare alike.
    pub jain: f64,
    /// Over every event of the run.
    pub trace_hash: String,
    /// What targets need beside this.
    #[serde(skip)]
    pub beside: Beside,
}

/// Figures that are not printed but held against targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// 99th percentile of people's delays from the attempt that was answered, as a multiple of the unloaded one.
    pub admitted_ratio: f64,
    /// From the end of the surge until 99 % of people's calls are answered in every window.
    pub goodput_back_ms: Option<f64>,
    /// Part of the workers' time that background had during the surge.
    pub background_share: f64,
    /// Attempts of people that were refused.
    pub refusals: u64,
    /// Times that EMERGENCY was entered.
    pub entries: usize,
    /// Whether the run ended in NORMAL, or without a posture.
    pub ended_normal: bool,
    /// Changes of the posture a minute.
    pub changes_per_minute: f64,
}

/// 99th percentile of people's delays.
pub fn p99(record: &Record) -> Nanos {
    (record.delays.percentiles().p99 * 1e6) as Nanos
}

/// The figures of an outcome, held against people's unloaded 99th percentile.
pub fn row(
    scenario: &Scenario,
    policy: &'static str,
    seed: u64,
    workers: u32,
    outcome: &Outcome,
    ideal: &Ideal,
    unloaded_p99: Nanos,
) -> Row {
    let record = &outcome.record;
    let start = scenario.surge.0;
    let entered = outcome.postures.iter().find(|(_, p)| *p == Posture::Emergency);
    let since_start = |at: Nanos| (at as f64 - start as f64) / 1e6;
    let drained = record.logins_out == 0 && record.last_login > 0;
    let deferred = record.deferred;
    Row {
        scenario: scenario.name,
        policy,
        seed,
        fg_success: rounded(success(&record.people)),
        fg_p99_ratio: rounded(p99(record) as f64 / unloaded_p99.max(1) as f64),
        fg_p99_ms: rounded(p99(record) as f64 / 1e6),
        protect_ms: protected(&record.windows, start, scenario.horizon),
        enter_ms: entered.map(|(at, _)| rounded(since_start(*at))),
        drain_ratio: drained.then(|| rounded(since_start(record.last_login) / since_start(ideal.caught_up))),
        attempts_per_deferred_login: (deferred.logins > 0)
            .then(|| rounded(deferred.attempts as f64 / deferred.logins as f64)),
        wasted: rounded(record.wasted / record.spent.max(1.0)),
        posture_changes: outcome.postures.len().saturating_sub(1),
        work_conservation: rounded(record.useful / ideal.work.max(1.0)),
        jain: rounded(jain(&record.people)),
        trace_hash: format!("{:016x}", outcome.digest),
        beside: beside(scenario, workers, outcome, unloaded_p99),
    }
}

fn beside(scenario: &Scenario, workers: u32, outcome: &Outcome, unloaded_p99: Nanos) -> Beside {
    let record = &outcome.record;
    let (start, end) = scenario.surge;
    let surge = (end - start) as f64;
    let admitted = record.admitted.percentiles().p99 * 1e6;
    let postures = &outcome.postures;
    Beside {
        admitted_ratio: admitted / unloaded_p99.max(1) as f64,
        goodput_back_ms: goodput_back(&record.windows, end, scenario.horizon),
        background_share: record.background / (surge * f64::from(workers)),
        refusals: record.refusals,
        entries: postures.iter().filter(|(_, p)| *p == Posture::Emergency).count(),
        ended_normal: postures.last().is_none_or(|(_, p)| *p == Posture::Normal),
        changes_per_minute: postures.len().saturating_sub(1) as f64 / (scenario.horizon as f64 / 6e10),
    }
}

fn success(people: &[Person]) -> f64 {
    let (answered, calls) =
        people.iter().fold((0, 0), |(a, c), p| (a + u64::from(p.answered), c + u64::from(p.calls)));
    answered as f64 / calls.max(1) as f64
}

/// Jain, Chiu, Hawe, "A Quantitative Measure of Fairness and Discrimination", DEC TR-301, 1984.
fn jain(people: &[Person]) -> f64 {
    let shares = people.iter().filter(|p| p.calls > 0).map(|p| f64::from(p.answered) / f64::from(p.calls));
    let (n, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(n, s, q), x| (n + 1.0, s + x, q + x * x));
    if squares > 0.0 { sum * sum / (n * squares) } else { 0.0 }
}

/// Whether too many of a window were late or lost: more than one of a hundred, and more than luck explains (three standard
/// deviations), since a window may hold a hundred calls only. Refusals are told by the success.
fn harms(window: &Window) -> bool {
    let expected = f64::from(window.answered + window.lost) / 100.0;
    f64::from(window.late + window.lost) > expected + 3.0 * expected.sqrt() + 1.0
}

/// Too few of a window succeeded: fewer than 99 of a hundred, and fewer than luck explains.
fn fails(window: &Window) -> bool {
    let failed = window.lost + window.refused;
    let expected = f64::from(window.answered + failed) / 100.0;
    f64::from(failed) > expected + 3.0 * expected.sqrt() + 1.0
}

fn protected(windows: &[Window], start: Nanos, horizon: Nanos) -> Option<f64> {
    after_last(windows, start, horizon, harms)
}

fn goodput_back(windows: &[Window], end: Nanos, horizon: Nanos) -> Option<f64> {
    after_last(windows, end, horizon, fails)
}

/// Milliseconds from `from` to the end of the last window of which `bad` is true; none when that lasts to the end.
fn after_last(windows: &[Window], from: Nanos, horizon: Nanos, bad: fn(&Window) -> bool) -> Option<f64> {
    let first = (from / WINDOW) as usize;
    let last = windows.iter().enumerate().skip(first).filter(|(_, w)| bad(w)).map(|(n, _)| n + 1).next_back();
    match last {
        None => Some(0.0),
        Some(last) if last as Nanos * WINDOW + WINDOW >= horizon => None,
        Some(last) => Some((last - first) as f64 * (WINDOW as f64 / 1e6)),
    }
}

/// Six digits are enough for every figure.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn windows(bad: &[usize]) -> Vec<Window> {
        let window = |n: usize| Window {
            answered: 200,
            late: if bad.contains(&n) { 40 } else { 2 },
            ..Window::default()
        };
        (0..100).map(window).collect()
    }

    #[test]
    fn protection_begins_after_the_last_window_that_harms() {
        assert_eq!(protected(&windows(&[]), SECOND, 10 * SECOND), Some(0.0));
        assert_eq!(protected(&windows(&[5, 12, 30]), SECOND, 10 * SECOND), Some(2_100.0));
        assert_eq!(protected(&windows(&[5]), SECOND, 10 * SECOND), Some(0.0), "before the surge");
        assert_eq!(protected(&windows(&[99]), SECOND, 10 * SECOND), None);
    }

    #[test]
    fn luck_harms_nobody() {
        let window = |late, lost| Window { answered: 150, late, lost, refused: 0 };
        assert!(!harms(&window(4, 0)) && !harms(&window(0, 3)));
        assert!(harms(&window(9, 0)) && harms(&window(0, 9)));
    }

    #[test]
    fn fairness_is_one_when_all_fare_alike() {
        let person = |answered| Person { calls: 10, answered };
        assert_eq!(jain(&[person(5), person(5), Person::default()]), 1.0);
        assert_eq!(jain(&[person(10), person(0)]), 0.5);
        assert_eq!(success(&[person(10), person(0)]), 0.5);
    }
}
