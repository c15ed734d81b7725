//! The roles apart, over mTLS: three processes on this machine.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::support::{Home, Server, signal, until};

/// Puts free ports in the place of the fixed ones. (A port that is free now may be taken a moment later; the kernel gives
/// them out in turn, so that it practically never is.)
pub fn free_ports(dir: &Path) {
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let udp = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let ports = [
        ("7400", udp()),
        ("7401", udp()),
        ("7402", udp()),
        ("7410", tcp()),
        ("7480", tcp()),
        ("7481", tcp()),
        ("7482", tcp()),
    ];
    for name in ["gateway.toml", "session-manager.toml", "backend.toml"] {
        let path = dir.join(name);
        let mut text = fs::read_to_string(&path).unwrap();
        for (fixed, free) in &ports {
            text = text.replace(&format!("127.0.0.1:{fixed}"), &format!("127.0.0.1:{free}"));
        }
        fs::write(path, text).unwrap();
    }
}

#[test]
fn three_processes_make_a_conversation_and_each_may_be_restarted() {
    let home = Home::new();
    let dir = home.path().join("system");
    home.json(&["config", "init", "--dir", dir.to_str().unwrap()]);
    free_ports(&dir);
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    for name in ["gateway.toml", "session-manager.toml", "backend.toml"] {
        home.json(&["config", "check", &file(name)]);
    }
    let start = |role: &str| Server::start(&home, &[role, "--config", &file(&format!("{role}.toml"))]);
    let backend = start("backend");
    let manager = start("session-manager");
    let gateway = start("gateway");
    let gate = gateway.address("gate").to_owned();
    let (ca, token) = (file("ca.pem"), file("admin.token"));
    let at = ["--gate", gate.as_str(), "--ca", ca.as_str()];

    home.enrol(&["alice", "bob"], backend.address("admin"), &token, &at);
    let send = |text: &str| home.json(&[&["send", "--as", "alice", "--to", "bob", text], &at[..]].concat());
    send("over three processes");
    let texts = || -> Vec<String> {
        let log = home.json(&[&["tail", "--as", "bob", "--with", "alice"], &at[..]].concat());
        log.iter().map(|m| m["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(), ["over three processes"]);

    // Each role goes and comes back; the others stay and find it again.
    gateway.stop();
    let gateway = start("gateway");
    send("after the gateway");
    manager.stop();
    let manager = start("session-manager");
    send("after the session manager");
    backend.stop();
    let backend = start("backend");
    until("the roles to find the backend again", || gateway.page("/readyz").0.contains("200").then_some(()));
    send("after the backend");
    assert_eq!(
        texts(),
        ["over three processes", "after the gateway", "after the session manager", "after the backend"]
    );
    gateway.stop();
    manager.stop();
    backend.stop();
}

#[test]
fn a_role_with_another_systems_certificate_is_not_served() {
    let home = Home::new();
    let (ours, theirs) = (home.path().join("ours"), home.path().join("theirs"));
    for dir in [&ours, &theirs] {
        home.json(&["config", "init", "--dir", dir.to_str().unwrap()]);
    }
    free_ports(&ours);
    for name in ["gateway.pem", "gateway.key", "ca.pem"] {
        fs::copy(theirs.join(name), ours.join(format!("foreign-{name}"))).unwrap();
    }
    let gateway = ours.join("gateway.toml");
    let text = fs::read_to_string(&gateway).unwrap();
    // It trusts our CA, and shows a certificate of theirs.
    let text = text.replace("\"gateway.pem\"", "\"foreign-gateway.pem\"");
    fs::write(&gateway, text.replace("\"gateway.key\"", "\"foreign-gateway.key\"")).unwrap();
    let backend = Server::start(&home, &["backend", "--config", ours.join("backend.toml").to_str().unwrap()]);
    let mut child =
        home.command(&["gateway", "--config", gateway.to_str().unwrap(), "--json"]).spawn().unwrap();
    let admin = fs::read_to_string(&gateway).unwrap();
    let admin = admin.lines().find_map(|l| l.strip_prefix("admin = ")).unwrap().trim_matches('"').to_owned();
    let ready = until("the gateway's admin surface", || {
        let said = home.run(&["ctl", "status", "--admin", &admin, "--json"]);
        (said.code == 1).then(|| said.lines().remove(0))
    });
    assert_eq!(ready["ready"], false, "{ready}");
    child.kill().unwrap();
    child.wait().unwrap();
    backend.stop();
}

#[test]
fn certificates_that_are_read_again_are_recorded_and_do_not_make_a_process_ready() {
    let home = Home::new();
    let (ours, theirs) = (home.path().join("ours"), home.path().join("theirs"));
    for dir in [&ours, &theirs] {
        home.json(&["config", "init", "--dir", dir.to_str().unwrap()]);
    }
    free_ports(&ours);
    let config = ours.join("gateway.toml");
    let text = fs::read_to_string(&config).unwrap();
    let admin = text.lines().find_map(|l| l.strip_prefix("admin = ")).unwrap().trim_matches('"').to_owned();
    let token = ours.join("admin.token").to_str().unwrap().to_owned();
    let notices = home.path().join("notify");
    let manager = UnixDatagram::bind(&notices).unwrap();
    manager.set_nonblocking(true).unwrap();
    // There is no backend: it is never ready.
    let mut gateway = home
        .command(&["gateway", "--config", config.to_str().unwrap(), "--json"])
        .env("NOTIFY_SOCKET", &notices)
        .spawn()
        .unwrap();
    let recorded = || {
        let said = home.run(&["ctl", "audit", "--admin", &admin, "--token", &token, "--json"]);
        (said.code == 0).then(|| said.stdout.matches("certificates.reload").count())
    };
    assert_eq!(until("the admin surface", recorded), 0);
    for name in ["gateway.pem", "gateway.key"] {
        fs::copy(theirs.join(name), ours.join(name)).unwrap();
    }
    signal(gateway.id(), "HUP");
    until("it to be recorded", || recorded().filter(|count| *count == 1));
    let mut told = [0; 512];
    assert!(manager.recv(&mut told).is_err(), "{}", String::from_utf8_lossy(&told));
    gateway.kill().unwrap();
    gateway.wait().unwrap();
}
