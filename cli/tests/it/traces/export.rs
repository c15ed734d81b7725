//! What reaches a collector of a login and of a message, and that nobody waits for one that is gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::collector::{Collector, Taken};
use crate::roles::free_ports;
use crate::support::{Home, LIMIT, Server, until};

const TEXT: &str = "words-that-no-collector-may-see";

/// Every attribute there is: docs/operations.md lists them.
const ATTRIBUTES: [&str; 13] = [
    "buslane.class",
    "buslane.decision",
    "buslane.members",
    "buslane.port",
    "buslane.queue_wait_seconds",
    "buslane.role",
    "buslane.sessions_behind",
    "buslane.sessions_later",
    "buslane.sessions_now",
    "error.type",
    "network.transport",
    "rpc.method",
    "rpc.system.name",
];

const GATEWAY: &str = "buslane-gateway";
const MANAGER: &str = "buslane-session-manager";
const BACKEND: &str = "buslane-backend";

/// Whose span, its name and its kind.
type What<'a> = (&'a str, &'a str, SpanKind);

/// The spans of a collector, to be asked for.
struct Spans(Vec<Taken>);

impl Spans {
    fn all<'a>(&'a self, what: What<'a>) -> impl Iterator<Item = &'a Taken> {
        self.0.iter().filter(move |s| (s.service.as_str(), s.name.as_str(), s.kind) == what)
    }

    fn child<'a>(&'a self, of: &Taken, what: What<'a>) -> Option<&'a Taken> {
        self.all(what).find(|s| s.parent == of.id && s.trace == of.trace)
    }

    fn services_of(&self, trace: &[u8]) -> BTreeSet<&str> {
        self.0.iter().filter(|s| s.trace == trace).map(|s| s.service.as_str()).collect()
    }
}

/// A `tail --follow` that ends with the test, whatever becomes of it.
struct Bob {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Bob {
    fn hears(&self, text: &str) {
        let line = self.lines.recv_timeout(LIMIT).expect("no further line");
        assert!(line.contains(text), "{line}");
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines }
    }
}

impl Drop for Bob {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn add(file: &Path, text: &str) {
    let old = fs::read_to_string(file).unwrap();
    fs::write(file, format!("{old}\n{text}")).unwrap();
}

#[test]
fn a_login_and_a_message_are_traces_across_three_roles() {
    let (home, collector) = (Home::new(), Collector::start());
    let dir = home.path().join("system");
    home.json(&["config", "init", "--dir", dir.to_str().unwrap()]);
    free_ports(&dir);
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    fs::write(dir.join("headers"), "x-tenant: one\n").unwrap();
    for name in ["gateway.toml", "session-manager.toml", "backend.toml"] {
        let table = format!(
            "[traces]\nendpoint = \"http://{}\"\nheaders = \"headers\"\nsample_ratio = 1.0\n",
            collector.address
        );
        add(&dir.join(name), &table);
        home.json(&["config", "check", &file(name)]);
    }
    let start = |role: &str| Server::start(&home, &[role, "--config", &file(&format!("{role}.toml"))]);
    let (backend, manager, gateway) = (start("backend"), start("session-manager"), start("gateway"));
    let (gate, ca, token) = (gateway.address("gate").to_owned(), file("ca.pem"), file("admin.token"));
    let at = ["--gate", gate.as_str(), "--ca", ca.as_str()];
    home.enrol(&["alice", "bob"], backend.address("admin"), &token, &at);
    home.json(&[&["send", "--as", "alice", "--to", "bob", "first"], &at[..]].concat());
    let follow = ["tail", "--as", "bob", "--with", "alice", "--follow", "--json"];
    let bob = Bob::start(home.command(&[&follow[..], &at[..]].concat()));
    bob.hears("first");
    home.json(&[&["send", "--as", "alice", "--to", "bob", TEXT], &at[..]].concat());
    bob.hears(TEXT);
    drop(bob);
    let spans = || Spans(collector.spans());
    until("a message, in all its spans", || a_message(&spans()));
    until("a login, in all its spans", || a_login(&spans()));
    until("an enrolment, in all its spans", || an_enrolment(&spans()));
    gateway.stop();
    manager.stop();
    backend.stop();
    nothing_private(&spans());
    assert!(collector.tenants().iter().all(|tenant| tenant == "one"));
}

fn a_message(spans: &Spans) -> Option<()> {
    use SpanKind::{Client, Consumer, Internal, Producer, Server};
    const RELAY: &str = "buslane.v1.Backend/Relay";
    let whole = |asked: &Taken| {
        let client = spans.child(asked, (MANAGER, RELAY, Client))?;
        let server = spans.child(client, (BACKEND, RELAY, Server))?;
        let sent = spans.child(server, (BACKEND, "message.send", Internal))?;
        spans.child(sent, (BACKEND, "authorise and order", Internal))?;
        spans.child(sent, (BACKEND, "commit", Internal))?;
        let delivered = spans.child(sent, (BACKEND, "deliver", Producer))?;
        assert_eq!(delivered.attributes["buslane.members"], "IntValue(2)");
        spans.child(delivered, (MANAGER, "push", Consumer))
    };
    let asked = spans.all((MANAGER, "message.send", Server)).find(|asked| whole(asked).is_some())?;
    assert_eq!(asked.attributes["buslane.class"], "C1");
    assert_eq!(asked.attributes["buslane.decision"], "admitted");
    assert!(asked.attributes.contains_key("buslane.queue_wait_seconds"));
    assert!(!asked.attributes.contains_key("error.type"), "{asked:?}");
    Some(())
}

/// From the gateway to the first thing that the session asks the backend for.
fn a_login(spans: &Spans) -> Option<()> {
    let (entered, login) = spans.all((GATEWAY, "enter", SpanKind::Server)).find_map(|entered| {
        let login = spans.child(entered, (MANAGER, "login", SpanKind::Server))?;
        (spans.services_of(&entered.trace).len() == 3).then_some((entered, login))
    })?;
    assert!(entered.parent.is_empty(), "{entered:?}");
    assert_eq!(login.attributes["buslane.decision"], "admitted");
    let first = spans.0.iter().filter(|s| s.parent == login.id).collect::<Vec<_>>();
    assert_eq!(first.len(), 1, "its first request, and no other: {first:?}");
    Some(())
}

fn an_enrolment(spans: &Spans) -> Option<()> {
    const ENROL: &str = "buslane.v1.Backend/Enrol";
    spans.all((GATEWAY, "enrol", SpanKind::Server)).find_map(|asked| {
        let client = spans.child(asked, (GATEWAY, ENROL, SpanKind::Client))?;
        assert_eq!(client.attributes["rpc.system.name"], "grpc");
        let server = spans.child(client, (BACKEND, ENROL, SpanKind::Server))?;
        spans.child(server, (BACKEND, "enrol", SpanKind::Internal)).map(|_| ())
    })
}

fn nothing_private(spans: &Spans) {
    for span in &spans.0 {
        for secret in ["alice", "bob", TEXT, "first"] {
            assert!(!span.whole.contains(secret), "{secret} in {}", span.whole);
        }
        for key in span.attributes.keys() {
            assert!(ATTRIBUTES.contains(&key.as_str()), "{key} is not documented");
        }
    }
}

#[test]
fn a_collector_that_is_gone_or_silent_costs_nothing_but_counted_drops() {
    let home = Home::new();
    let server = Server::up(&home);
    let addresses = server.addresses();
    for name in ["alice", "bob"] {
        home.json(&["account", "show", "--as", name]);
    }
    server.stop();
    let config = home.data().join("config.toml");
    let usual = fs::read_to_string(&config).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let table = format!(
            "[traces]\nendpoint = \"http://{address}\"\nsample_ratio = 1.0\nqueue_spans_max = 64\nexport_timeout_ms = 200\n"
        );
        fs::write(&config, format!("{usual}\n{table}")).unwrap();
        let server = Server::up_with(&home, &addresses.each_ref().map(String::as_str));
        let texts: Vec<String> = (0..3).map(|n| format!("{address} {n}")).collect();
        for text in &texts {
            home.json(&["send", "--as", "alice", "--to", "bob", text]);
        }
        until("a drop to be counted", || {
            let metrics = server.page("/metrics").1;
            let prefix = "buslane_spans_dropped_total{why=\"export\"} ";
            let dropped = metrics.lines().find_map(|line| line.strip_prefix(prefix))?;
            (dropped != "0").then_some(())
        });
        let seen = home.texts("bob", "alice");
        assert!(texts.iter().all(|text| seen.contains(text)), "{seen:?}");
        let said = || server.log().rsplit("backend started").next().unwrap().matches("took nothing").count();
        until("a line about it", || (said() > 0).then_some(()));
        assert_eq!(said(), 1, "{}", server.log());
        server.stop();
    }
}
