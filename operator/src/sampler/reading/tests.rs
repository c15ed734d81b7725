//! Rates and percentiles between two readings.

use buslane_chassis::oversee::{LATENCY_COUNTS, latency_place};

use super::*;

fn row(class: &'static str, protocol: &'static str, counts: [u64; 4]) -> TrafficRow {
    let [offered, served, deferred, refused] = counts;
    TrafficRow { class, protocol, offered, served, deferred, refused, reasons: Vec::new() }
}

fn reading(at_s: u64, rows: Vec<TrafficRow>) -> Reading {
    Reading {
        at_ms: 1_000_000 + at_s * 1_000,
        at: Duration::from_secs(at_s),
        traffic: Traffic { rows, latency: Vec::new() },
        processor_time: Duration::ZERO,
    }
}

fn picture() -> Picture {
    Picture {
        posture: Posture::Normal,
        measured: Posture::Normal,
        order: None,
        level: 1_024,
        background_per_s: 50.0,
        ledger_ms: 0,
        waiting: [0; CLASSES],
        resident_bytes: 1_000,
        sessions_front: 2,
        sessions_wake: 3,
    }
}

fn class(sample: &Sample, name: &str) -> ClassSample {
    sample.classes.iter().find(|class| class.class == name).unwrap().clone()
}

#[test]
fn rates_are_what_was_counted_by_the_time_that_has_passed() {
    // Offered before and after, seconds between, and the rate of it.
    let cases = [
        ("a second", 100, 150, 1, 50.0),
        ("nothing new", 100, 100, 1, 0.0),
        ("a second was missed", 100, 150, 2, 25.0),
        ("a row that is new", 0, 8, 1, 8.0),
        ("the counter has begun anew", 5_000, 30, 1, 30.0),
        ("a long sleep", 100, 400, 300, 1.0),
    ];
    for (what, before, after, passed_s, rate) in cases {
        let before = reading(0, vec![row("C1", "message.send", [before, 0, 0, 0])]);
        let after = reading(passed_s, vec![row("C1", "message.send", [after, 0, 0, 0])]);
        let sample = between(&before, &after, &picture()).unwrap();
        assert!((class(&sample, "C1").offered_per_s - rate).abs() < 1e-9, "{what}: {sample:?}");
        assert_eq!(u64::from(sample.span_ms), passed_s * 1_000, "{what}");
        assert_eq!(sample.at_ms, 1_000_000 + passed_s * 1_000, "{what}");
    }
}

#[test]
fn without_time_there_is_no_rate() {
    let now = reading(5, Vec::new());
    assert_eq!(between(&now, &now, &picture()), None);
    assert_eq!(between(&now, &reading(4, Vec::new()), &picture()), None);
}

#[test]
fn every_outcome_and_every_class_has_its_place() {
    let before = reading(0, Vec::new());
    let after = reading(
        2,
        vec![
            row("C1", "message.send", [20, 16, 0, 4]),
            row("C1", "delivery", [10, 10, 0, 0]),
            row("C2", "login", [6, 6, 0, 0]),
            row("C5", "login", [40, 2, 30, 8]),
            row("C5", "login.resume", [4, 4, 0, 0]),
            row("C5", "message.sync", [2, 2, 0, 0]),
        ],
    );
    let sample = between(&before, &after, &picture()).unwrap();
    let names: Vec<&str> = sample.classes.iter().map(|class| class.class.as_str()).collect();
    assert_eq!(names, ["C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7"]);
    let talk = class(&sample, "C1");
    assert_eq!((talk.offered_per_s, talk.served_per_s, talk.refused_per_s), (15.0, 13.0, 2.0));
    let wake = class(&sample, "C5");
    assert_eq!((wake.offered_per_s, wake.deferred_per_s, wake.refused_per_s), (23.0, 15.0, 4.0));
    assert_eq!(class(&sample, "C7"), ClassSample { class: "C7".into(), ..ClassSample::default() });
    let logins = &sample.logins;
    assert_eq!((logins.offered_per_s, logins.served_per_s, logins.deferred_per_s), (25.0, 6.0, 15.0));
    assert!((sample.messages_per_s - 8.0).abs() < 1e-9);
}

#[test]
fn percentiles_are_those_of_the_span_alone() {
    let latency = |counts: &[(u64, u64)]| {
        let mut all = vec![0; LATENCY_COUNTS];
        for (took_us, count) in counts {
            all[latency_place(*took_us)] = *count;
        }
        vec![LatencyRow { class: "C1", counts: all }]
    };
    let (mut before, mut after) = (reading(0, Vec::new()), reading(1, Vec::new()));
    // A slow hour, and then a fast second.
    before.traffic.latency = latency(&[(900_000, 10_000)]);
    after.traffic.latency = latency(&[(900_000, 10_000), (200, 98), (40_000, 2)]);
    let talk = class(&between(&before, &after, &picture()).unwrap(), "C1");
    let is_about = |told: Option<u64>, truth: f64| (told.unwrap() as f64 / truth - 1.0).abs() <= 0.1;
    assert!(is_about(talk.p50_us, 200.0) && is_about(talk.p99_us, 40_000.0), "{talk:?}");
    let nothing = class(
        &between(&after, &Reading { at: Duration::from_secs(9), ..after.clone() }, &picture()).unwrap(),
        "C1",
    );
    assert_eq!((nothing.p50_us, nothing.p99_us), (None, None));
}

#[test]
fn processors_are_the_time_that_was_used_of_the_time_that_passed() {
    let before = reading(0, Vec::new());
    let after = Reading { processor_time: Duration::from_millis(3_000), ..reading(2, Vec::new()) };
    assert!((between(&before, &after, &picture()).unwrap().processors - 1.5).abs() < 1e-9);
    // A time that goes back is none.
    assert!(between(&after, &reading(4, Vec::new()), &picture()).unwrap().processors.abs() < 1e-9);
}

#[test]
fn a_span_shows_what_was_worst_in_it_and_how_it_ended() {
    let mut storm = Picture {
        posture: Posture::Emergency,
        measured: Posture::Guard,
        order: Some(7),
        level: 300,
        ..picture()
    };
    storm.waiting[5] = 90;
    storm.ledger_ms = 4_000;
    let calm = Picture { posture: Posture::Recovery, resident_bytes: 2_000, sessions_front: 9, ..picture() };
    let span = storm.and_then(calm);
    assert_eq!((span.posture, span.measured, span.order), (Posture::Emergency, Posture::Guard, Some(7)));
    assert_eq!((span.level, span.waiting[5], span.ledger_ms), (300, 90, 4_000));
    assert_eq!((span.resident_bytes, span.sessions_front), (2_000, 9));
    for (worst, other) in [
        (Posture::Emergency, Posture::Guard),
        (Posture::Guard, Posture::Recovery),
        (Posture::Recovery, Posture::Normal),
    ] {
        assert_eq!((worse(worst, other), worse(other, worst)), (worst, worst));
    }
}
