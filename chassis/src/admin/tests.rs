//! The operator's door over real HTTP.

use std::time::Duration;

use axum::routing::post;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::telemetry;
use crate::testing::http;

struct World {
    addr: SocketAddr,
    token: Token,
    readiness: Readiness,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(&folder.path().join("admin.token")).unwrap();
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let routes = Router::new().route("/v1/echo", post(|body: String| async move { body }));
    let admin = Admin::new(token.clone(), readiness.clone(), telemetry::install_metrics().unwrap())
        .merge(routes)
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let addr = admin.local_addr();
    let ending = shutdown.clone();
    shutdown.tracker().spawn(async move { admin.run(&ending).await });
    World { addr, token, readiness, shutdown, _folder: folder }
}

impl World {
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
    for _ in 0..61 {
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
