//! The operator's commands, and who may give them.

use std::fs;

use crate::support::{Home, Server};

#[test]
fn status_and_codes_are_for_who_has_the_token() {
    let home = Home::new();
    let server = Server::up(&home);
    let status = home.json(&["ctl", "status"]);
    assert_eq!(status[0]["ready"], true);

    let made = home.json(&["ctl", "enrol-code", "alice"]);
    let code = made[0]["code"].as_str().unwrap();
    home.json(&["account", "enrol", "--code", code, "--as", "alice"]);

    let token = home.path().join("token");
    fs::write(&token, "0".repeat(64)).unwrap();
    let (code, error) = home.error(&["ctl", "enrol-code", "mallory", "--token", token.to_str().unwrap()]);
    assert_eq!(code, 1, "{error}");
    let (code, error) =
        home.error(&["ctl", "enrol-code", "mallory", "--token", home.path().join("none").to_str().unwrap()]);
    assert_eq!((code, error["code"].as_str()), (5, Some("no_admin_token")));
    let (code, error) = home.error(&["ctl", "enrol-code", "Not A Name"]);
    assert_eq!(code, 2, "{error}");
    server.stop();

    let (code, error) = home.error(&["ctl", "status"]);
    assert_eq!((code, error["code"].as_str()), (6, Some("unreachable")));
}

#[test]
fn a_gate_that_others_can_reach_needs_codes_unless_the_operator_says_otherwise() {
    let home = Home::new();
    // Every address of this machine: reachable, and loopback among them.
    let any = ["0.0.0.0:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"];
    let server = Server::up_with(&home, &any);
    let port = server.address("gate").rsplit_once(':').unwrap().1.to_owned();
    let gate = format!("127.0.0.1:{port}");
    let (code, error) = home.error(&["account", "show", "--as", "alice", "--gate", &gate]);
    assert_eq!((code, error["code"].as_str()), (1, Some("enrolment_closed")));
    assert!(error["message"].as_str().unwrap().contains("enrol-code"), "{error}");
    let made = home.json(&["ctl", "enrol-code", "alice"]);
    let one_time = made[0]["code"].as_str().unwrap();
    home.json(&["account", "enrol", "--code", one_time, "--as", "alice", "--gate", &gate]);
    server.stop();

    let config = home.data().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("open_beyond_loopback = true\n{text}")).unwrap();
    let server = Server::up_with(&home, &any);
    let port = server.address("gate").rsplit_once(':').unwrap().1.to_owned();
    home.json(&["account", "show", "--as", "bob", "--gate", &format!("127.0.0.1:{port}")]);
    server.stop();
}
