//! Operators' orders through the real binary: they hold, they end, they are recorded, and they need nothing but the node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::roles::free_ports;
use crate::support::{Home, Server, signal, until};

fn posture(home: &Home, at: &[&str]) -> Value {
    home.json(&[&["ctl", "posture"], at].concat()).remove(0)
}

fn audit(home: &Home, at: &[&str]) -> Value {
    home.json(&[&["ctl", "audit"], at].concat()).remove(0)
}

fn actions(audit: &Value) -> Vec<String> {
    audit["entries"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_emergency_is_shown_with_reason_author_and_end_and_is_over_by_itself() {
    let home = Home::new();
    let server = Server::up(&home);
    let on = ["ctl", "emergency", "on", "--reason", "drill", "--for", "2s", "--author", "kim"];
    let would = home.json(&[&on[..], &["--dry-run"]].concat()).remove(0);
    assert_eq!(would["dry_run"], true);
    assert_eq!(posture(&home, &[])["order"], Value::Null, "a dry run does nothing");

    let given = home.json(&on).remove(0);
    let shown = posture(&home, &[]);
    assert_eq!(shown["source"], "ordered");
    let order = &shown["order"];
    assert_eq!((order["reason"].as_str(), order["author"].as_str()), (Some("drill"), Some("kim")));
    assert_eq!(order["kind"], "emergency");
    let span = order["until_ms"].as_u64().unwrap() - order["from_ms"].as_u64().unwrap();
    assert_eq!((span, order["id"].as_u64()), (2_000, given["order"]["id"].as_u64()));
    let effective = &given["effective"];
    assert_eq!((effective["nodes"].as_u64(), effective["of"].as_u64()), (Some(1), Some(1)), "{given}");
    assert!(effective["after_ms"].as_u64().unwrap() <= 1_000, "{given}");
    assert_eq!((&shown["posture"], &shown["nodes"][0]["order"]), (&"emergency".into(), &order["id"]));
    assert!(order["expires"].as_str().unwrap().ends_with('Z'), "{order}");
    let people = home.run(&["ctl", "posture"]).stdout;
    for word in ["drill", "kim", "expires", "effective on"] {
        assert!(people.contains(word), "{people}");
    }

    let over = until("the order to be over", || Some(posture(&home, &[])).filter(|p| p["order"].is_null()));
    assert_eq!(over["source"], "measured");
    let listed =
        until("its end to be recorded", || Some(audit(&home, &[])).filter(|audit| actions(audit).len() == 2));
    assert_eq!(actions(&listed), ["order.emergency", "order.ended"]);
    assert_eq!(listed["report"]["damage"].as_array().unwrap().len(), 0);
    assert!(home.run(&["ctl", "audit"]).stdout.contains("chain verified: entries 1 to 2"));
    server.stop();
}

#[test]
fn a_touched_audit_is_found_whether_the_server_runs_or_not() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["ctl", "emergency", "on", "--reason", "one", "--for", "1h"]);
    home.json(&["ctl", "emergency", "auto", "--reason", "two", "--author", "kim"]);
    server.stop();
    assert_eq!(actions(&audit(&home, &[])), ["order.emergency", "order.automatic"], "read from the folder");

    let path = home.data().join("audit.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|w| w == b"one").unwrap();
    bytes[at] ^= 0x01;
    fs::write(&path, bytes).unwrap();
    let (code, error) = home.error(&["ctl", "audit"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("audit_damaged")));
    assert!(error["message"].as_str().unwrap().contains("audit.jsonl line 1"), "{error}");

    // The server goes on, says so, and marks the break.
    let server = Server::up(&home);
    let (code, error) = home.error(&["ctl", "audit", "--verify"]);
    assert_eq!(code, 1);
    assert!(error["message"].as_str().unwrap().contains("audit.jsonl line 1"), "{error}");
    assert!(server.log().contains("the audit is damaged"));
    home.json(&["ctl", "emergency", "auto", "--reason", "three", "--author", "kim"]);
    server.stop();
    let said = home.run(&["ctl", "audit", "--json"]);
    assert_eq!(actions(&said.lines()[0]), ["order.automatic", "audit.break", "order.automatic"]);
}

#[test]
fn an_order_without_reason_or_end_is_none() {
    let home = Home::new();
    let server = Server::up(&home);
    for (rest, what) in [
        (&["on", "--for", "30s"][..], "--reason"),
        (&["on", "--reason", "drill"], "--for"),
        (&["on", "--reason", "drill", "--for", "9days"], "7 days"),
        (&["on", "--reason", "drill", "--for", "1h", "--at", "2001-01-01 00:00:00"], "past"),
        (&["on", "--reason", "two\nlines", "--for", "1h"], "short line"),
    ] {
        let (code, error) = home.error(&[&["ctl", "emergency", "--author", "kim"], rest].concat());
        assert_eq!(code, 2, "{rest:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains(what), "{rest:?}: {error}");
    }
    assert_eq!(actions(&audit(&home, &[])), [] as [&str; 0]);
    server.stop();
}

#[test]
fn of_overlapping_orders_the_newest_holds_and_survives_a_crash() {
    let home = Home::new();
    let server = Server::up(&home);
    let order = |rest: &[&str]| {
        home.json(&[&["ctl", "emergency", "--author", "kim", "--reason", "drill"], rest].concat())
    };
    let holds = || posture(&home, &[])["order"]["kind"].as_str().unwrap_or("none").to_owned();
    order(&["on", "--for", "1h"]);
    order(&["off", "--for", "2s"]);
    assert_eq!(holds(), "normal");
    until("the older order to hold again", || (holds() == "emergency").then_some(()));
    // A known event: it does not hold yet.
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    order(&["off", "--for", "1h", "--at", &humantime::format_rfc3339_seconds(tomorrow).to_string()]);
    server.kill();
    let server = Server::up(&home);
    assert_eq!(holds(), "emergency");
    order(&["auto"]);
    assert_eq!(holds(), "none");
    server.stop();
}

/// A second session manager beside the first: the same file with other names and ports.
fn second_manager(dir: &Path) -> PathBuf {
    let text = fs::read_to_string(dir.join("session-manager.toml")).unwrap();
    let line = |line: &str| match line.split_once(" = ") {
        Some((key @ ("front" | "wake" | "admin"), _)) => format!("{key} = \"127.0.0.1:0\""),
        Some(("data", _)) => "data = \"second.data\"".to_owned(),
        Some(("node", _)) => "node = \"session-manager-2\"".to_owned(),
        _ => line.to_owned(),
    };
    let path = dir.join("second.toml");
    fs::write(&path, text.lines().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    path
}

#[test]
fn an_order_needs_no_backend_and_no_store_and_reaches_the_others() {
    let home = Home::new();
    let dir = home.path().join("system");
    home.json(&["config", "init", "--dir", dir.to_str().unwrap()]);
    free_ports(&dir);
    let second = second_manager(&dir);
    let start = |role: &str, file: &Path| Server::start(&home, &[role, "--config", file.to_str().unwrap()]);
    let backend = start("backend", &dir.join("backend.toml"));
    let one = start("session-manager", &dir.join("session-manager.toml"));
    let two = start("session-manager", &second);
    let token = dir.join("admin.token").to_str().unwrap().to_owned();
    let (admin_one, admin_two) = (one.address("admin"), two.address("admin"));
    let at_one = ["--admin", admin_one, "--token", &token];
    let at_two = ["--admin", admin_two, "--token", &token];
    let order = |rest: &[&str]| {
        home.json(
            &[&["ctl", "emergency", "--author", "kim", "--reason", "drill", "--for", "1h"], rest].concat(),
        )
    };
    let holds = |at: &[&str]| posture(&home, at)["order"]["kind"].as_str().unwrap_or("none").to_owned();
    // A peer may be quicker than the backend; then it is also recorded who handed the order over.
    let given_at = |at: &[&str]| {
        let mut actions = actions(&audit(&home, at));
        actions.retain(|action| action != "order.handed_over");
        actions
    };
    until("both to be known to each other", || {
        (posture(&home, &at_one)["nodes"].as_array()?.len() == 2).then_some(())
    });

    // Given at the backend, it holds at both.
    let at_backend = ["--admin", backend.address("admin"), "--token", &token];
    order(&[&["off"], &at_backend[..]].concat());
    until("it to hold at both", || (holds(&at_one) == "normal" && holds(&at_two) == "normal").then_some(()));
    // Given at one of them, it holds at the other, and that is known.
    let given = order(&[&["on"], &at_one[..]].concat()).remove(0);
    let effective = &given["effective"];
    assert_eq!((effective["nodes"].as_u64(), effective["of"].as_u64()), (Some(2), Some(2)), "{given}");
    assert_eq!(posture(&home, &at_two)["posture"], "emergency");
    backend.stop();

    // Without a backend it holds where it is given, and the others hear of it when there is one again.
    order(&[&["off"], &at_one[..]].concat());
    assert_eq!(holds(&at_one), "normal");
    assert_eq!(given_at(&at_one), ["order.emergency", "order.normal"]);
    assert_eq!(holds(&at_two), "emergency");
    let backend = start("backend", &dir.join("backend.toml"));
    until("the other to hear of it", || (holds(&at_two) == "normal").then_some(()));
    assert_eq!(given_at(&at_two), [] as [&str; 0], "it is recorded where it was given");
    for server in [two, one, backend] {
        server.stop();
    }
}

#[test]
fn settings_of_overload_control_are_read_again_recorded_and_refused_if_they_cannot_hold() {
    let home = Home::new();
    let server = Server::up(&home);
    let config = home.data().join("config.toml");
    let first = fs::read_to_string(&config).unwrap();
    let rewrite = |overload: &str| {
        fs::write(&config, format!("{first}\n[session_manager.overload.lanes]\n{overload}\n")).unwrap();
        let pid: Value = serde_json::from_slice(&fs::read(home.data().join("run.json")).unwrap()).unwrap();
        signal(pid["pid"].as_u64().unwrap().try_into().unwrap(), "HUP");
    };
    let seats = || home.json(&["ctl", "lanes"])[0]["seats"].as_u64().unwrap();
    assert_eq!(seats(), 512);

    rewrite("seats = 64");
    until("the new settings to hold", || (seats() == 64).then_some(()));
    let listed = audit(&home, &[]);
    assert_eq!(actions(&listed), ["config.reload"]);
    let entry = &listed["entries"][0];
    assert_eq!((&entry["before"], &entry["after"]["lanes"]["seats"]), (&Value::Null, &64.into()));

    let people = home.run(&["ctl", "audit"]).stdout;
    assert!(people.contains("config.reload  SIGHUP: lanes.seats (default) -> 64"), "{people}");

    rewrite("seats = 128\nC1 = { guarantee = 99, ceiling = 100 }");
    until("the refusal to be in the log", || server.log().contains("the guarantees add up to").then_some(()));
    assert_eq!(seats(), 64, "nothing has changed");
    assert_eq!(actions(&audit(&home, &[])).len(), 1);
    server.stop();
}
