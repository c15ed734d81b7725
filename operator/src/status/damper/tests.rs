use super::*;
use crate::status::alerts::{self, Rule};
use crate::view::Severity;

fn trouble(rule: &'static Rule, severity: Severity, standing: Standing) -> Trouble {
    let (title, why) = ("It is wrong".to_owned(), "so much".to_owned());
    Trouble { rule, severity, title, why, affects: Vec::new(), standing }
}

fn store(severity: Severity) -> Vec<Trouble> {
    vec![trouble(&alerts::STORE_DOWN, severity, Standing::Cause)]
}

/// Steps in which it is seen (or not), one a second; the number of the first step that changed something, and what.
fn steps(damper: &mut Damper, count: u64, troubles: &[Trouble]) -> Option<(u64, Change)> {
    let mut first = None;
    for n in 1..=count {
        let changes = damper.step(1_000 * n, troubles.to_vec());
        if first.is_none() {
            first = changes.into_iter().next().map(|change| (n, change));
        }
    }
    first
}

#[test]
fn it_must_last_before_it_is_told_and_be_gone_before_it_is_over() {
    let mut damper = Damper::default();
    let hold = u64::from(alerts::STORE_DOWN.hold_s);
    let (step, change) = steps(&mut damper, 30, &store(Severity::Critical)).unwrap();
    let Change::Raised(alert) = change else { panic!("not raised") };
    assert_eq!((step, alert.since_ms, alert.key.as_str()), (hold, 1_000, "store/down"));
    assert_eq!((alert.runbook.as_str(), alert.pages), ("#the-store-does-not-answer", true));
    assert_eq!(damper.alerts().first(), Some(&alert));
    let (step, change) = steps(&mut damper, 30, &[]).unwrap();
    assert_eq!((step, change), (u64::from(alerts::STORE_DOWN.clear_s), Change::Cleared(alert)));
    assert!(damper.alerts().is_empty());
}

#[test]
fn what_comes_and_goes_each_second_is_never_told() {
    let mut damper = Damper::default();
    for _ in 0..100 {
        assert_eq!(damper.step(0, store(Severity::Critical)), []);
        assert_eq!(damper.step(0, Vec::new()), []);
    }
}

#[test]
fn what_comes_back_soon_must_stay_away_longer() {
    let mut damper = Damper::default();
    let clear = u64::from(alerts::STORE_DOWN.clear_s);
    for expected in [clear, 2 * clear, 4 * clear, 8 * clear, 16 * clear, 300, 300] {
        steps(&mut damper, 5, &store(Severity::Critical)).unwrap();
        assert_eq!(steps(&mut damper, expected, &[]).unwrap().0, expected);
    }
    // After a quiet time it is as new.
    steps(&mut damper, u64::from(SOON_STEPS) + 1, &[]);
    assert!(damper.known.is_empty());
    steps(&mut damper, 5, &store(Severity::Critical)).unwrap();
    assert_eq!(steps(&mut damper, clear, &[]).unwrap().0, clear);
}

#[test]
fn it_is_told_again_only_when_it_gets_worse() {
    let mut damper = Damper::default();
    steps(&mut damper, 5, &store(Severity::Medium)).unwrap();
    assert_eq!(steps(&mut damper, 5, &store(Severity::Medium)), None);
    assert!(matches!(steps(&mut damper, 5, &store(Severity::High)), Some((1, Change::Raised(_)))));
    assert_eq!(steps(&mut damper, 5, &store(Severity::Low)), None);
    assert_eq!(damper.alerts()[0].severity, Severity::Low);
}

#[test]
fn an_effect_is_not_told_and_neither_is_its_echo() {
    let probe = |standing| vec![trouble(&alerts::PROBE_FAILING, Severity::High, standing)];
    let mut damper = Damper::default();
    // Told before its cause was seen: the cause takes its place.
    steps(&mut damper, 30, &probe(Standing::Cause)).unwrap();
    assert!(matches!(steps(&mut damper, 1, &probe(Standing::Effect)), Some((1, Change::Cleared(_)))));
    assert_eq!(steps(&mut damper, 30, &probe(Standing::Effect)), None);
    // The cause is gone, the effect lasts a little.
    assert_eq!(steps(&mut damper, u64::from(ECHO_STEPS), &probe(Standing::Cause)), None);
    assert!(steps(&mut damper, 30, &probe(Standing::Cause)).is_some(), "it is no echo any more");
}

#[test]
fn what_lingers_keeps_an_alert_and_begins_none() {
    let emergency = |standing| vec![trouble(&alerts::EMERGENCY, Severity::High, standing)];
    let mut damper = Damper::default();
    assert_eq!(steps(&mut damper, 100, &emergency(Standing::Lingering)), None);
    steps(&mut damper, 5, &emergency(Standing::Cause)).unwrap();
    assert_eq!(steps(&mut damper, 100, &emergency(Standing::Lingering)), None);
    assert_eq!(damper.alerts().len(), 1);
    assert!(steps(&mut damper, 10, &[]).is_some());
}

#[test]
fn the_worst_is_first() {
    let mut damper = Damper::default();
    let mut all = store(Severity::Critical);
    all.insert(0, trouble(&alerts::AUDIT, Severity::Medium, Standing::Cause));
    steps(&mut damper, 30, &all);
    let keys: Vec<String> = damper.alerts().into_iter().map(|alert| alert.key).collect();
    assert_eq!(keys, ["store/down", "audit/damaged"]);
}
