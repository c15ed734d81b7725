//! The operator's seat through the real binary: who may do what, what is shown, and what works while the backend is dead.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use buslane_client::raw::Transport;
use buslane_client::{AppState, CaSource, Client, FirstLogin, Options, Storage};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::roles::free_ports;
use crate::support::{Home, Server, signal, until};

/// A session manager of its own name, ports and folder, with these processes as peers.
fn manager(dir: &Path, name: &str, admin: &str, peers: &[&str]) -> PathBuf {
    let text = fs::read_to_string(dir.join("session-manager.toml")).unwrap();
    let line = |line: &str| match line.split_once(" = ") {
        Some((key @ ("front" | "wake"), _)) => format!("{key} = \"127.0.0.1:0\""),
        Some(("admin", _)) => format!("admin = \"{admin}\""),
        Some(("data", _)) => format!("data = \"{name}.data\""),
        Some(("node", _)) => format!("node = \"{name}\""),
        Some(("peers", _)) => format!("peers = {peers:?}"),
        _ => line.to_owned(),
    };
    let path = dir.join(format!("{name}.toml"));
    fs::write(&path, text.lines().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    path
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn an_order_is_effective_on_all_nodes_while_the_backend_is_dead() {
    let home = Home::new();
    let dir = home.path().join("system");
    home.json(&["config", "init", "--dir", dir.to_str().unwrap()]);
    free_ports(&dir);
    let (at_one, at_two) = (free_address(), free_address());
    let peers = [at_one.as_str(), at_two.as_str()];
    let start = |role: &str, file: &Path| Server::start(&home, &[role, "--config", file.to_str().unwrap()]);
    let backend = start("backend", &dir.join("backend.toml"));
    let one = start("session-manager", &manager(&dir, "sm1", &at_one, &peers));
    let two = start("session-manager", &manager(&dir, "sm2", &at_two, &peers));
    let token = dir.join("admin.token").to_str().unwrap().to_owned();
    let at = |address: &'static str, admin: &str| [address, admin, "--token", &token].map(str::to_owned);
    let ask = |admin: &str, args: &[&str]| -> Value {
        let at = at("--admin", admin);
        home.json(&[args, &at.each_ref().map(String::as_str)[..]].concat()).remove(0)
    };
    until("the managers to know each other", || {
        let nodes = ask(&at_one, &["ctl", "nodes"]);
        let up = |node: &&Value| node["role"] == "session-manager" && node["state"] == "up";
        (nodes.as_array()?.iter().filter(up).count() == 2).then_some(())
    });
    backend.kill();

    let given =
        ask(&at_one, &["ctl", "emergency", "on", "--reason", "drill", "--for", "1h", "--author", "kim"]);
    let effective = &given["effective"];
    assert_eq!((effective["nodes"].as_u64(), effective["of"].as_u64()), (Some(2), Some(2)), "{given}");
    let after_ms = effective["after_ms"].as_u64().unwrap();
    println!("effective on 2 of 2 nodes after {after_ms} ms, with a dead backend");
    assert!(after_ms <= 1_000, "{given}");
    assert_eq!(ask(&at_two, &["ctl", "posture"])["posture"], "emergency");
    // Nothing lies about the backend.
    let nodes = ask(&at_one, &["ctl", "nodes"]);
    let others = nodes.as_array().unwrap().iter().filter(|node| node["role"] == "backend");
    for node in others {
        assert_ne!(node["state"], "up", "{node}");
    }
    two.stop();
    one.stop();
}

#[test]
fn a_viewer_looks_an_operator_orders_and_only_an_admin_makes_tokens() {
    let home = Home::new();
    let server = Server::up(&home);
    let token = |name: &str, role: &str| {
        let file = home.path().join(format!("{name}.token")).to_str().unwrap().to_owned();
        let made = home
            .json(&["ctl", "token", "create", name, "--role", role, "--reason", "a test", "--out", &file]);
        assert!(made[0].get("token").is_none(), "it is in the file and nowhere else: {}", made[0]);
        (made[0]["id"].as_str().unwrap().to_owned(), file)
    };
    let (viewer, viewers) = token("vera", "viewer");
    let (_, operators) = token("olga", "operator");
    let order = ["ctl", "emergency", "on", "--reason", "drill", "--for", "1h", "--token"];

    home.json(&["ctl", "posture", "--token", &viewers]);
    let (code, error) = home.error(&[&order[..], &[viewers.as_str()]].concat());
    assert_eq!(code, 1, "{error}");
    assert!(error["message"].as_str().unwrap().contains("operator"), "{error}");
    // The author is who the token says, whatever is written.
    let given = home.json(&[&order[..], &[operators.as_str(), "--author", "somebody"]].concat()).remove(0);
    assert_eq!(given["order"]["author"], "olga", "{given}");
    let (code, error) = home.error(&["ctl", "token", "list", "--token", &operators]);
    assert_eq!(code, 1, "{error}");
    let (code, error) = home.error(&["ctl", "enrol-code", "mallory", "--token", &operators]);
    assert_eq!(code, 1, "{error}");

    let listed = home.run(&["ctl", "token", "list"]).stdout;
    assert!(listed.contains("vera") && listed.contains("olga"), "{listed}");
    home.json(&["ctl", "token", "revoke", &viewer, "--reason", "the test is over"]);
    let (code, error) = home.error(&["ctl", "posture", "--token", &viewers]);
    assert_eq!(code, 1, "{error}");
    let audit = home.run(&["ctl", "audit"]).stdout;
    for word in ["token.make", "token.revoke", "order.emergency", "olga"] {
        assert!(audit.contains(word), "{word}: {audit}");
    }
    server.stop();
}

#[test]
fn what_holds_what_happens_and_where_it_comes_from_is_shown() {
    let home = Home::new();
    let server = Server::up(&home);
    let people = |args: &[&str]| {
        let said = home.run(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.stdout
    };
    until("the first sample", || people(&["ctl", "traffic"]).contains("sessions in front").then_some(()));
    let picture = people(&["top", "--once"]);
    assert!(picture.contains("NORMAL") && picture.contains("C1 talk"), "{picture}");
    assert!(people(&["ctl", "nodes"]).contains(" *"));
    let status = home.json(&["ctl", "status"]).remove(0);
    assert!(status["status"]["components"].as_array().is_some_and(|all| !all.is_empty()), "{status}");
    until("a probe that comes through", || (home.run(&["ctl", "probe"]).code == 0).then_some(()));

    people(&["ctl", "mark", "deploy", "version 2"]);
    let incident =
        home.json(&["ctl", "incidents", "open", "slow syncs", "--severity", "high", "--reason", "calls"]);
    let no = incident[0]["no"].to_string();
    people(&["ctl", "incidents", "acknowledge", &no]);
    people(&["ctl", "incidents", "note", &no, "looking at it"]);
    let story = people(&["ctl", "incidents", "show", &no]);
    for word in ["slow syncs", "looking at it", "version 2"] {
        assert!(story.contains(word), "{word}: {story}");
    }
    assert!(people(&["ctl", "incidents"]).contains("slow syncs"));
    assert!(people(&["ctl", "incidents", "export", &no]).contains("slow syncs"));

    // Settings: where they come from, and what of the file does not hold yet.
    let printed = people(&["config", "print"]);
    let line = |key: &str| printed.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("admin =").ends_with("# --admin"), "{}", line("admin ="));
    assert!(line("gateway.enrolment").contains("config.toml:"), "{}", line("gateway.enrolment"));
    assert!(line("session_manager.overload.lanes.seats = 512").ends_with("# default"));
    let config = home.data().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[session_manager.overload.lanes]\nseats = 64\n")).unwrap();
    let differs =
        || home.run(&["ctl", "config", "diff"]).stdout.contains("session_manager.overload.lanes.seats");
    assert!(differs());
    let run: Value = serde_json::from_slice(&fs::read(home.data().join("run.json")).unwrap()).unwrap();
    signal(run["pid"].as_u64().unwrap().try_into().unwrap(), "HUP");
    until("the new settings to hold", || (!differs()).then_some(()));
    let story = people(&["ctl", "incidents", "show", &no]);
    assert!(
        story.contains("session_manager.overload.lanes.seats") || story.contains("lanes.seats"),
        "{story}"
    );

    let would = people(&["ctl", "drain", "--reason", "a test", "--dry-run"]);
    assert!(would.starts_with("nothing was done"), "{would}");
    let ready = || server.page("/readyz").0.contains("200");
    assert!(ready(), "a dry run changes nothing");
    people(&["ctl", "drain", "--reason", "a test"]);
    assert!(!ready(), "{}", server.page("/readyz").1);
    assert!(people(&["ctl", "drain", "--end", "--reason", "a test"]).contains("takes sessions"));
    assert!(ready(), "{}", server.page("/readyz").1);
    server.stop();
}

/// Phones that come at once.
const PHONES: usize = 12;

#[test]
fn why_a_phone_was_put_off_is_said_in_a_sentence() {
    let home = Home::new();
    let server = Server::up(&home);
    // In an emergency a phone that comes by itself is told when to come.
    home.json(&["ctl", "emergency", "on", "--reason", "drill", "--for", "1h"]);
    let runtime = Runtime::new().unwrap();
    let ca = CaSource::File(server.address("ca").into());
    let transport = runtime.block_on(async { Transport::new(&ca).unwrap() });
    let open = |n: usize| {
        let options = Options {
            app_state: AppState::Background,
            first_login: FirstLogin::FromNow,
            ..Options::new(
                format!("phone{n}").parse().unwrap(),
                server.address("gate"),
                ca.clone(),
                Storage::Memory,
            )
        };
        runtime.block_on(Client::open_on(options, transport.clone())).unwrap()
    };
    let phones: Vec<Client> = (0..PHONES).map(open).collect();
    let refused = until("somebody to be refused", || {
        (0..PHONES).map(|n| format!("phone{n}")).find(|user| {
            let said = home.json(&["ctl", "why", user]).remove(0);
            said["refusals"].as_array().is_some_and(|refusals| !refusals.is_empty())
        })
    });
    let said = home.run(&["ctl", "why", &refused]).stdout;
    let first = said.lines().next().unwrap();
    assert!(first.contains(" ago: "), "{said}");
    assert!(first.contains("come back") || first.contains("slot"), "{said}");
    let nobody = home.run(&["ctl", "why", "stranger"]).stdout;
    assert!(nobody.starts_with("Nobody remembers that stranger was refused."), "{nobody}");
    // Somebody is in by now, and is seen where he is.
    let user = until("a session to be seen", || {
        (0..PHONES).map(|n| format!("phone{n}")).find_map(|user| {
            let session = home.json(&["ctl", "sessions", &user]).remove(0)["sessions"].get(0)?.clone();
            Some((user, session["device"].as_str()?.to_owned()))
        })
    });
    home.json(&["ctl", "disconnect", &user.0, &user.1, "--reason", "a test"]);
    assert!(home.run(&["ctl", "audit"]).stdout.contains("a test"));
    drop(phones);
    server.stop();
}

#[test]
fn the_admin_address_may_speak_tls_and_take_certificates() {
    let home = Home::new();
    Server::up(&home).stop();
    let config = home.data().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let tls = "[admin_tls]\ncertificate = \"tls/server.pem\"\nkey = \"tls/server.key\"\n";
    fs::write(&config, format!("{text}\n{tls}")).unwrap();
    let server = Server::up(&home);
    assert!(server.address("console").starts_with("https://127.0.0.1:"), "{}", server.ready);
    // The data folder says how it is reached, and whom to believe.
    assert_eq!(home.json(&["ctl", "status"])[0]["ready"], true);
    home.json(&["ctl", "posture"]);
    let admin = format!("https://{}", server.address("admin"));
    home.json(&["ctl", "posture", "--admin", &admin, "--ca", server.address("ca")]);
    let (code, error) = home.error(&["ctl", "posture", "--admin", server.address("admin")]);
    assert_eq!(code, 6, "plain HTTP is not spoken there: {error}");
    server.stop();
}
