//! The picture at 80 x 24 cell by cell, and what keys do.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::draw::{self, Ink};
use super::keys::{Action, Ui};
use super::order::Kind;
use super::picture::{Heard, Picture};
use crate::failure::{Exit, Failure};

const NOW_MS: u64 = 1_795_233_016_123;

fn heard() -> Heard {
    let class = |n: usize| {
        let (offered, served, deferred, refused) = match n {
            1 => (100.0, 100.0, 0.0, 0.0),
            5 => (200.0, 50.0, 140.0, 10.0),
            _ => (0.0, 0.0, 0.0, 0.0),
        };
        json!({"class": format!("C{n}"), "offered_per_s": offered, "served_per_s": served, "deferred_per_s": deferred,
               "refused_per_s": refused, "waiting": 0, "p50_us": 900, "p99_us": (n == 1).then_some(2_400)})
    };
    let lane = |n: usize| json!({"class": format!("C{n}"), "title": "x", "in_use": n, "waiting": 0});
    let value = json!({
        "posture": {"posture": "emergency", "source": "ordered",
                    "order": {"id": 7, "reason": "drill", "author": "kim", "until_ms": NOW_MS + 90_000},
                    "here": {"node": "sm1", "since_ms": NOW_MS - 12_000,
                             "cause": {"signal": "logins", "value": 5.2, "limit": 1.5}}},
        "lanes": {"seats": 512, "lanes": (0..8).map(lane).collect::<Vec<_>>(),
                  "protocols": [{"protocol": "message.send", "in_use": 3, "cap": 307, "cost_us": 800},
                                {"protocol": "login", "in_use": 9, "cap": 100, "cost_us": 1500}]},
        "status": {"state": "warning", "summary": "A login storm; conversations go on.", "components": [], "probe": null,
                   "alerts": [{"key": "sm1/emergency", "severity": "high", "title": "sm1 is in EMERGENCY", "why": "logins 5.2",
                               "since_ms": NOW_MS - 12_000, "affects": [], "runbook": "#x", "pages": true}],
                   "now_ms": NOW_MS},
        "nodes": [node("sm1", "up", Some("emergency")), node("sm2", "unknown", Some("normal"))],
        "sample": {"at_ms": NOW_MS, "span_ms": 1000, "posture": "emergency", "measured": "guard", "order": 7, "level": 640,
                   "classes": (0..8).map(class).collect::<Vec<_>>(),
                   "logins": {"offered_per_s": 200.0, "served_per_s": 50.0, "deferred_per_s": 140.0, "background_per_s": 50.0,
                              "ledger_ms": 3000, "trend": {"usual_per_s": 20.0, "spread_per_s": 5.0, "score": 36.0, "basis": "hour_of_day"}},
                   "messages_per_s": 100.0, "messages_trend": null, "processors": 0.5, "resident_bytes": 104857600,
                   "sessions_front": 300, "sessions_wake": 1200},
    });
    let part = |name: &str| value[name].clone();
    Heard {
        status: serde_json::from_value(part("status")).unwrap(),
        posture: serde_json::from_value(part("posture")).unwrap(),
        lanes: serde_json::from_value(part("lanes")).unwrap(),
        nodes: serde_json::from_value(part("nodes")).unwrap(),
        samples: vec![serde_json::from_value(part("sample")).unwrap()],
        silent: None,
    }
}

fn node(name: &str, state: &str, posture: Option<&str>) -> serde_json::Value {
    json!({"node": name, "role": "session-manager", "admin": null, "here": false, "state": state, "why": null, "age_ms": 10,
           "clock_skew_ms": null, "posture": posture, "cause": null, "order": null, "level": null, "sessions": 150,
           "draining": false, "version": null, "started_ms": null})
}

fn drawn(picture: &Picture, ui: &Ui, now_ms: u64, size: (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let frame =
        terminal.draw(|frame| draw::all(frame.buffer_mut(), picture, ui, now_ms, Ink::Colour)).unwrap();
    draw::text(frame.buffer)
}

fn picture() -> Picture {
    let mut picture = Picture::default();
    picture.hear(heard(), NOW_MS);
    picture
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn typing(ui: &mut Ui, text: &str) -> Action {
    for c in text.chars() {
        assert_eq!(ui.on_key(key(KeyCode::Char(c))), Action::Nothing);
    }
    ui.on_key(key(KeyCode::Enter))
}

#[test]
fn everything_stands_on_eighty_columns_and_twenty_four_rows() {
    let expected = "\
sm1: EMERGENCY since 03:50Z  logins 5.20, limit 1.50  ORDER 7 kim: drill, 90 s
A login storm; conversations go on.
logins/s 200 (usual 20), put off 140  messages/s 100  sessions 300+1200  cpu 0.5
class                          asked/s  served deferred refused   p99 ms seats+w
C0 control                         0.0     0.0      0.0     0.0        -     0+0
C1 talk    ██████████            100.0   100.0      0.0     0.0      2.4     1+0
C2 look                            0.0     0.0      0.0     0.0        -     2+0
C3 bulk                            0.0     0.0      0.0     0.0        -     3+0
C4 social                          0.0     0.0      0.0     0.0        -     4+0
C5 wake    █████▒▒▒▒▒▒▒▒▒▒▒▒▒x   200.0    50.0    140.0    10.0        -     5+0";
    let whole = drawn(&picture(), &Ui::default(), NOW_MS, (80, 24));
    let lines: Vec<&str> = whole.lines().collect();
    assert_eq!(lines.len(), 24);
    assert_eq!(lines[..10].join("\n").trim_start(), expected);
    for said in
        ["login", "message.send", "sm2               UNKNOWN", "HIGH sm1 is in EMERGENCY (12 s)", "q quit"]
    {
        assert!(whole.contains(said), "{said}:\n{whole}");
    }
    // What a silent node said once is not shown as if it held.
    assert!(!whole.contains("UNKNOWN normal"), "{whole}");
}

#[test]
fn it_is_drawn_at_every_size() {
    let picture = picture();
    for size in [(1, 1), (59, 24), (60, 16), (80, 24), (200, 60)] {
        for over in ["", "?", "o", "/"] {
            let mut ui = Ui::default();
            over.chars().for_each(|c| drop(ui.on_key(key(KeyCode::Char(c)))));
            drawn(&picture, &ui, NOW_MS, size);
        }
    }
    assert!(drawn(&picture, &Ui::default(), NOW_MS, (40, 24)).contains("make this larger"));
}

#[test]
fn what_was_not_heard_lately_is_called_stale() {
    let mut picture = picture();
    picture.hear(Heard { silent: Some("nothing answers".into()), ..Heard::default() }, NOW_MS + 5_000);
    let shown = drawn(&picture, &Ui::default(), NOW_MS + 5_000, (80, 24));
    assert!(shown.contains("STALE, nothing heard for 5 s: nothing answers"), "{shown}");
    assert!(shown.contains("was EMERGENCY"), "{shown}");
    picture.hear(heard(), NOW_MS + 6_000);
    assert!(!drawn(&picture, &Ui::default(), NOW_MS + 6_000, (80, 24)).contains("STALE"));
}

#[test]
fn keys_sort_filter_and_end() {
    let mut ui = Ui::default();
    ui.on_key(key(KeyCode::Char('s')));
    let shown = drawn(&picture(), &ui, NOW_MS, (80, 24));
    assert!(shown.lines().nth(4).unwrap().starts_with("C5 wake"), "{shown}");
    ui.on_key(key(KeyCode::Char('f')));
    let shown = drawn(&picture(), &ui, NOW_MS, (80, 24));
    assert!(!shown.contains("C5 wake") && shown.contains("C3 bulk"), "{shown}");
    ui.on_key(key(KeyCode::Char('/')));
    typing(&mut ui, "sm2");
    let shown = drawn(&picture(), &ui, NOW_MS, (80, 24));
    assert!(!shown.contains("message.send") && shown.contains("sm2"), "{shown}");
    assert_eq!(ui.on_key(key(KeyCode::Char('q'))), Action::Quit);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(ui.on_key(ctrl_c), Action::Quit);
}

#[test]
fn an_order_is_only_given_when_it_was_previewed_and_its_word_was_typed() {
    let mut ui = Ui::default();
    ui.on_key(key(KeyCode::Char('o')));
    assert_eq!(typing(&mut ui, "perhaps"), Action::Nothing);
    assert!(drawn(&picture(), &ui, NOW_MS, (80, 24)).contains("! write emergency"));
    typing(&mut ui, "emergency");
    assert_eq!(typing(&mut ui, "  "), Action::Nothing, "no reason");
    typing(&mut ui, "drill");
    assert_eq!(typing(&mut ui, "soon"), Action::Nothing, "no time");
    let Action::Preview(wanted) = typing(&mut ui, "10m") else { panic!("no preview") };
    assert_eq!((wanted.kind, wanted.duration_ms), (Kind::Emergency, Some(600_000)));
    assert_eq!(wanted.question("kim")["dry_run"], true);
    ui.on_preview(Ok("Now NORMAL, then EMERGENCY.".into()));
    assert!(drawn(&picture(), &ui, NOW_MS, (80, 24)).contains("Type emergency to give the order"));
    assert_eq!(typing(&mut ui, "yes"), Action::Nothing);
    let Action::Give(given) = typing(&mut ui, "emergency") else { panic!("not given") };
    assert_eq!(given, wanted);
    assert!(given.body("kim").get("dry_run").is_none());
    ui.on_given(Err(Failure::new(Exit::Refused, "forbidden", "this needs the role operator")));
    assert!(drawn(&picture(), &ui, NOW_MS, (80, 24)).contains("NOT GIVEN: this needs the role operator"));
    ui.on_key(key(KeyCode::Char(' ')));
    assert_eq!(ui.on_key(key(KeyCode::Char('q'))), Action::Quit);
}
