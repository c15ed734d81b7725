//! kill -9 while messages are sent: a small form of `scripts/crash-check`.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Home, Server, said, until};

#[test]
fn what_was_acknowledged_is_there_once_after_kills() {
    const MESSAGES: u64 = 6_000;
    const KILLS: u64 = 3;
    let home = Home::new();
    let mut server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    let acks = home.path().join("a.jsonl");
    let count = MESSAGES.to_string();
    let sender = home
        .command(&[
            "send",
            "--as",
            "alice",
            "--to",
            "bob",
            "--count",
            &count,
            "--size",
            "60",
            "--in-flight",
            "128",
            "--acks",
            acks.to_str().unwrap(),
            "--reconnect-cap",
            "100ms",
            "--json",
        ])
        .spawn()
        .unwrap();
    let written = || std::fs::read_to_string(&acks).map_or(0, |text| text.lines().count() as u64);
    let addresses = server.addresses();
    for kill in 1..=KILLS {
        // In the middle: receipts have come since the last start, and more are on the way.
        let enough = kill * MESSAGES / (KILLS + 2);
        until("receipts", || (written() >= enough).then_some(()));
        server.kill();
        server = Server::up_with(&home, &[&addresses[0], &addresses[1], &addresses[2], &addresses[3]]);
    }
    let said = said(sender);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.lines()[0]["acked"].as_u64(), Some(MESSAGES));

    let log = home.json(&["tail", "--as", "bob", "--with", "alice", "--from", "1"]);
    let seqs: Vec<_> = log.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=MESSAGES).collect::<Vec<_>>());
    let by_id: HashMap<&str, &Value> = log.iter().map(|m| (m["client_id"].as_str().unwrap(), m)).collect();
    assert_eq!(by_id.len() as u64, MESSAGES, "a client id is there twice");
    let lines = std::fs::read_to_string(&acks).unwrap();
    assert_eq!(lines.lines().count() as u64, MESSAGES);
    for line in lines.lines() {
        let ack: Value = serde_json::from_str(line).unwrap();
        let message = by_id[ack["client_id"].as_str().unwrap()];
        assert_eq!(message["seq"], ack["seq"]);
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            message["text"].as_str().unwrap().as_bytes(),
        );
        assert_eq!(ack["sha256"].as_str().unwrap(), hex::encode(digest));
    }
    let numbers: Vec<u64> =
        log.iter().map(|m| m["text"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(
        numbers,
        (1..=MESSAGES).collect::<Vec<_>>(),
        "the order of the sends is not the order of the log"
    );
    server.stop();
}

#[test]
fn a_server_that_does_not_come_back_leaves_the_outcome_unknown() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    home.json(&["send", "--as", "alice", "--to", "bob", "one"]);
    let acks = home.path().join("a.jsonl");
    let sender = home
        .command(&[
            "send",
            "--as",
            "alice",
            "--to",
            "bob",
            "--count",
            "1000000",
            "--size",
            "60",
            "--acks",
            acks.to_str().unwrap(),
            "--patience",
            "2s",
            "--json",
        ])
        .spawn()
        .unwrap();
    until("receipts", || std::fs::read_to_string(&acks).ok().filter(|text| text.lines().count() > 50));
    server.kill();
    let said = said(sender);
    assert_eq!(said.code, 1, "{said:?}");
    let summary = &said.lines()[0];
    assert!(summary["unknown"].as_u64().unwrap() > 0, "{summary}");
    let sum = ["acked", "failed", "unknown"].map(|k| summary[k].as_u64().unwrap()).iter().sum::<u64>();
    assert_eq!(summary["sent"].as_u64(), Some(sum), "{summary}");
    assert!(summary["elapsed_s"].as_f64().unwrap() < Duration::from_secs(30).as_secs_f64(), "{summary}");
}
