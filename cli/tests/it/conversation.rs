//! Messages from one to another, by the commands, over restarts.

use crate::support::{Follower, Home, Server, said};

#[test]
fn a_conversation_survives_a_restart() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    let summary = home.json(&["send", "--as", "alice", "--to", "bob", "hello bob"]);
    assert_eq!((summary[0]["sent"].as_u64(), summary[0]["acked"].as_u64()), (Some(1), Some(1)));
    assert!(summary[0]["ack_ms"]["p999"].as_f64().unwrap() > 0.0);
    home.json(&["send", "--as", "bob", "--to", "alice", "hello alice"]);
    let before = home.json(&["tail", "--as", "alice", "--with", "bob"]);
    server.stop();

    let server = Server::up(&home);
    assert_eq!(home.json(&["tail", "--as", "alice", "--with", "bob"]), before);
    home.json(&["send", "--as", "alice", "--to", "bob", "still here"]);
    assert_eq!(home.texts("bob", "alice"), ["hello bob", "hello alice", "still here"]);
    let log = home.json(&["tail", "--as", "bob", "--with", "alice"]);
    for (i, line) in log.iter().enumerate() {
        assert_eq!(line["seq"].as_u64(), Some(i as u64 + 1));
        for key in ["room", "sender", "client_id", "text", "sent_at"] {
            assert!(line[key].is_string(), "{key}: {line}");
        }
    }
    server.stop();
}

#[test]
fn tail_begins_and_ends_where_it_is_told() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    home.json(&["send", "--as", "alice", "--to", "bob", "--count", "30", "--size", "20"]);
    let seqs = |args: &[&str]| -> Vec<u64> {
        let lines = home.json(&[&["tail", "--as", "bob", "--with", "alice"], args].concat());
        lines.iter().map(|m| m["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs(&[]), (1..=30).collect::<Vec<_>>());
    assert_eq!(seqs(&["--from", "25"]), (25..=30).collect::<Vec<_>>());
    assert_eq!(seqs(&["--from", "-3"]), [28, 29, 30]);
    assert_eq!(seqs(&["--from", "5", "--count", "2"]), [5, 6]);
    assert_eq!(seqs(&["--from", "31"]), [0u64; 0]);
    // For people, a line each.
    let plain = home.run(&["tail", "--as", "bob", "--with", "alice", "--from", "-1"]);
    assert_eq!(plain.stdout.lines().count(), 1, "{plain:?}");
    assert!(plain.stdout.contains("alice:"), "{plain:?}");
    server.stop();
}

#[test]
fn tail_follows_what_comes() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    home.json(&["send", "--as", "alice", "--to", "bob", "one"]);
    let mut follower = Follower::start(&home, "bob", "alice");
    assert_eq!(follower.next()["text"], "one");
    home.json(&["send", "--as", "alice", "--to", "bob", "two"]);
    assert_eq!(follower.next()["text"], "two");
    home.json(&["send", "--as", "alice", "--to", "bob", "three"]);
    assert_eq!(follower.next()["text"], "three");
    assert_eq!(follower.interrupt().code, 0);
    server.stop();
}

#[test]
fn every_receipt_is_a_line_that_the_log_confirms() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    let acks = home.path().join("a.jsonl");
    let summary = home.json(&[
        "send",
        "--as",
        "alice",
        "--to",
        "bob",
        "--count",
        "500",
        "--size",
        "100",
        "--in-flight",
        "64",
        "--acks",
        acks.to_str().unwrap(),
    ]);
    assert_eq!(summary[0]["acked"], 500);
    let log = home.json(&["tail", "--as", "bob", "--with", "alice"]);
    let lines = std::fs::read_to_string(&acks).unwrap();
    assert_eq!(lines.lines().count(), 500);
    for line in lines.lines() {
        let ack: serde_json::Value = serde_json::from_str(line).unwrap();
        let message = &log[ack["seq"].as_u64().unwrap() as usize - 1];
        for key in ["seq", "room", "client_id"] {
            assert_eq!(ack[key], message[key]);
        }
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            message["text"].as_str().unwrap().as_bytes(),
        );
        assert_eq!(ack["sha256"].as_str().unwrap(), hex::encode(digest));
    }
    server.stop();
}

#[test]
fn a_message_that_finds_no_server_goes_out_later_and_once() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    home.json(&["send", "--as", "alice", "--to", "bob", "first"]);
    let addresses = server.addresses();
    server.stop();
    let gate = addresses[0].clone();
    let ca = home.data().join("tls/ca.pem");
    let waiting = home
        .command(&[
            "send",
            "--as",
            "alice",
            "--to",
            "bob",
            "second",
            "--json",
            "--gate",
            &gate,
            "--ca",
            ca.to_str().unwrap(),
        ])
        .spawn()
        .unwrap();
    let server = Server::up_with(&home, &[&addresses[0], &addresses[1], &addresses[2], &addresses[3]]);
    let said = said(waiting);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(home.texts("bob", "alice"), ["first", "second"]);
    server.stop();
}

#[test]
fn a_group_has_its_members_and_its_numbers_have_no_hole() {
    let home = Home::new();
    let server = Server::up(&home);
    for name in ["bob", "carol", "dave"] {
        home.json(&["account", "show", "--as", name]);
    }
    let made = home.json(&["room", "create", "Lunch", "--member", "bob", "--as", "alice"]);
    let room = made[0]["room"].as_str().unwrap().to_owned();
    assert_eq!((made[0]["kind"].as_str(), made[0]["title"].as_str()), (Some("group"), Some("Lunch")));
    home.json(&["room", "invite", &room, "carol", "--as", "bob"]);
    home.json(&["room", "join", &room, "--as", "carol"]);
    home.json(&["send", "--as", "carol", "--room", &room, "noodles?"]);
    home.json(&["room", "kick", &room, "bob", "--as", "alice"]);
    home.json(&["room", "leave", &room, "--as", "carol"]);

    let log = home.json(&["tail", "--as", "alice", "--room", &room]);
    let seqs: Vec<_> = log.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>());
    let events: Vec<_> = log.iter().filter_map(|m| m["event"].as_str()).collect();
    assert_eq!(events, ["created", "invited", "joined", "kicked", "left"]);
    let texts: Vec<_> = log.iter().filter_map(|m| m["text"].as_str()).collect();
    assert_eq!(texts, ["noodles?"]);

    let members = home.json(&["room", "members", &room, "--as", "alice"]);
    let names: Vec<_> = members[0].as_array().unwrap().iter().map(|m| m["user"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice"]);
    assert_eq!(home.json(&["room", "list", "--as", "dave"])[0], serde_json::json!([]));
    home.json(&["room", "notify", &room, "mentions", "--quiet", "22:00-07:00", "--as", "alice"]);
    let described = home.json(&["room", "describe", &room, "--as", "alice"]);
    assert_eq!(described[0]["notify"]["mode"], "mentions");
    assert_eq!(described[0]["notify"]["quiet_from"], "22:00");
    server.stop();
}

#[test]
fn a_device_is_added_by_code_and_is_silent_when_it_is_revoked() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "alice"]);
    let second = home.path().join("second");
    let second = second.to_str().unwrap();
    let (code, error) = home.error(&["account", "show", "--as", "alice", "--state", second]);
    assert_eq!((code, error["code"].as_str()), (1, Some("name_taken")));
    assert!(error["message"].as_str().unwrap().contains("account code"), "{error}");

    let made = home.json(&["account", "code", "--as", "alice"]);
    let one_time = made[0]["code"].as_str().unwrap().to_owned();
    home.json(&["account", "enrol", "--code", &one_time, "--as", "alice", "--state", second]);
    let devices = home.json(&["account", "devices", "--as", "alice"])[0].as_array().unwrap().clone();
    assert_eq!(devices.len(), 2, "{devices:?}");

    let third = home.path().join("third");
    let (_, error) = home.error(&[
        "account",
        "enrol",
        "--code",
        &one_time,
        "--as",
        "alice",
        "--state",
        third.to_str().unwrap(),
    ]);
    assert_eq!(error["code"], "bad_code", "a code opens twice");

    let other = devices.iter().find(|d| d["current"] == false).unwrap()["device"].as_str().unwrap();
    home.json(&["account", "revoke", other, "--as", "alice"]);
    let (code, error) = home.error(&["account", "show", "--as", "alice", "--state", second]);
    assert_eq!((code, error["code"].as_str()), (1, Some("revoked")));
    server.stop();
}

#[test]
fn the_first_signal_ends_in_order_while_clients_are_connected() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    home.json(&["send", "--as", "alice", "--to", "bob", "one"]);
    let mut follower = Follower::start(&home, "bob", "alice");
    assert_eq!(follower.next()["text"], "one");
    server.stop();
    // The client neither ends nor fails for it: it waits for the server to come back.
    assert_eq!(follower.interrupt().code, 0);
}
