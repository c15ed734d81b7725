//! What the usual is after hours, days and weeks, and what is called unusual then.

use proptest::prelude::*;

use super::*;

/// A Monday, 0:00 UTC.
const MONDAY_MS: UnixMs = 1_763_337_600_000;
const MINUTE_MS: u64 = 60_000;
const UNUSUAL: f64 = 4.0;

/// Lives through `hours` hours; `rate` says what the rate is in a minute since the beginning.
fn lived(hours: u64, rate: impl Fn(u64) -> f64) -> (Baseline, UnixMs) {
    let mut baseline = Baseline::default();
    for minute in 0..=hours * 60 {
        baseline.on_minute(MONDAY_MS + minute * MINUTE_MS, rate(minute));
    }
    (baseline, MONDAY_MS + hours * HOUR_MS)
}

/// A day with a quiet night and a loud evening.
fn daily(minute: u64) -> f64 {
    let hour = (minute / 60) % 24;
    10.0 + 5.0 * hour as f64
}

fn basis(hours: u64) -> Option<Basis> {
    let (baseline, now_ms) = lived(hours, |_| 20.0);
    baseline.compare(now_ms, 20.0).map(|trend| trend.basis)
}

#[test]
fn it_says_nothing_before_it_knows_enough_and_then_uses_the_best_it_has() {
    let cases = [
        (0, None),
        (1, None),
        (2, Some(Basis::LastHours)),
        (48, Some(Basis::LastHours)),
        (3 * 24, Some(Basis::HourOfDay)),
        (14 * 24, Some(Basis::HourOfDay)),
        (21 * 24, Some(Basis::HourOfWeek)),
    ];
    for (hours, expected) in cases {
        assert_eq!(basis(hours), expected, "after {hours} h");
    }
}

#[test]
fn half_an_hour_is_no_hour() {
    let mut baseline = Baseline::default();
    for hour in 0..5 {
        for minute in 0..29 {
            baseline.on_minute(MONDAY_MS + hour * HOUR_MS + minute * MINUTE_MS, 20.0);
        }
    }
    assert_eq!(baseline.compare(MONDAY_MS + 5 * HOUR_MS, 20.0), None);
}

#[test]
fn a_surge_is_unusual_at_each_basis_and_the_usual_is_not() {
    for hours in [5, 4 * 24, 22 * 24] {
        let (baseline, now_ms) = lived(hours, daily);
        let now = daily(hours * 60);
        let usual = baseline.compare(now_ms, now).unwrap();
        let surge = baseline.compare(now_ms, now * 5.0).unwrap();
        assert!(usual.score.abs() < UNUSUAL, "{usual:?} after {hours} h");
        assert!(surge.score > UNUSUAL, "{surge:?} after {hours} h");
    }
}

#[test]
fn the_evening_is_usual_in_the_evening_only() {
    let (baseline, midnight_ms) = lived(22 * 24, daily);
    let at = |hour: u64| midnight_ms - 24 * HOUR_MS + hour * HOUR_MS;
    let (evening, night) = (daily(23 * 60), daily(0));
    // The last day is known: what is compared is its first and last hour, before they were lived through.
    assert!(baseline.compare(at(24 + 23), evening).unwrap().score.abs() < UNUSUAL);
    assert!(baseline.compare(at(24), evening).unwrap().score > UNUSUAL);
    assert!(baseline.compare(at(24 + 23), night).unwrap().score < -UNUSUAL);
}

#[test]
fn growth_from_week_to_week_is_usual() {
    let grown = |minute: u64| 100.0 * 1.15_f64.powf(minute as f64 / (7.0 * 24.0 * 60.0));
    let weeks = 8;
    let (baseline, now_ms) = lived(weeks * 7 * 24, grown);
    let trend = baseline.compare(now_ms, grown(weeks * 7 * 24 * 60)).unwrap();
    assert_eq!(trend.basis, Basis::HourOfWeek);
    assert!(trend.score < UNUSUAL, "{trend:?}");
}

#[test]
fn the_morning_of_the_first_day_is_usual() {
    // It doubles each hour from some hour on, and nothing else is known yet.
    let rate = |minute: u64| match minute / 60 {
        0..=3 => 10.0,
        4 => 20.0,
        _ => 40.0,
    };
    let (baseline, now_ms) = lived(6, rate);
    assert!(baseline.compare(now_ms, 80.0).unwrap().score < UNUSUAL);
    assert!(baseline.compare(now_ms, 400.0).unwrap().score > UNUSUAL);
}

#[test]
fn one_bad_night_does_not_become_the_usual() {
    let bad = 14 * 24 * 60..15 * 24 * 60;
    let rate = |minute: u64| if bad.contains(&minute) { 500.0 } else { 20.0 };
    let (baseline, now_ms) = lived(21 * 24, rate);
    let trend = baseline.compare(now_ms, 20.0).unwrap();
    assert!((trend.usual_per_s - 20.0).abs() < 1e-9, "{trend:?}");
    assert!(baseline.compare(now_ms, 500.0).unwrap().score > UNUSUAL);
}

#[test]
fn little_is_never_unusual() {
    let (baseline, now_ms) = lived(21 * 24, |_| 0.0);
    assert!(baseline.compare(now_ms, 1.5).unwrap().score < UNUSUAL);
}

#[test]
fn what_was_changed_on_the_disk_is_found() {
    let (sound, _) = lived(30, |_| 3.0);
    assert!(sound.is_sound());
    let mut short = sound.clone();
    short.cells.pop();
    let mut long = sound.clone();
    long.minutes = vec![1.0; MINUTES_MAX + 1];
    let mut wild = sound;
    wild.minutes = vec![f64::NAN];
    for broken in [short, long, wild] {
        assert!(!broken.is_sound());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes, in whatever order of time: it stays within its bounds and can be read again.
    #[test]
    fn it_is_bounded(minutes in prop::collection::vec((0..40_u64 * 24 * 60, prop::num::f64::ANY), 0..2_000)) {
        let mut baseline = Baseline::default();
        for (minute, rate) in minutes {
            baseline.on_minute(MONDAY_MS + minute * MINUTE_MS, rate);
        }
        prop_assert!(baseline.is_sound());
        let text = serde_json::to_string(&baseline).unwrap();
        prop_assert!(serde_json::from_str::<Baseline>(&text).unwrap().is_sound());
    }

    /// Noise of a fifth around a day that repeats itself is never unusual; five times as much always is.
    #[test]
    fn noise_is_usual_and_a_surge_is_not(
        level in 5.0..5_000.0_f64,
        hours in prop_oneof![Just(73_u64), Just(22 * 24), Just(29 * 24 + 13)],
        noise in prop::collection::vec(0.8..1.2_f64, 97),
    ) {
        let at = |minute: u64| noise[usize::try_from(minute).unwrap() % noise.len()];
        let rate = |minute: u64| level * (1.0 + daily(minute) / 50.0) * at(minute);
        let (baseline, now_ms) = lived(hours, rate);
        let now = rate(hours * 60);
        prop_assert!(baseline.compare(now_ms, now).unwrap().score.abs() < UNUSUAL);
        prop_assert!(baseline.compare(now_ms, now * 5.0).unwrap().score > UNUSUAL);
    }
}
