//! The first view, rendered: it says what holds, and it lets nothing out of its place.

use std::sync::Arc;

use askama::Template;
use buslane_chassis::oversee::{CauseView, PostureView};
use buslane_shared::overload::orders::{Kind, Order};
use buslane_shared::wire::Posture;

use super::door::{DonePage, LoginPage};
use super::first::{Facts, Now};
use super::shell::{Shell, local};
use super::{TrafficPage, story};
use crate::view::{
    Alert, Basis, ClassSample, IncidentState, IncidentView, LoginSample, Sample, Severity, State, StatusView,
    Trend,
};

const SCRIPT: &str = "<script>alert(1)</script>";

fn class(name: &str, offered: f64, served: f64, deferred: f64) -> ClassSample {
    ClassSample {
        class: name.to_owned(),
        offered_per_s: offered,
        served_per_s: served,
        deferred_per_s: deferred,
        refused_per_s: offered - served - deferred,
        waiting: 0,
        p50_us: Some(420),
        p99_us: Some(2_100),
    }
}

fn storm() -> Sample {
    let mut classes: Vec<_> = (0..8).map(|no| class(&format!("C{no}"), 0.0, 0.0, 0.0)).collect();
    classes[1] = class("C1", 640.0, 640.0, 0.0);
    classes[5] = class("C5", 7_200.0, 1_450.0, 5_700.0);
    let trend = Trend { usual_per_s: 300.0, spread_per_s: 30.0, score: 41.0, basis: Basis::HourOfWeek };
    Sample {
        at_ms: 1_763_733_909_000,
        span_ms: 1_000,
        posture: "emergency".to_owned(),
        measured: "emergency".to_owned(),
        order: None,
        level: 690,
        classes,
        logins: LoginSample { offered_per_s: 7_200.0, trend: Some(trend), ..LoginSample::default() },
        messages_per_s: 640.0,
        messages_trend: None,
        processors: 1.5,
        resident_bytes: 312 << 20,
        sessions_front: 10,
        sessions_wake: 20,
    }
}

fn status() -> StatusView {
    let alert = Alert {
        key: "store/down".to_owned(),
        severity: Severity::Critical,
        title: format!("The store {SCRIPT}"),
        why: "no commit for 12 s".to_owned(),
        since_ms: 1,
        affects: vec![],
        runbook: String::new(),
        pages: true,
    };
    let summary = "The store does not answer.".to_owned();
    StatusView {
        state: State::Down,
        summary,
        components: vec![],
        alerts: vec![alert],
        probe: None,
        now_ms: 2,
    }
}

pub(super) fn incident() -> IncidentView {
    IncidentView {
        no: 7,
        title: format!("EMERGENCY {SCRIPT}"),
        key: "x".to_owned(),
        opened_by: "buslane".to_owned(),
        severity: Severity::High,
        grade: 2,
        state: IncidentState::Handling,
        opened_ms: 1_763_733_909_000,
        recovered_ms: None,
        resolved_ms: None,
        expected_ms: 0,
        acknowledged_by: None,
        silenced_until_ms: None,
        why: String::new(),
        affects: vec![],
        runbook: String::new(),
        told_by: None,
        entries: 0,
        timeline: vec![],
    }
}

fn facts() -> Facts {
    let posture = PostureView {
        node: "sm1".to_owned(),
        posture: Posture::Emergency,
        since_ms: 1_763_733_909_000,
        measured: Posture::Emergency,
        cause: Some(CauseView { signal: "logins", value: 13.2, limit: 3.0 }),
        order: Some(1),
        level: 690,
        background_per_s: 1_500.0,
        ledger_ms: 0,
    };
    let order = Order {
        id: 1,
        kind: Kind::Emergency,
        reason: SCRIPT.to_owned(),
        author: "lee".to_owned(),
        given_ms: 0,
        from_ms: 0,
        until_ms: 60_000,
    };
    Facts {
        sample: Some(Arc::new(storm())),
        posture: Some(posture),
        order: Some(order),
        status: status(),
        incidents: vec![incident()],
        nodes: vec![],
        now_ms: 18_000,
    }
}

fn shell() -> Shell {
    Shell {
        page: "traffic",
        no: String::new(),
        title: "Traffic",
        version: "1",
        process: "up",
        node: format!("sm1 {SCRIPT}"),
        asked: "\" onload=\"alert(1)".to_owned(),
        seen_by: SCRIPT.to_owned(),
        who: SCRIPT.to_owned(),
        role: "viewer",
        may_operate: false,
        at: "14:05:09 UTC".to_owned(),
        tabs: vec![],
    }
}

#[test]
fn the_first_view_says_what_holds_without_javascript() {
    let text = TrafficPage { shell: shell(), now: Now::of(&facts()) }.render().unwrap();
    for said in [
        "EMERGENCY",
        "data-posture=\"emergency\"",
        "Signal logins: 13.2 against a limit of 3.",
        "It ends at 00:01:00 UTC, in 42 s.",
        "7,200/s",
        "The store does not answer.",
        "/incidents/7",
        "Background asks for 7,200/s",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let text = TrafficPage { shell: shell(), now: Now::of(&facts()) }.render().unwrap();
    assert!(!text.contains(SCRIPT) && !text.contains("onload=\"alert"), "{text}");
    let (evil, provider) = ("/\"><script>x".to_owned(), Some("<script>x".to_owned()));
    let done = DonePage { next: evil.clone() }.render().unwrap();
    let login = LoginPage { way: evil.clone(), next: evil, failed: "", provider }.render().unwrap();
    assert!(!login.contains("<script>x") && !done.contains("<script>x"), "{login} {done}");
}

#[test]
fn what_is_not_known_is_a_dash() {
    let nothing = Facts { sample: None, posture: None, order: None, incidents: vec![], ..facts() };
    let now = Now::of(&nothing);
    assert_eq!((now.word.as_str(), now.posture.as_str()), ("UNKNOWN", "unknown"));
    assert!(now.tiles.iter().all(|tile| tile.big == "–"));
    assert!(now.split.iter().flat_map(|part| &part.rows).all(|row| row.offered == "–" && row.waiting == "–"));
}

#[test]
fn the_story_is_told_by_what_happens() {
    let mut sample = storm();
    assert_eq!(
        story::story(&sample),
        "Foreground gets all it asks for, 640/s. Background asks for 7,200/s: 1,450/s served, 5,700/s are told when to come \
         back, 50/s are refused. Logins are 24 times the usual of this hour."
    );
    sample.classes[1] = ClassSample { p99_us: Some(400_000), ..class("C1", 1_000.0, 900.0, 0.0) };
    sample.classes[5] = class("C5", 0.0, 0.0, 0.0);
    sample.logins.trend = None;
    assert_eq!(
        story::story(&sample),
        "Foreground gets 90 % of 1,000/s; 100/s must wait. Background is quiet. Talk is slow: 400 ms at the 99th percentile."
    );
}

#[test]
fn after_the_login_one_stays_on_this_host() {
    assert_eq!(["/", "/audit?x=1", "/incidents/7"].map(local), ["/", "/audit?x=1", "/incidents/7"]);
    for elsewhere in [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "",
        "javascript:alert(1)",
    ] {
        assert_eq!(local(elsewhere), "/");
    }
}
