use super::*;
use crate::status::facts::Seats;
use crate::status::graph;
use crate::status::judge;
use crate::status::world::{MANAGERS, apart, probed, sample, ten_seconds, up};
use crate::view::{Basis, Sample, Trend};
use std::sync::Arc;

fn found(facts: &Facts) -> Vec<Trouble> {
    let judged = judge::judge(facts);
    troubles(facts, &judged, &graph::blame(&judged))
}

/// Keys of the causes.
fn causes(facts: &Facts) -> Vec<&'static str> {
    let causes = found(facts).into_iter().filter(|trouble| trouble.standing == Standing::Cause);
    causes.map(|trouble| trouble.rule.key).collect()
}

fn measuring(posture: &str, cause: &str, count: usize) -> Facts {
    let mut facts = apart(&MANAGERS);
    for one in facts.managers.iter_mut().take(count) {
        one.measured = posture.to_owned();
        one.cause = Some(cause.to_owned());
    }
    facts
}

#[test]
fn what_is_well_is_no_trouble() {
    assert_eq!(found(&up()), []);
    assert_eq!(found(&apart(&MANAGERS)), []);
    let busy = Facts { seconds: ten_seconds(up().now_ms, (2_000.0, 1.0), 90_000, (900.0, 800.0)), ..up() };
    assert_eq!(found(&busy), []);
}

#[test]
fn the_store_is_one_cause_with_all_its_sufferers() {
    let mut facts = up();
    facts.checks.insert("store".to_owned(), Some("the disk is full".to_owned()));
    facts.probe = probed(facts.now_ms, Some(("send", "disk_full")));
    facts.managers[0].measured = "emergency".to_owned();
    facts.managers[0].cause = Some("timeouts 0.3 over 0.0".to_owned());
    facts.seconds = ten_seconds(facts.now_ms, (100.0, 50.0), 900_000, (100.0, 0.0));
    assert_eq!(causes(&facts), ["store/down"]);
    let store = found(&facts).remove(0);
    assert_eq!(store.affects, ["backend", "gateway", "probe", "session-manager:up"]);
    assert_eq!(store.why, "the disk is full");
    // A storm of its own beside it is a second cause.
    facts.managers[0].cause = Some("logins 9.0 over 3.0".to_owned());
    assert_eq!(causes(&facts), ["store/down", "session-managers/emergency"]);
}

#[test]
fn half_of_the_nodes_are_one_cause() {
    let mut facts = apart(&MANAGERS);
    let severities = [Severity::High, Severity::Critical, Severity::Critical, Severity::Critical];
    for (n, severity) in severities.into_iter().enumerate() {
        facts.managers[n].age_ms = 20_000;
        assert_eq!(causes(&facts), ["session-managers/down"]);
        let down = found(&facts).remove(0);
        assert_eq!(down.severity, severity, "{n}");
        assert!(down.title.starts_with(&format!("{} of 4 session managers", n + 1)), "{}", down.title);
        assert!(down.affects.contains(&format!("session-manager:sm{}", n + 1)));
    }
    facts.probe = probed(facts.now_ms, Some(("hello", "no answer")));
    assert_eq!(causes(&facts), ["session-managers/down"]);
}

#[test]
fn a_gateway_that_is_gone_is_told_and_the_probe_through_the_other_is_not_its_effect() {
    let mut facts = apart(&MANAGERS);
    facts.nodes[1].age_ms = Some(30_000);
    assert_eq!(causes(&facts), ["gateways/down"]);
    facts.probe = probed(facts.now_ms, Some(("enter", "no answer")));
    assert_eq!(causes(&facts), ["probe/failing", "gateways/down"]);
}

#[test]
fn a_storm_is_one_cause_however_it_shows() {
    let mut facts = measuring("emergency", "logins 9.0 over 3.0", 2);
    facts.seconds = ten_seconds(facts.now_ms, (1_000.0, 10.0), 400_000, (900.0, 0.0));
    assert_eq!(causes(&facts), ["session-managers/emergency"]);
    let storm = found(&facts).remove(0);
    for said in
        ["sm1: logins 9.0 over 3.0", "foreground is refused: 100 of 10000", "talk is slow", "background"]
    {
        assert!(storm.why.contains(said), "{}", storm.why);
    }
    assert_eq!(storm.title, "EMERGENCY holds on 2 of 4 session managers");
    // Without a posture the worst of its faces is the cause.
    facts.managers.iter_mut().for_each(|one| one.measured = "normal".to_owned());
    assert_eq!(causes(&facts), ["foreground/refused"]);
}

#[test]
fn postures_are_told_when_they_are_measured_and_not_when_they_are_ordered() {
    assert_eq!(causes(&measuring("guard", "seats_busy 0.9 over 0.8", 1)), ["session-managers/guard"]);
    let recovering = found(&measuring("recovery", "", 1));
    assert_eq!(recovering[0].standing, Standing::Lingering);
    let mut ordered = up();
    ordered.managers[0].order = Some(17);
    assert_eq!(found(&ordered), []);
    // The order keeps it open; the node says what it would do.
    ordered.managers[0].measured = "emergency".to_owned();
    assert_eq!(causes(&ordered), ["session-managers/emergency"]);
}

#[test]
fn foreground_talk_and_background_have_their_limits() {
    let now_ms = up().now_ms;
    type Row = ((f64, f64), u64, (f64, f64), &'static [&'static str]);
    let rows: [Row; 6] = [
        ((1_000.0, 1.0), 1_000, (0.0, 0.0), &[]),
        ((1_000.0, 1.1), 1_000, (0.0, 0.0), &["foreground/refused"]),
        ((2.0, 0.1), 1_000, (0.0, 0.0), &[]),
        ((10.0, 0.0), 250_001, (0.0, 0.0), &["talk/slow"]),
        ((10.0, 0.0), 250_000, (2.0, 0.0), &["background/starved"]),
        ((10.0, 0.0), 250_000, (1.9, 0.0), &[]),
    ];
    for (front, p99_us, back, expected) in rows {
        let facts = Facts { seconds: ten_seconds(now_ms, front, p99_us, back), ..up() };
        assert_eq!(causes(&facts), expected, "{front:?} {p99_us} {back:?}");
    }
    for (seconds_refused, expected) in [(1, &[][..]), (2, &[][..]), (3, &["foreground/refused"][..])] {
        let mut seconds = ten_seconds(now_ms, (1_000.0, 0.0), 1, (0.0, 0.0));
        for second in &mut seconds[4..4 + seconds_refused] {
            *second = sample(second.at_ms, (1_000.0, 400.0), 1, (0.0, 0.0));
        }
        assert_eq!(
            causes(&Facts { seconds, ..up() }),
            expected,
            "a surge that is over in {seconds_refused} s"
        );
    }
    let old = Facts { seconds: ten_seconds(now_ms - 12_000, (10.0, 9.0), 1, (0.0, 0.0)), ..up() };
    assert_eq!(causes(&old), [""; 0], "what is over is not told");
    let few = ten_seconds(now_ms, (10.0, 9.0), 1, (0.0, 0.0))[4..].to_vec();
    assert_eq!(causes(&Facts { seconds: few, ..up() }), [""; 0]);
    for (background, expected) in [(25, &[][..]), (24, &["background/starved"][..])] {
        let facts = Facts { seats: Some(Seats { all: 512, background }), ..up() };
        assert_eq!(causes(&facts), expected, "{background}");
    }
}

#[test]
fn a_trend_is_told_and_explained_and_calls_nobody() {
    let mut seconds = ten_seconds(up().now_ms, (10.0, 0.0), 1, (0.0, 0.0));
    let mut last = Sample::clone(&seconds[9]);
    last.logins.offered_per_s = 120.0;
    last.logins.trend =
        Some(Trend { usual_per_s: 20.0, spread_per_s: 4.0, score: 25.0, basis: Basis::HourOfWeek });
    seconds[9] = Arc::new(last);
    let facts = Facts { seconds, ..up() };
    assert_eq!(causes(&facts), ["logins/unusual"]);
    let unusual = found(&facts).remove(0);
    assert!(!unusual.rule.pages && unusual.severity == Severity::Low);
    assert_eq!(unusual.title, "Unusually many logins");
    assert!(unusual.why.contains("120.0 a second; at this hour of the week 20.0"), "{}", unusual.why);
}

#[test]
fn what_runs_out_and_what_ends_is_told_with_its_severity() {
    let day = judge::DAY_MS;
    let ends = |left| Facts { certificate_ends_ms: Some(up().now_ms + left), ..up() };
    for (left, severity) in [(13 * day, Severity::Medium), (day, Severity::High), (0, Severity::Critical)] {
        assert_eq!(found(&ends(left))[0].severity, severity, "{left}");
    }
    let mut ended = ends(0);
    ended.probe = probed(ended.now_ms, Some(("enter", "expired")));
    assert_eq!(causes(&ended), ["certificates/ending"]);
    let mut full = up();
    full.stocks.memory = Some(0.93);
    full.stocks.descriptors = Some(0.81);
    let found = found(&full);
    assert_eq!(found.iter().map(|t| t.severity).collect::<Vec<_>>(), [Severity::High, Severity::Medium]);
}
