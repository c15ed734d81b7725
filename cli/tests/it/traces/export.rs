//! What reaches a collector of a login and of a message, and that nobody waits for one that is gone.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::collector::{Collector, Taken};
use crate::roles::free_ports;
use crate::support::{Home, Server, until};

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

/// The spans of a collector, to be asked for.
struct Spans(Vec<Taken>);

impl Spans {
    fn find(&self, what: (&str, &str, SpanKind)) -> Option<&Taken> {
        self.0.iter().rev().find(|s| (s.service.as_str(), s.name.as_str(), s.kind) == what)
    }

    fn child(&self, of: &Taken, what: (&str, &str, SpanKind)) -> &Taken {
        let is_child = |s: &&Taken| s.parent == of.id && s.trace == of.trace;
        let is_it = |s: &&Taken| (s.service.as_str(), s.name.as_str(), s.kind) == what;
        let found = self.0.iter().filter(is_child).find(is_it);
        found.unwrap_or_else(|| panic!("no {what:?} below {of:?} among {:#?}", self.0))
    }

    fn services_of(&self, trace: &[u8]) -> Vec<&str> {
        let mut services: Vec<&str> =
            self.0.iter().filter(|s| s.trace == trace).map(|s| s.service.as_str()).collect();
        services.sort_unstable();
        services.dedup();
        services
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
    for name in ["alice", "bob"] {
        let made =
            home.json(&["ctl", "enrol-code", name, "--admin", backend.address("admin"), "--token", &token]);
        let code = made[0]["code"].as_str().unwrap();
        home.json(&[&["account", "enrol", "--code", code, "--as", name], &at[..]].concat());
    }
    home.json(&[&["send", "--as", "alice", "--to", "bob", "first"], &at[..]].concat());
    let follow = ["tail", "--as", "bob", "--with", "alice", "--follow", "--json"];
    let mut bob = home.command(&[&follow[..], &at[..]].concat()).spawn().unwrap();
    let mut lines = BufReader::new(bob.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("first"), "bob is there");
    home.json(&[&["send", "--as", "alice", "--to", "bob", TEXT], &at[..]].concat());
    assert!(lines.next().unwrap().unwrap().contains(TEXT));
    bob.kill().unwrap();
    bob.wait().unwrap();
    // The end of a process sends what it has.
    (gateway.stop(), manager.stop(), backend.stop());
    let spans = Spans(collector.spans());

    the_message(&spans);
    the_login(&spans);
    the_enrolment(&spans);
    nothing_private(&spans);
    assert!(collector.tenants().iter().all(|tenant| tenant == "one"));
}

fn the_message(spans: &Spans) {
    use SpanKind::{Client, Consumer, Internal, Producer, Server};
    const RELAY: &str = "buslane.v1.Backend/Relay";
    let asked = spans.find((MANAGER, "message.send", Server)).unwrap();
    assert_eq!(asked.attributes["buslane.class"], "C1");
    assert_eq!(asked.attributes["buslane.decision"], "admitted");
    assert!(asked.attributes.contains_key("buslane.queue_wait_seconds"));
    assert!(!asked.attributes.contains_key("error.type"), "{asked:?}");
    let client = spans.child(asked, (MANAGER, RELAY, Client));
    let server = spans.child(client, (BACKEND, RELAY, Server));
    let sent = spans.child(server, (BACKEND, "message.send", Internal));
    spans.child(sent, (BACKEND, "authorise and order", Internal));
    spans.child(sent, (BACKEND, "commit", Internal));
    let delivered = spans.child(sent, (BACKEND, "deliver", Producer));
    assert_eq!(delivered.attributes["buslane.members"], "IntValue(2)");
    let pushed = spans.child(delivered, (MANAGER, "push", Consumer));
    assert_eq!(pushed.trace, asked.trace);
}

/// From the gateway to the first thing that the session asks the backend for.
fn the_login(spans: &Spans) {
    let entered = spans.find((GATEWAY, "enter", SpanKind::Server)).unwrap();
    assert!(entered.parent.is_empty(), "{entered:?}");
    let login = spans.child(entered, (MANAGER, "login", SpanKind::Server));
    assert_eq!(login.attributes["buslane.decision"], "admitted");
    let of_login = |s: &&Taken| s.parent == login.id && s.service == MANAGER;
    assert_eq!(spans.0.iter().filter(of_login).count(), 1, "its first request, and no other");
    assert_eq!(spans.services_of(&entered.trace), [BACKEND, GATEWAY, MANAGER]);
}

fn the_enrolment(spans: &Spans) {
    const ENROL: &str = "buslane.v1.Backend/Enrol";
    let asked = spans.find((GATEWAY, "enrol", SpanKind::Server)).unwrap();
    let client = spans.child(asked, (GATEWAY, ENROL, SpanKind::Client));
    assert_eq!(client.attributes["rpc.system.name"], "grpc");
    let server = spans.child(client, (BACKEND, ENROL, SpanKind::Server));
    spans.child(server, (BACKEND, "enrol", SpanKind::Internal));
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
            metrics.contains("buslane_spans_dropped_total{why=\"export\"}").then_some(())
        });
        let seen = home.texts("bob", "alice");
        assert!(texts.iter().all(|text| seen.contains(text)), "{seen:?}");
        let log = server.log();
        let last_start = log.rsplit("backend started").next().unwrap();
        assert_eq!(last_start.matches("took nothing").count(), 1, "{log}");
        server.stop();
    }
}
