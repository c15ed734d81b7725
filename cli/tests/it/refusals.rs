//! What the server does not do, and how a person hears of it.

use std::fs;

use crate::support::{Home, Server};

fn refused(home: &Home, args: &[&str]) -> (i32, String) {
    let (code, error) = home.error(args);
    assert!(error["message"].as_str().unwrap().len() > 20, "{error}");
    (code, error["code"].as_str().unwrap().to_owned())
}

#[test]
fn unknown_users_rooms_and_codes_are_refused_by_name() {
    let home = Home::new();
    let server = Server::up(&home);
    let refused = |args: &[&str]| refused(&home, args);
    let nowhere = "00000000-0000-8000-8000-000000000000";
    assert_eq!(refused(&["send", "--as", "alice", "--to", "nobody", "x"]), (1, "unknown_user".into()));
    assert_eq!(refused(&["send", "--as", "alice", "--room", nowhere, "x"]), (1, "unknown_room".into()));
    assert_eq!(refused(&["tail", "--as", "alice", "--room", nowhere]), (1, "unknown_room".into()));
    assert_eq!(refused(&["account", "enrol", "--code", "wrong", "--as", "newcomer"]), (1, "bad_code".into()));
    assert_eq!(
        refused(&["account", "revoke", "00000000-0000-8000-8000-000000000000", "--as", "alice"]),
        (1, "unknown_device".into())
    );
    server.stop();
}

#[test]
fn strangers_and_the_blocked_do_not_get_in() {
    let home = Home::new();
    let server = Server::up(&home);
    for name in ["bob", "mallory"] {
        home.json(&["account", "show", "--as", name]);
    }
    let made = home.json(&["room", "create", "Lunch", "--member", "bob", "--as", "alice"]);
    let room = made[0]["room"].as_str().unwrap();
    let refused = |args: &[&str]| refused(&home, args);
    for args in [
        &["send", "--as", "mallory", "--room", room, "let me in"][..],
        &["tail", "--as", "mallory", "--room", room],
        &["room", "members", room, "--as", "mallory"],
        &["room", "invite", room, "mallory", "--as", "mallory"],
    ] {
        assert_eq!(refused(args), (1, "not_a_member".into()), "{args:?}");
    }
    assert_eq!(refused(&["room", "join", room, "--as", "mallory"]), (1, "not_invited".into()));
    assert_eq!(refused(&["room", "kick", room, "alice", "--as", "bob"]), (1, "not_allowed".into()));

    home.json(&["send", "--as", "mallory", "--to", "bob", "one"]);
    home.json(&["account", "block", "mallory", "--as", "bob"]);
    assert_eq!(home.json(&["account", "blocked", "--as", "bob"])[0], serde_json::json!(["mallory"]));
    assert_eq!(refused(&["send", "--as", "mallory", "--to", "bob", "two"]), (1, "blocked".into()));
    home.json(&["account", "unblock", "mallory", "--as", "bob"]);
    home.json(&["send", "--as", "mallory", "--to", "bob", "three"]);
    assert_eq!(home.texts("bob", "mallory"), ["one", "three"]);
    server.stop();
}

#[test]
fn what_is_too_long_is_refused_and_what_just_fits_is_not() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    let fits = "x".repeat(16 * 1024);
    home.json(&["send", "--as", "alice", "--to", "bob", &fits]);
    let longer = "x".repeat(16 * 1024 + 1);
    assert_eq!(refused(&home, &["send", "--as", "alice", "--to", "bob", &longer]), (1, "too_long".into()));
    // The refused one does not stay in the way.
    home.json(&["send", "--as", "alice", "--to", "bob", "short"]);
    assert_eq!(home.texts("bob", "alice"), [fits.as_str(), "short"]);
    server.stop();
}

#[test]
fn a_server_that_is_not_there_or_not_the_right_one_is_explained() {
    let home = Home::new();
    let alone = refused(&home, &["account", "show", "--as", "alice"]);
    assert_eq!(alone, (6, "no_ca".into()));

    let server = Server::up(&home);
    let other = Home::new();
    let others = Server::up(&other);
    let ca = other.data().join("tls/ca.pem");
    let wrong =
        ["account", "show", "--as", "alice", "--gate", server.address("gate"), "--ca", ca.to_str().unwrap()];
    assert_eq!(refused(&home, &wrong), (6, "untrusted_server".into()));

    let junk = home.path().join("junk.pem");
    fs::write(&junk, "no certificate").unwrap();
    let wrong = ["account", "show", "--as", "alice", "--ca", junk.to_str().unwrap()];
    assert_eq!(refused(&home, &wrong).0, 6);

    // A device of one system is nobody at another.
    home.json(&["account", "show", "--as", "alice"]);
    let state = home.path().join("clients/alice");
    let foreign = [
        "account",
        "show",
        "--as",
        "alice",
        "--gate",
        others.address("gate"),
        "--ca",
        ca.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ];
    assert_eq!(refused(&home, &foreign), (7, "bad_credential".into()));

    let gate = server.address("gate").to_owned();
    server.stop();
    let gone = ["account", "show", "--as", "alice", "--gate", &gate];
    assert_eq!(refused(&home, &gone), (6, "unreachable".into()));
    others.stop();
}
