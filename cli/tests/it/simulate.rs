//! The model of a node, from the command line.

use std::fs;

use crate::support::Home;

const SMALL: [&str; 8] = ["simulate", "node", "--scenario", "calm", "--scale", "0.5", "--seeds", "1"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [SMALL.as_slice(), more].concat()
}

#[test]
fn a_run_is_a_line_with_its_figures_and_the_same_again_the_next_time() {
    let home = Home::new();
    let args = with(&["--policy", "fifo", "--policy", "tower", "--seed", "7"]);
    let rows = home.json(&args);
    assert_eq!(rows.len(), 2);
    let fields: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "scenario",
        "policy",
        "seed",
        "fg_success",
        "fg_p99_ratio",
        "fg_p99_ms",
        "protect_ms",
        "enter_ms",
        "drain_ratio",
        "attempts_per_deferred_login",
        "wasted",
        "posture_changes",
        "work_conservation",
        "jain",
        "trace_hash",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!((rows[0]["policy"].as_str(), rows[0]["seed"].as_u64()), (Some("fifo"), Some(7)));
    assert!(rows[0]["enter_ms"].is_null(), "it has no posture");
    assert_eq!(home.json(&args), rows);
    assert_ne!(
        rows[0]["trace_hash"],
        home.json(&with(&["--policy", "fifo", "--seed", "8"]))[0]["trace_hash"]
    );
}

#[test]
fn what_clients_wanted_is_recorded_and_run_again() {
    let home = Home::new();
    let file = home.path().join("calls.csv");
    let file = file.to_str().unwrap();
    let rows = home.json(&with(&["--policy", "fifo", "--trace", file]));
    let again = home.json(&["simulate", "node", "--replay", file, "--policy", "fifo"]);
    assert_eq!(rows, again);
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, text.replacen("phone", "fridge", 1)).unwrap();
    let (code, error) = home.error(&["simulate", "node", "--replay", file]);
    assert_eq!((code, error["code"].as_str()), (2, Some("usage")));
    assert!(error["message"].as_str().unwrap().contains("line "), "{error}");
}

#[test]
fn people_get_a_table_with_targets() {
    let home = Home::new();
    let said = home.run(&with(&["--policy", "buslane", "--policy", "tower"]));
    for part in ["calm", "p99 ratio", "tower", "no foreground is refused", "Buslane"] {
        assert!(said.stdout.contains(part), "{part}: {said:?}");
    }
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    let home = Home::new();
    for bad in [
        ["--scenario", "atlantis"],
        ["--policy", "hope"],
        ["--seeds", "0"],
        ["--seeds", "1001"],
        ["--scale", "0.1"],
        ["--replay", "/nowhere"],
        ["--trace", "/tmp/x"],
    ] {
        let (code, error) = home.error(&["simulate", "node", bad[0], bad[1]]);
        assert_eq!((code, error["code"].as_str()), (2, Some("usage")), "{bad:?}: {error}");
    }
    assert_eq!(home.error(&["simulate", "node", "--replay", "x", "--seed", "3"]).0, 2);
}
