use super::*;
use crate::status::facts::Heard;
use crate::status::graph::blame;
use crate::status::world::{self, MANAGERS, apart, manager, node, probed, up};
use crate::view::NodeView;

fn states(facts: &Facts) -> Vec<(String, State)> {
    judge(facts).into_iter().map(|c| (c.id, c.state)).collect()
}

fn state(facts: &Facts, id: &str) -> State {
    states(facts).into_iter().find(|(name, _)| name == id).unwrap_or_else(|| panic!("no {id}")).1
}

#[test]
fn one_process_that_is_well() {
    let well = [
        "store",
        "backend",
        "gateway",
        "session-manager:up",
        "probe",
        "certificates",
        "audit",
        "clock",
        "process",
    ];
    let expected: Vec<_> = well.iter().map(|id| ((*id).to_owned(), State::Up)).collect();
    assert_eq!(states(&up()), expected);
    assert!(blame(&judge(&up())).is_empty());
}

#[test]
fn many_processes_that_are_well() {
    let facts = apart(&MANAGERS);
    assert!(states(&facts).iter().all(|(_, state)| *state == State::Up), "{:?}", states(&facts));
    let ids: Vec<String> = states(&facts).into_iter().map(|(id, _)| id).collect();
    assert!(ids.contains(&"gateway:g1".to_owned()) && ids.contains(&"gateway:g2".to_owned()), "{ids:?}");
}

#[test]
fn silence_is_first_unknown_and_then_down() {
    for (age_ms, expected) in [
        (0, State::Up),
        (5_000, State::Up),
        (5_001, State::Unknown),
        (15_000, State::Unknown),
        (15_001, State::Down),
    ] {
        let mut facts = apart(&MANAGERS);
        facts.nodes[1].age_ms = Some(age_ms);
        facts.managers[0].age_ms = age_ms;
        assert_eq!(state(&facts, "gateway:g2"), expected, "{age_ms}");
        assert_eq!(state(&facts, "session-manager:sm1"), expected, "{age_ms}");
    }
}

#[test]
fn a_store_that_takes_no_writes_makes_everything_suffer() {
    let mut facts = up();
    facts.checks.insert("store".to_owned(), Some("the disk is full".to_owned()));
    facts.probe = probed(facts.now_ms, Some(("send", "disk_full")));
    assert_eq!(state(&facts, "store"), State::Down);
    let blame = blame(&judge(&facts));
    for sufferer in ["store", "backend", "gateway", "session-manager:up", "probe"] {
        assert_eq!(blame.get(sufferer).map(String::as_str), Some("store"), "{sufferer}");
    }
    assert!(!blame.contains_key("audit") && !blame.contains_key("clock"));
}

#[test]
fn the_store_is_seen_through_the_backend() {
    let mut facts = apart(&MANAGERS);
    facts.nodes[0].lacks.insert("store".to_owned(), "the disk is full".to_owned());
    assert_eq!(state(&facts, "store"), State::Down);
    assert_eq!(state(&facts, "backend"), State::Up);
    // A backend that is silent hides it: nobody says that it is well, and nobody blames it.
    let mut facts = apart(&MANAGERS);
    facts.nodes[0].age_ms = Some(9_000);
    facts.feed_connected = false;
    assert_eq!(state(&facts, "store"), State::Unknown);
    assert_eq!(blame(&judge(&facts)).get("store").map(String::as_str), Some("backend"));
    facts.nodes.remove(0);
    assert_eq!(state(&facts, "store"), State::Unknown);
}

#[test]
fn a_backend_serves_or_does_not() {
    let mut facts = apart(&MANAGERS);
    facts.feed_connected = false;
    assert_eq!(state(&facts, "backend"), State::Down);
    let mut facts = apart(&MANAGERS);
    facts.nodes[0].age_ms = Some(20_000);
    assert_eq!(state(&facts, "backend"), State::Warning, "its feed is there");
}

#[test]
fn session_managers_in_every_condition() {
    type Change = fn(&mut crate::status::facts::Manager);
    let rows: [(Change, State, &str); 7] = [
        (|_| {}, State::Up, ""),
        (|m| m.measured = "guard".to_owned(), State::Warning, "GUARD"),
        (
            |m| {
                m.measured = "emergency".to_owned();
                m.cause = Some("logins 5.2 over 3.0".to_owned());
            },
            State::Warning,
            "EMERGENCY: logins 5.2 over 3.0",
        ),
        (|m| m.order = Some(17), State::Maintenance, "it obeys order 17"),
        (|m| m.draining = true, State::Maintenance, "it drains"),
        (
            |m| {
                m.draining = true;
                m.age_ms = 60_000;
            },
            State::Maintenance,
            "it drained; nothing was heard of it for 60 s",
        ),
        (|m| m.lacks = Some("no keys".to_owned()), State::Warning, "no keys"),
    ];
    for (change, expected, why) in rows {
        let mut facts = apart(&MANAGERS);
        change(&mut facts.managers[0]);
        let judged = judge(&facts).into_iter().find(|c| c.id == "session-manager:sm1").unwrap();
        assert_eq!((judged.state, judged.why.unwrap_or_default().as_str()), (expected, why));
    }
}

#[test]
fn who_was_heard_of_through_the_backend_goes_out_of_sight_with_it() {
    let mut facts = apart(&[]);
    facts.managers = vec![manager("sm1", Heard::ThroughBackend)];
    facts.managers[0].age_ms = 20_000;
    assert_eq!(
        blame(&judge(&facts)).get("session-manager:sm1").map(String::as_str),
        Some("session-manager:sm1")
    );
    facts.feed_connected = false;
    assert_eq!(blame(&judge(&facts)).get("session-manager:sm1").map(String::as_str), Some("backend"));
}

#[test]
fn a_probe_that_is_old_is_not_believed() {
    let now_ms = world::BEGUN_MS;
    for (age_ms, expected) in [(25_000, State::Up), (25_001, State::Unknown), (40_001, State::Down)] {
        let facts = Facts { probe: probed(now_ms - age_ms, None), ..up() };
        assert_eq!(state(&facts, "probe"), expected, "{age_ms}");
    }
    let off = Facts { probe: Probe::Off("no gateway".to_owned()), ..up() };
    assert_eq!(state(&off, "probe"), State::Unknown);
    let mut draining = Facts { probe: probed(now_ms, Some(("hello", "draining"))), ..up() };
    draining.managers[0].draining = true;
    assert_eq!(state(&draining, "probe"), State::Maintenance);
}

#[test]
fn what_is_wrong_with_the_process_itself() {
    type Change = fn(&mut Facts);
    let rows: [(Change, &str, State); 8] = [
        (|f| f.certificate_ends_ms = Some(f.now_ms + 13 * DAY_MS), "certificates", State::Warning),
        (|f| f.certificate_ends_ms = Some(f.now_ms + 15 * DAY_MS), "certificates", State::Up),
        (|f| f.certificate_ends_ms = Some(f.now_ms), "certificates", State::Down),
        (|f| f.certificate_ends_ms = None, "certificates", State::Unknown),
        (|f| f.audit_damage = Some("line 3".to_owned()), "audit", State::Warning),
        (|f| f.nodes[0].clock_skew_ms = Some(-1_001), "clock", State::Warning),
        (|f| f.nodes[0].clock_skew_ms = Some(1_000), "clock", State::Up),
        (|f| f.stocks.descriptors = Some(0.8), "process", State::Warning),
    ];
    for (change, id, expected) in rows {
        let mut facts = apart(&MANAGERS);
        change(&mut facts);
        assert_eq!(state(&facts, id), expected, "{id}");
    }
}

#[test]
fn a_peer_that_never_answered_is_nobody_known() {
    let stranger = |state| NodeView { age_ms: None, state, ..node("127.0.0.1:9", "unknown") };
    let mut facts = apart(&MANAGERS);
    facts.nodes.push(stranger(State::Unknown));
    assert_eq!(state(&facts, "peer:127.0.0.1:9"), State::Unknown);
    facts.nodes.pop();
    facts.nodes.push(stranger(State::Down));
    assert_eq!(state(&facts, "peer:127.0.0.1:9"), State::Down);
}
