//! The operator's door over real HTTP.

mod certificates;
mod crowd;
mod page;
mod rights;
mod sign_in;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::routing::post;
use futures_util::stream;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::audit::Audit;
use crate::telemetry;
use crate::testing::{http, until};

struct World {
    addr: SocketAddr,
    token: Token,
    tokens: Arc<Tokens>,
    audit: Arc<Audit>,
    readiness: Readiness,
    shutdown: Shutdown,
    /// Streams that are open.
    streams: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    world_with(|bound| bound).await
}

/// A world whose surface is changed before it is served.
async fn world_with(change: impl FnOnce(BoundAdmin) -> BoundAdmin) -> World {
    world_of(|admin| admin, change).await
}

/// A world whose surface is changed before it is bound, and before it is served.
async fn world_of(more: impl FnOnce(Admin) -> Admin, change: impl FnOnce(BoundAdmin) -> BoundAdmin) -> World {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(&folder.path().join("admin.token")).unwrap();
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let audit = Audit::open(folder.path()).unwrap().0;
    let tokens = Tokens::open(folder.path(), Arc::clone(&audit));
    let streams = Arc::default();
    let admin = Admin::new(token.clone(), readiness.clone(), telemetry::install_metrics().unwrap());
    let bound = more(admin)
        .keeping(Arc::clone(&tokens))
        .known_as(&["ops.example".to_owned()])
        .merge(routes(&streams))
        .merge_for_admins(Router::new().route("/v1/keys", get(|| async { "keys" })))
        .open(Router::new().route("/login", get(|| async { "the login page" })))
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let admin = change(bound);
    let addr = admin.local_addr();
    let ending = shutdown.clone();
    shutdown.tracker().spawn(async move { admin.run(&ending).await });
    World { addr, token, tokens, audit, readiness, shutdown, streams, _folder: folder }
}

/// What stands for the routes of others: who one is, what one sends, and streams that never end.
fn routes(streams: &Arc<AtomicUsize>) -> Router {
    let me =
        |Extension(who): Extension<Principal>| async move { format!("{} {}", who.name, who.role.name()) };
    let quiet = Arc::clone(streams);
    let loud = Arc::clone(streams);
    Router::new()
        .route("/v1/me", get(me))
        .route("/v1/echo", post(|body: String| async move { body }))
        .route("/v1/live", get(|| async move { endless("data: hello\n\n", 1, Open::new(&quiet)) }))
        .route("/v1/flood", get(|| async move { endless("data: more\n\n", usize::MAX, Open::new(&loud)) }))
}

/// An event stream that writes `events` times at once and never ends.
fn endless(event: &'static str, events: usize, open: Open) -> Response {
    let next = move |(sent, open)| async move {
        if sent >= events {
            std::future::pending::<()>().await;
        }
        Some((Ok::<_, Infallible>(Bytes::from_static(event.as_bytes())), (sent + 1, open)))
    };
    let body = Body::from_stream(stream::unfold((0, open), next));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// Counts itself among the open streams until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(streams))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer.
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    /// The stable code of a refusal.
    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A header with a token.
fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

impl World {
    /// Sends a request with these lines in its head. Without a `Host` among them it is the address.
    async fn send(&self, method: &str, path: &str, lines: &[&str], body: &str) -> Answer {
        let host = format!("Host: {}", self.addr);
        let host =
            if lines.iter().any(|line| line.starts_with("Host:")) { None } else { Some(host.as_str()) };
        let lines: String = lines.iter().copied().chain(host).map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{lines}\r\n{body}"
        );
        let (status, head, body) = http(self.addr, &request).await;
        Answer { status, head: head.to_lowercase(), body }
    }

    /// Makes a token of this role; the token and its id.
    async fn token_for(&self, name: &str, role: &str, expires_in_s: Option<u64>) -> (String, String) {
        let wish = json!({"name": name, "role": role, "expires_in_s": expires_in_s, "reason": "test"});
        let lines = [&*bearer(self.token.reveal()), "Content-Type: application/json"];
        let made = self.send("POST", "/v1/tokens", &lines, &wish.to_string()).await;
        assert_eq!(made.status, 200, "{}", made.body);
        let made = made.json()["result"].clone();
        (made["token"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
    }

    /// What the audit has of an action, newest last; waits for the first.
    async fn recorded(&self, action: &str) -> Vec<crate::audit::Record> {
        let of = |audit: &Audit| {
            let all = audit.last(100).unwrap();
            all.into_iter().filter(|record| record.action == action).collect::<Vec<_>>()
        };
        until("it is recorded", || !of(&self.audit).is_empty()).await;
        of(&self.audit)
    }

    /// Status, headers and body of the answer to a request.
    async fn ask(&self, method: &str, path: &str, authorization: Option<&str>) -> (u16, String, String) {
        let authorization = authorization.map(|a| format!("Authorization: {a}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n{authorization}\r\nhi"
        );
        let (status, head, body) = http(self.addr, &request).await;
        (status, head.to_lowercase(), body)
    }

    async fn end(self) {
        assert!(self.shutdown.finish(Duration::from_secs(10)).await);
    }
}

#[tokio::test]
async fn health_and_metrics_are_open() {
    let world = world().await;
    let (status, _, body) = world.ask("GET", "/healthz", None).await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    metrics::counter!("buslane_admin_test_total").increment(1);
    let (status, head, body) = world.ask("GET", "/metrics", None).await;
    assert_eq!(status, 200);
    assert!(head.contains("text/plain"), "{head}");
    assert!(body.contains("buslane_admin_test_total 1"), "{body}");
    world.end().await;
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let world = world().await;
    let store = world.readiness.check("store");
    let (status, _, body) = world.ask("GET", "/readyz", None).await;
    assert_eq!(status, 503);
    assert_eq!(body, r#"{"checks":{"store":{"ready":false,"why":"starting"}},"ready":false}"#);
    store.ready();
    let (status, _, body) = world.ask("GET", "/readyz", None).await;
    assert_eq!((status, body.as_str()), (200, r#"{"checks":{"store":{"ready":true}},"ready":true}"#));
    store.not_ready("the disk is full");
    assert!(world.ask("GET", "/readyz", None).await.2.contains("the disk is full"));
    world.end().await;
}

#[tokio::test]
async fn a_node_that_drains_is_not_ready_from_the_next_look_on_until_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(&folder.path().join("admin.token")).unwrap();
    let (readiness, shutdown, drains) = (Readiness::new(), Shutdown::new(), Arc::new(AtomicUsize::new(0)));
    readiness.check("store").ready();
    let asked = Arc::clone(&drains);
    let bound = Admin::new(token, readiness.clone(), telemetry::install_metrics().unwrap())
        .draining(move || (asked.load(Ordering::SeqCst) > 0).then(|| "it drains".to_owned()))
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let (addr, ending) = (bound.local_addr(), shutdown.clone());
    shutdown.tracker().spawn(async move { bound.run(&ending).await });
    for (drains_now, status, check) in [
        (0, 200, r#""drain":{"ready":true}"#),
        (1, 503, r#""drain":{"ready":false,"why":"it drains"}"#),
        (0, 200, r#""drain":{"ready":true}"#),
    ] {
        drains.store(drains_now, Ordering::SeqCst);
        let request = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let (said, _, body) = http(addr, request).await;
        assert_eq!(said, status, "{body}");
        assert!(body.contains(check), "{body}");
    }
    assert!(readiness.is_ready(), "it lacks nothing");
    assert!(shutdown.finish(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn everything_else_needs_the_token() {
    let world = world().await;
    let bearer = format!("Bearer {}", world.token.reveal());
    let (status, _, body) = world.ask("POST", "/v1/echo", Some(&bearer)).await;
    assert_eq!((status, body.as_str()), (200, "hi"));
    let wrong = format!("Bearer {}", "0".repeat(64));
    let short = "Bearer ".to_owned();
    let basic = format!("Basic {}", world.token.reveal());
    for path in ["/v1/echo", "/v1/none", "/"] {
        for authorization in [None, Some(&wrong), Some(&short), Some(&basic)] {
            let (status, head, body) = world.ask("POST", path, authorization.map(String::as_str)).await;
            assert_eq!(status, 401, "{path} {authorization:?}");
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            assert!(body.contains(r#""code":"unauthorized""#), "{body}");
        }
    }
    assert_eq!(world.ask("POST", "/v1/none", Some(&bearer)).await.0, 404);
    world.end().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_and_does_not_lock_the_operator_out() {
    let world = world().await;
    let mut last = (0, String::new());
    for _ in 0..21 {
        let (status, head, _) = world.ask("POST", "/v1/echo", Some("Bearer guess")).await;
        last = (status, head);
    }
    assert_eq!(last.0, 429);
    assert!(last.1.contains("retry-after: "), "{}", last.1);
    let bearer = format!("bearer {}", world.token.reveal());
    assert_eq!(world.ask("POST", "/v1/echo", Some(&bearer)).await.0, 200);
    assert_eq!(world.ask("GET", "/healthz", None).await.0, 200);
    world.end().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_and_not_a_wait() {
    let taken = world().await;
    let folder = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(&folder.path().join("t")).unwrap();
    let admin = Admin::new(token, Readiness::new(), telemetry::install_metrics().unwrap());
    let error = admin.bind(taken.addr).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    taken.end().await;
}

#[tokio::test]
async fn an_open_connection_does_not_hold_up_the_shutdown() {
    let world = world().await;
    let mut idle = TcpStream::connect(world.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn connections_that_ask_nothing_are_few_and_end() {
    let world = world().await;
    let mut idle = Vec::new();
    for _ in 0..serve::CONNECTIONS_MAX {
        idle.push(TcpStream::connect(world.addr).await.unwrap());
    }
    let asking = world.ask("GET", "/healthz", None);
    let (status, _, _) = tokio::time::timeout(serve::HEAD_LIMIT * 3, asking).await.expect("an answer");
    assert_eq!(status, 200);
    world.end().await;
}

#[test]
fn the_token_file_is_made_once_private_and_checked() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.token");
    let made = Token::load_or_create(&path).unwrap();
    assert_eq!(made.reveal().len(), 64);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Token::load_or_create(&path).unwrap().reveal(), made.reveal());
    assert_eq!(format!("{made:?}"), "Token(…)");
    std::fs::write(&path, "secret").unwrap();
    assert!(matches!(Token::load_or_create(&path), Err(TokenError::Weak(_))));
}
