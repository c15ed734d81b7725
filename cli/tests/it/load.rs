//! Storms from the command line, and what goes wrong with them: each is said, and what was measured is kept.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Home, Server, said, signal, until};

/// A storm of some seconds that this machine does not notice.
const TINY: &str = r#"
name = "tiny"
title = "Some phones wake up"
history = "made up"
source = "made up"
hypothesis = "nobody notices"
limits.lost.at_most = 0.0
[phases]
quiet_s = 1
storm_s = 2
after_s = 1
[talk]
pairs = 2
messages_per_s = 4.0
[[logins]]
rate = { unit = "per-s", points = [[0.0, 5.0], [1.0, 5.0]] }
"#;

fn scenario(home: &Home, text: &str) -> PathBuf {
    let file = home.path().join("tiny.toml");
    fs::write(&file, text).unwrap();
    file
}

/// Arguments of a run against a system that runs already.
fn against<'a>(file: &'a str, gate: &'a str, ca: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut args = vec!["load", "run", file, "--against", gate, "--ca", ca, "--out", out];
    args.extend(["--logins-per-s", "100", "--messages-per-s", "1000"]);
    args
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_mistake_in_a_scenario_is_named_with_its_line_before_anything_runs() {
    let home = Home::new();
    let file = text(&scenario(&home, &TINY.replace("storm_s", "strom_s")));
    for args in [["load", "check", &file], ["load", "run", &file]] {
        let (code, error) = home.error(&args);
        let message = error["message"].as_str().unwrap();
        assert_eq!((code, error["code"].as_str()), (2, Some("usage")), "{error}");
        assert!(message.contains("tiny.toml:") && message.contains("strom_s"), "{message}");
    }
    let good = text(&scenario(&home, TINY));
    assert_eq!(home.json(&["load", "check", &good])[0]["valid"], true);
}

#[test]
fn bad_arguments_are_refused_before_anything_runs() {
    let home = Home::new();
    let file = text(&scenario(&home, TINY));
    let (below, new) = (format!("{file}/report"), text(&out(&home)));
    for args in [
        vec!["load", "run", "no-such-storm"],
        vec!["load", "run", &file, "--against", "127.0.0.1:1"],
        vec!["load", "run", &file, "--policy", "hope"],
        vec!["load", "run", &file, "--scale", "0"],
        vec!["load", "run", &file, "--duration", "0s"],
        vec!["load", "run", &file, "--baseline", "/no/such/folder"],
        vec!["load", "run", &file, "--out", &below],
        vec!["load", "compare", &file, "--out", &below],
        vec!["load", "run", &file, "--out", &new, "--junit", "/no/such/folder/checks.xml"],
        vec!["demo", "--out", &below],
    ] {
        assert_eq!(home.error(&args).0, 2, "{args:?}");
    }
    assert!(!Path::new(&new).exists(), "nothing is left of it");
    assert_eq!(home.error(&["load", "report", &text(home.path())]).0, 4);
    let listed = home.json(&["load", "list"]);
    assert!(listed[0].as_array().unwrap().iter().any(|row| row["name"] == "demo"), "{listed:?}");
}

#[test]
fn a_run_against_a_running_system_is_written_and_drawn_again() {
    let home = Home::new();
    let server = Server::up(&home);
    let (file, out) = (text(&scenario(&home, TINY)), home.path().join("out"));
    let (ca, out_text) = (server.address("ca").to_owned(), text(&out));
    let mut args = against(&file, server.address("gate"), &ca, &out_text);
    args.push("--json");
    let said = home.run(&args);
    let summary = &said.lines()[0];
    assert_eq!(summary["scenario"], "tiny", "{said:?}");
    assert_eq!(summary["policy"], "unknown");
    assert_eq!(summary["lost"], 0, "{summary}");
    assert!([0, 8].contains(&said.code), "only this machine may be too slow: {said:?}");
    let run: Value = serde_json::from_slice(&fs::read(out.join("run-unknown.json")).unwrap()).unwrap();
    assert_eq!(run["summary"]["seed"], 1);
    fs::remove_file(out.join("index.html")).unwrap();
    home.json(&["load", "report", &out_text]);
    assert!(fs::read_to_string(out.join("index.html")).unwrap().contains("tiny"));

    // The same again, held against it.
    let again = text(&home.path().join("again"));
    let mut args = against(&file, server.address("gate"), &ca, &again);
    args.extend(["--seed", "2", "--baseline", &out_text, "--json"]);
    let said = home.run(&args);
    let baseline = &said.lines()[0]["baseline"];
    assert_eq!(baseline["unlike"].as_array().unwrap()[0], "seed", "{said:?}");
    assert!(baseline["figures"].as_array().unwrap().iter().any(|figure| figure["name"] == "fg_success"));
    assert!(said.stderr.contains("Against tiny of "), "{said:?}");

    // What is of another policy is neither a baseline nor replaced.
    for (option, other) in [("--baseline", &again), ("--out", &out_text)] {
        let (code, error) = home.error(&["load", "run", &file, option, other]);
        assert_eq!(code, 2, "{error}");
        assert!(error["message"].as_str().unwrap().contains("unknown"), "{error}");
    }
    server.stop();
}

#[test]
fn an_address_where_nobody_listens_is_said() {
    let home = Home::new();
    let server = Server::up(&home);
    let (gate, ca) = (server.address("gate").to_owned(), server.address("ca").to_owned());
    server.stop();
    let (file, out) = (text(&scenario(&home, TINY)), text(&home.path().join("out")));
    let (code, error) = home.error(&against(&file, &gate, &ca, &out));
    assert_eq!((code, error["code"].as_str()), (6, Some("unreachable")), "{error}");
    assert!(error["message"].as_str().unwrap().contains(&gate), "{error}");
}

/// A run of a longer storm, in the middle of it.
struct Storm {
    driver: Child,
    /// What the driver goes on to say.
    lines: Box<dyn Iterator<Item = String>>,
    /// Where the server writes who it is.
    run_file: PathBuf,
    server: u32,
}

impl Storm {
    fn begun(home: &Home) -> Self {
        let file = text(&scenario(home, &TINY.replace("storm_s = 2", "storm_s = 40")));
        let args = ["load", "run", &file, "--out", &text(&out(home)), "--work", &text(home.path())];
        let mut driver = home.command(&args).spawn().unwrap();
        let run_file = home.path().join(format!("buslane-load-{}/run/data/run.json", driver.id()));
        let mut lines = BufReader::new(driver.stderr.take().unwrap()).lines().map_while(Result::ok);
        lines.find(|line| line.contains("conversations:")).expect("the storm was not shown");
        let run: Value = serde_json::from_slice(&fs::read(&run_file).unwrap()).unwrap();
        let server = u32::try_from(run["pid"].as_u64().unwrap()).unwrap();
        Self { driver, lines: Box::new(lines), run_file, server }
    }
}

fn out(home: &Home) -> PathBuf {
    home.path().join("out")
}

/// A process that has ended and that nobody has asked for yet does not run any more.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_driver_that_is_killed_takes_its_server_along() {
    let home = Home::new();
    let mut storm = Storm::begun(&home);
    assert!(runs(storm.server));
    storm.driver.kill().unwrap();
    storm.driver.wait().unwrap();
    until("the server's end", || (!runs(storm.server)).then_some(()));
}

#[test]
fn a_server_whose_driver_is_gone_already_does_not_start() {
    let home = Home::new();
    let said = said(home.command(&["up", "--json"]).env("BUSLANE_ENDS_WITH", "1").spawn().unwrap());
    assert!(said.code == 1 && said.stderr.contains("orphaned"), "{said:?}");
}

#[test]
fn when_the_server_dies_in_the_middle_what_was_measured_is_kept() {
    let home = Home::new();
    let Storm { driver, lines, run_file, server } = Storm::begun(&home);
    let out = out(&home);
    signal(server, "KILL");
    let rest: Vec<String> = lines.collect();
    assert_eq!(said(driver).code, 8, "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("signal: 9")), "{rest:?}");
    let run: Value = serde_json::from_slice(&fs::read(out.join("run-buslane.json")).unwrap()).unwrap();
    assert_eq!(run["summary"]["valid"], false);
    assert!(!run["seconds"].as_array().unwrap().is_empty());
    assert!(!run_file.exists(), "the data of the server are gone");
}

/// Fills the disk of a storm when it goes on, on a file system of its own.
const FILLED: &str = r#"
mkdir "$1/disk" && mount -t tmpfs -o size=400m tmpfs "$1/disk" || exit 77
"$2" load run "$3" --out "$1/out" --work "$1/disk" 2>"$1/said" &
until grep -q "conversations:" "$1/said" || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
dd if=/dev/zero of="$1/disk/fill" bs=1M count=250 2>/dev/null
wait $!
"#;

#[test]
fn a_disk_that_fills_up_ends_the_run_and_what_was_measured_is_kept() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    if !Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|status| status.success()) {
        println!("SKIP: no file system of one's own can be made here (unshare {})", namespace.join(" "));
        return;
    }
    let home = Home::new();
    let file = text(&scenario(&home, &TINY.replace("storm_s = 2", "storm_s = 40")));
    let ours = home.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    command
        .args(namespace)
        .args(["sh", "-c", FILLED, "sh", &text(home.path())])
        .arg(ours.get_program())
        .arg(file);
    command
        .env("BUSLANE_HOME", home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ended = said(command.spawn().unwrap());
    if ended.code == 77 {
        println!("SKIP: a tmpfs cannot be mounted here: {}", ended.stderr);
        return;
    }
    let said = fs::read_to_string(home.path().join("said")).unwrap();
    assert_eq!(ended.code, 8, "{said}");
    assert!(said.contains("MiB left, too little") && said.contains("--work"), "{said}");
    let run: Value = serde_json::from_slice(&fs::read(out(&home).join("run-buslane.json")).unwrap()).unwrap();
    let why = run["summary"]["invalid_because"][0].as_str().unwrap();
    assert!(why.contains("MiB left, too little"), "{why}");
    assert_eq!(run["summary"]["lost"], 0, "what has a receipt is there");
    assert!(!run["seconds"].as_array().unwrap().is_empty());
}

#[test]
fn drills_that_were_never_made_are_an_empty_list() {
    let home = Home::new();
    assert_eq!(home.json(&["drill", "history"]), [serde_json::json!([])]);
    let (code, error) = home.error(&["drill", "surge", "--scenario", "no-such-storm"]);
    assert_eq!((code, error["code"].as_str()), (2, Some("usage")));
}
