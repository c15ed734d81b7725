//! A node that does what a test says, and its seat over real HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::admin::tls::AdminTls;
use buslane_chassis::admin::{Admin, Token, Tokens};
use buslane_chassis::audit::Audit;
use buslane_chassis::clock;
use buslane_chassis::feed::Feed;
use buslane_chassis::orders::{self, Book, Desk};
use buslane_chassis::oversee::{
    CauseView, DrainFacts, DrainWish, LaneRow, LanesView, NodeFacts, Overseer, PostureView, RefusalFacts,
    Refusals, SessionFacts, Traffic, TrafficRow, WouldRefuse,
};
use buslane_chassis::readiness::Readiness;
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::telemetry;
use buslane_shared::UnixMs;
use buslane_shared::class::{CLASSES, Class};
use buslane_shared::overload::orders::{Kind, Orders};
use buslane_shared::wire::Posture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::sampler::{Picture, Reading, between};
use crate::seat::{Parts, Seat};
use crate::view::{DrillView, Sample};

/// Waits until `holds`, at most ten seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < limit, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A calm node.
pub(crate) fn picture(posture: Posture) -> Picture {
    Picture {
        posture,
        measured: posture,
        order: None,
        level: 1_024,
        background_per_s: 50.0,
        ledger_ms: 0,
        waiting: [0; CLASSES],
        resident_bytes: 1_000,
        sessions_front: 2,
        sessions_wake: 3,
    }
}

/// A calm second.
pub(crate) fn sample(at_ms: UnixMs) -> Sample {
    let before = Reading::default();
    let after = Reading { at_ms, at: Duration::from_secs(1), ..Reading::default() };
    between(&before, &after, &picture(Posture::Normal)).unwrap()
}

/// A drill of that name.
pub(crate) fn drill(scenario: &str) -> DrillView {
    DrillView {
        began: "2026-11-21T03:00:00Z".into(),
        scenario: scenario.into(),
        against: None,
        scale: 1.0,
        hypothesis: "nobody notices".into(),
        verdict: "pass".into(),
        fg_success: Some(1.0),
        fg_p99_ms: Some(3.5),
        enter_ms: None,
        exit_s: None,
        lost: Some(0),
    }
}

/// A node that says what it is told to say, and obeys orders at once.
pub(crate) struct Puppet {
    name: String,
    orders: watch::Receiver<Arc<Orders>>,
    pub(crate) posture: Mutex<Posture>,
    pub(crate) cause: Mutex<Option<CauseView>>,
    /// Messages and background logins: asked for, served, deferred.
    pub(crate) messages: Mutex<u64>,
    pub(crate) logins: Mutex<[u64; 3]>,
    pub(crate) sessions: Mutex<Vec<SessionFacts>>,
    pub(crate) refusals: Mutex<Vec<RefusalFacts>>,
    pub(crate) drain: Mutex<DrainFacts>,
}

impl Overseer for Puppet {
    fn posture(&self) -> PostureView {
        let orders = Arc::clone(&self.orders.borrow());
        let order = orders.in_force(clock::unix_ms());
        let measured = *self.posture.lock();
        let posture = match order.map(|order| order.kind) {
            Some(Kind::Emergency) => Posture::Emergency,
            Some(Kind::Normal) => Posture::Normal,
            _ => measured,
        };
        PostureView {
            node: self.name.clone(),
            posture,
            since_ms: 0,
            measured,
            cause: self.cause.lock().clone(),
            order: order.map(|order| order.id),
            level: 1_024,
            background_per_s: 10.0,
            ledger_ms: 0,
        }
    }

    fn lanes(&self) -> LanesView {
        let lane = |class: Class| LaneRow {
            class: class.name(),
            title: class.title(),
            guarantee: 1,
            ceiling: 512,
            in_use: 0,
            waiting: 7,
            waiting_bytes: 0,
            predicted_wait_us: 0,
            admitted_per_s: 0.0,
            refused_per_s: 0.0,
        };
        let lanes = Class::ALL.into_iter().map(lane).collect();
        LanesView { policy: "buslane", seats: 512, background_seats: 500, lanes, protocols: Vec::new() }
    }

    fn would_refuse(&self, _: Posture) -> Vec<WouldRefuse> {
        Vec::new()
    }

    fn traffic(&self) -> Traffic {
        let row = |class, protocol, [offered, served, deferred]: [u64; 3]| TrafficRow {
            class,
            protocol,
            offered,
            served,
            deferred,
            refused: 0,
            reasons: Vec::new(),
        };
        let messages = *self.messages.lock();
        let rows =
            vec![row("C1", "message.send", [messages, messages, 0]), row("C5", "login", *self.logins.lock())];
        Traffic { rows, latency: Vec::new() }
    }

    fn sessions(&self, user: &str) -> Vec<SessionFacts> {
        if user == "alice" { self.sessions.lock().clone() } else { Vec::new() }
    }

    fn refusals(&self, user: &str) -> Vec<RefusalFacts> {
        if user == "alice" { self.refusals.lock().clone() } else { Vec::new() }
    }

    fn disconnect(&self, user: &str, device: &str) -> bool {
        let mut sessions = self.sessions.lock();
        let before = sessions.len();
        sessions.retain(|session| user != "alice" || session.device != device);
        sessions.len() < before
    }

    fn drain(&self, wish: DrainWish) -> Result<(), String> {
        let mut drain = self.drain.lock();
        *drain = match wish {
            DrainWish::Begin { per_s } => {
                DrainFacts { draining: true, from_sessions: 40, sessions: 40, asked: 0, per_s }
            }
            DrainWish::End => DrainFacts { sessions: drain.sessions, ..DrainFacts::default() },
        };
        Ok(())
    }

    fn drain_state(&self) -> DrainFacts {
        *self.drain.lock()
    }

    fn node(&self) -> NodeFacts {
        NodeFacts { name: self.name.clone(), sessions_front: 2, sessions_wake: 3, started_ms: 0 }
    }
}

/// A session of a device.
pub(crate) fn session(device: &str) -> SessionFacts {
    SessionFacts {
        device: device.into(),
        port: "front",
        app_state: "foreground",
        connected: true,
        since_ms: 5,
        last: Vec::new(),
    }
}

/// A refusal at that time.
pub(crate) fn refusal(at_ms: UnixMs) -> RefusalFacts {
    RefusalFacts {
        at_ms,
        device: None,
        what: "hello",
        code: "busy",
        class: Some("C5"),
        level: Some(700),
        cut: Some(640),
        posture: "emergency",
        retry_at_ms: None,
        slot_at_ms: Some(at_ms + 30_000),
        sentence: "it was full".into(),
    }
}

/// A seat over real HTTP.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) seat: Arc<Seat>,
    pub(crate) puppet: Option<Arc<Puppet>>,
    pub(crate) addr: SocketAddr,
    pub(crate) token: String,
    shutdown: Shutdown,
}

/// What a process is.
pub(crate) enum Role {
    /// It controls load.
    Manager,
    /// It does not.
    Gateway,
}

impl World {
    /// A session manager that knows these others.
    pub(crate) async fn begin(name: &str, others: &[&Self]) -> Self {
        Self::begin_as(Role::Manager, name, others).await
    }

    pub(crate) async fn begin_as(role: Role, name: &str, others: &[&Self]) -> Self {
        let config = Config {
            peers: others.iter().map(|other| other.addr).collect(),
            peer_token: others.first().map(|other| other.dir.path().join("admin.token")),
            ..Config::default()
        };
        Self::begin_with(role, name, config).await
    }

    pub(crate) async fn begin_with(role: Role, name: &str, config: Config) -> Self {
        Self::begin_behind(None, role, name, config).await
    }

    /// Where there is a certificate, the admin surface is behind it.
    pub(crate) async fn begin_behind(
        tls: Option<Arc<AdminTls>>,
        role: Role,
        name: &str,
        config: Config,
    ) -> Self {
        let (dir, shutdown) = (tempfile::tempdir().unwrap(), Shutdown::new());
        let (audit, _) = Audit::open(dir.path()).unwrap();
        let book = Book::open(dir.path(), audit);
        let puppet = matches!(role, Role::Manager).then(|| Arc::new(Puppet::new(name, book.watch())));
        let overseer = puppet.clone().map(|puppet| puppet as Arc<dyn Overseer>);
        let feed = Arc::new(Feed::default());
        book.run(&feed, overseer.clone(), &shutdown);
        let desk = Desk { book, overseer, feed };
        let (readiness, token_file) = (Readiness::new(), dir.path().join("admin.token"));
        let parts = Parts {
            node: name.to_owned(),
            role: if puppet.is_some() { "session-manager" } else { "gateway" },
            version: "0.0.1",
            folder: dir.path().to_owned(),
            desk: desk.clone(),
            readiness: readiness.clone(),
            refusals: vec![Arc::new(Refusals::default())],
            probe_target: None,
            certificate_ends: None,
            config,
        };
        let seat = Seat::open(parts).unwrap();
        let token = Token::load_or_create(&token_file).unwrap();
        let mut surface = Admin::new(token, readiness, telemetry::install_metrics().unwrap());
        if let Some(tls) = tls {
            surface = surface.with_tls(tls);
        }
        let bound = surface
            .keeping(Tokens::open(dir.path(), Arc::clone(seat.audit())))
            .merge(crate::api::forwarding(&seat, orders::routes(desk)))
            .merge(seat.routes())
            .open(Seat::open_routes(None))
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let (addr, ending) = (bound.local_addr(), shutdown.clone());
        shutdown.tracker().spawn(async move { bound.run(&ending).await });
        seat.on_listening(addr);
        seat.run(&shutdown);
        let token = std::fs::read_to_string(token_file).unwrap().trim().to_owned();
        Self { dir, seat, puppet, addr, token, shutdown }
    }

    pub(crate) fn puppet(&self) -> &Puppet {
        self.puppet.as_deref().unwrap()
    }

    /// Status and the whole answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, body) = self.raw(method, path, &body.to_string()).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {body}")))
    }

    /// Status and text of the answer.
    pub(crate) async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.addr,
            self.token,
            body.len()
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// The result of a question.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, mut answer) = self.ask("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer["result"].take()
    }

    /// The result of a change.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, mut answer) = self.ask("POST", path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer["result"].take()
    }

    /// Status and code of an error.
    pub(crate) async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.ask(method, path, body).await;
        assert!(status >= 400, "{path}: {answer}");
        (status, answer["error"]["code"].as_str().unwrap().to_owned())
    }

    /// A connection on which a stream was asked for.
    pub(crate) async fn stream(&self, path: &str) -> TcpStream {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.addr, self.token
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Actions in the audit, oldest first.
    pub(crate) fn actions(&self) -> Vec<String> {
        let entries = self.seat.audit().last(100).unwrap();
        entries.into_iter().map(|entry| entry.action).collect()
    }

    pub(crate) async fn end(self) {
        assert!(self.shutdown.finish(Duration::from_secs(10)).await, "a task has not ended");
    }
}

impl Puppet {
    fn new(name: &str, orders: watch::Receiver<Arc<Orders>>) -> Self {
        Self {
            name: name.to_owned(),
            orders,
            posture: Mutex::new(Posture::Normal),
            cause: Mutex::default(),
            messages: Mutex::default(),
            logins: Mutex::default(),
            sessions: Mutex::default(),
            refusals: Mutex::default(),
            drain: Mutex::default(),
        }
    }
}

/// Reads what comes until `mark` was in it; at most ten seconds.
pub(crate) async fn read_until(stream: &mut TcpStream, mark: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        let mut part = [0; 4_096];
        while !String::from_utf8_lossy(&seen).contains(mark) {
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "the stream ended before {mark:?}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&part[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the mark never came");
    String::from_utf8(seen).unwrap()
}
