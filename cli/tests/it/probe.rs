//! The client from outside against the real binary: it gets through, it finds its way again by itself, and what it suffers from is named.

use std::fs;

use serde_json::Value;

use crate::support::{Home, Server, until};

/// `up` with a probe each second.
fn home() -> Home {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    let config = "[gateway]\nenrolment = \"code\"\n[console.probe]\nevery_s = 1\nlimit_s = 5\n";
    fs::write(home.data().join("config.toml"), config).unwrap();
    home
}

/// What an operator's `method path` answers.
fn ask(home: &Home, server: &Server, method: &str, path: &str) -> Value {
    use std::io::{Read, Write};
    let token = fs::read_to_string(home.data().join("admin.token")).unwrap();
    let mut stream = std::net::TcpStream::connect(server.address("admin")).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        token.trim()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    serde_json::from_str::<Value>(body).unwrap()["result"].clone()
}

fn well(home: &Home, server: &Server) -> Value {
    until("all to be well", || {
        let status = ask(home, server, "GET", "/v1/status");
        (status["state"] == "up" && status["probe"]["ok"] == true).then_some(status)
    })
}

#[test]
fn a_client_from_outside_gets_through_and_finds_its_way_again() {
    let home = home();
    let server = Server::up(&home);
    let status = well(&home, &server);
    assert_eq!(status["summary"], "All is well.");
    assert_eq!(status["alerts"], serde_json::json!([]));
    let steps: Vec<&str> =
        status["probe"]["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["enter", "hello", "send", "receive"]);
    // On demand, as the same two devices.
    for _ in 0..3 {
        let now = ask(&home, &server, "POST", "/v1/probe");
        assert_eq!(now["ok"], true, "{now}");
    }
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains("buslane_probe_runs_total{outcome=\"ok\"}"), "{metrics}");
    server.stop();

    // After a restart the devices are the same ones.
    let key = home.data().join("probe/sender/device.key");
    let before = fs::read(&key).unwrap();
    let server = Server::up(&home);
    well(&home, &server);
    server.stop();
    assert_eq!(fs::read(&key).unwrap(), before);

    // Another store, which has never heard of them: they enrol again by themselves.
    fs::remove_dir_all(home.data().join("store")).unwrap();
    let server = Server::up(&home);
    well(&home, &server);
    server.stop();
}
