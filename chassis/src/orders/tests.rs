//! The book and its routes on a real disk and over real HTTP, with a node that obeys.

use std::fs;

use buslane_shared::overload::orders::Kind;
use buslane_shared::wire::{Posture, RoleKind};

use super::*;
use crate::admin::{Admin, Token};
use crate::api::Backend;
use crate::oversee::{
    DrainFacts, DrainWish, LanesView, NodeFacts, PostureView, RefusalFacts, SessionFacts, Traffic, WouldRefuse,
};
use crate::readiness::Readiness;
use crate::telemetry;
use crate::testing::{Recorder, http, until};

/// A node that does at once what is ordered.
struct Obedient {
    orders: watch::Receiver<Arc<Orders>>,
}

impl Overseer for Obedient {
    fn posture(&self) -> PostureView {
        let orders = Arc::clone(&self.orders.borrow());
        let order = orders.in_force(clock::unix_ms());
        let emergency = order.is_some_and(|order| order.kind == Kind::Emergency);
        PostureView {
            node: "here".into(),
            posture: if emergency { Posture::Emergency } else { Posture::Normal },
            since_ms: 0,
            measured: Posture::Guard,
            cause: None,
            order: order.map(|order| order.id),
            level: 1024,
            background_per_s: 10.0,
            ledger_ms: 0,
        }
    }

    fn lanes(&self) -> LanesView {
        LanesView { policy: "buslane", seats: 512, background_seats: 500, lanes: vec![], protocols: vec![] }
    }

    fn would_refuse(&self, posture: Posture) -> Vec<WouldRefuse> {
        let refused_then = if posture == Posture::Emergency { 7 } else { 0 };
        vec![WouldRefuse { protocol: "login", class: "C5", offered: 7, refused_now: 0, refused_then }]
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    fn sessions(&self, _: &str) -> Vec<SessionFacts> {
        Vec::new()
    }

    fn refusals(&self, _: &str) -> Vec<RefusalFacts> {
        Vec::new()
    }

    fn disconnect(&self, _: &str, _: &str) -> bool {
        false
    }

    fn drain(&self, _: DrainWish) -> Result<(), String> {
        Err("this node has no sessions".to_owned())
    }

    fn drain_state(&self) -> DrainFacts {
        DrainFacts::default()
    }

    fn node(&self) -> NodeFacts {
        NodeFacts { name: "here".into(), sessions_front: 0, sessions_wake: 0, started_ms: 0 }
    }
}

struct World {
    dir: tempfile::TempDir,
    book: Arc<Book>,
    backend: Arc<Recorder>,
    shutdown: Shutdown,
    addr: std::net::SocketAddr,
    token: String,
}

impl World {
    async fn begin() -> Self {
        Self::begin_in(tempfile::tempdir().unwrap()).await
    }

    async fn begin_in(dir: tempfile::TempDir) -> Self {
        let shutdown = Shutdown::new();
        let (audit, _) = Audit::open(dir.path()).unwrap();
        let book = Book::open(dir.path(), audit);
        let backend = Recorder::new();
        let shared: Backend = backend.shared();
        let feed = Feed::follow(shared, RoleKind::SessionManager, "here", &shutdown);
        let overseer: Arc<dyn Overseer> = Arc::new(Obedient { orders: book.watch() });
        book.run(&feed, Some(Arc::clone(&overseer)), &shutdown);
        let desk = Desk { book: Arc::clone(&book), overseer: Some(overseer), feed };
        let token = Token::load_or_create(&dir.path().join("admin.token")).unwrap();
        let bound = Admin::new(token, Readiness::new(), telemetry::install_metrics().unwrap())
            .merge(routes(desk))
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let addr = bound.local_addr();
        let ending = shutdown.clone();
        shutdown.tracker().spawn(async move { bound.run(&ending).await });
        let token = fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
        Self { dir, book, backend, shutdown, addr, token }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let (status, _, body) = http(self.addr, &request).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {body}")))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        answer["result"].clone()
    }

    async fn order(&self, body: Value) -> Value {
        let (status, answer) = self.ask("POST", "/v1/orders", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["result"].clone()
    }

    fn actions(&self) -> Vec<String> {
        self.book.audit().last(100).unwrap().into_iter().map(|record| record.action).collect()
    }

    async fn end(self) -> tempfile::TempDir {
        assert!(self.shutdown.finish(Duration::from_secs(10)).await);
        self.dir
    }
}

fn emergency(duration_ms: u64) -> Value {
    json!({"kind": "emergency", "reason": "drill", "author": "kim", "duration_ms": duration_ms})
}

#[tokio::test]
async fn an_order_is_recorded_kept_obeyed_and_over() {
    let world = World::begin().await;
    let given = world.order(emergency(400)).await;
    assert_eq!(given["not_kept"], Value::Null);
    assert_eq!((&given["effective"]["nodes"], &given["effective"]["of"]), (&json!(1), &json!(1)));
    assert!(given["effective"]["after_ms"].as_u64().unwrap() <= 200, "{given}");
    let kept = fs::read_to_string(world.dir.path().join("orders.json")).unwrap();
    assert!(kept.contains("drill"), "{kept}");

    let shown = world.get("/v1/posture").await;
    assert_eq!((&shown["posture"], &shown["source"]), (&json!("emergency"), &json!("ordered")));
    let order = &shown["order"];
    assert_eq!((&order["author"], &order["reason"]), (&json!("kim"), &json!("drill")));
    assert_eq!(
        order["until_ms"].as_u64().unwrap(),
        order["from_ms"].as_u64().unwrap() + 400,
        "an order says when it ends"
    );

    until("the order is over and that is recorded", || world.actions().len() == 2).await;
    assert_eq!(world.actions(), ["order.emergency", "order.ended"]);
    let shown = world.get("/v1/posture").await;
    assert_eq!((&shown["posture"], &shown["source"]), (&json!("normal"), &json!("measured")));
    assert_eq!(shown["order"], Value::Null);
    let audit = world.get("/v1/audit?limit=1").await;
    assert_eq!(audit["entries"].as_array().unwrap().len(), 1);
    assert_eq!(audit["entries"][0]["author"], "buslane");
    assert_eq!((&audit["report"]["entries"], &audit["report"]["damage"]), (&json!(2), &json!([])));
    world.end().await;
}

#[tokio::test]
async fn an_order_survives_a_restart_and_what_ended_meanwhile_is_recorded() {
    let world = World::begin().await;
    world.order(emergency(3_600_000)).await;
    world.order(json!({"kind": "normal", "reason": "short", "author": "lee", "duration_ms": 1})).await;
    let dir = world.end().await;
    let world = World::begin_in(dir).await;
    assert_eq!(world.get("/v1/posture").await["posture"], "emergency");
    until("the end of the short one is recorded", || {
        world.actions().last().is_some_and(|action| action == "order.ended")
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn what_is_no_order_is_refused_and_leaves_no_trace() {
    let world = World::begin().await;
    for (body, code) in [
        (json!({"kind": "emergency", "author": "kim", "duration_ms": 1}), "order_without_reason"),
        (json!({"kind": "emergency", "author": "kim", "reason": "x"}), "order_without_end"),
        (json!({"kind": "emergency", "reason": "x", "duration_ms": 1}), "order_without_author"),
    ] {
        let (status, answer) = world.ask("POST", "/v1/orders", body).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)));
    }
    assert_eq!(world.actions(), [] as [&str; 0]);
    assert_eq!(world.get("/v1/orders").await["orders"], json!([]));
    world.end().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_refused_and_does_nothing() {
    let world = World::begin().await;
    let mut body = emergency(1_000);
    body["dry_run"] = json!(true);
    let would = world.order(body).await;
    assert_eq!((&would["posture_now"], &would["posture_then"]), (&json!("normal"), &json!("emergency")));
    assert_eq!(would["refuse"][0]["refused_then"], 7);
    assert_eq!(world.actions(), [] as [&str; 0]);
    assert_eq!(world.get("/v1/orders").await["orders"], json!([]));
    assert_eq!(world.get("/v1/lanes").await["seats"], 512);
    world.end().await;
}

#[tokio::test]
async fn orders_of_others_are_obeyed_and_not_recorded_twice() {
    let world = World::begin().await;
    let now_ms = clock::unix_ms();
    let order = wire::Order {
        id: now_ms,
        kind: wire::OrderKind::Emergency.into(),
        reason: "elsewhere".into(),
        author: "lee".into(),
        given_ms: now_ms,
        from_ms: now_ms,
        until_ms: now_ms + 60_000,
    };
    let nonsense = wire::Order { id: 1, ..Default::default() };
    let node = |name: &str| wire::Node { name: name.into(), ..Default::default() };
    let load = |node: &str, order| wire::NodeLoad {
        node: node.into(),
        load: Some(wire::Load { order, ..Default::default() }),
    };
    world.backend.state.send_modify(|state| {
        state.nodes = Some(wire::NodeSet { nodes: vec![node("here"), node("far"), node("slow")] });
        state.orders = Some(wire::OrderSet { orders: vec![nonsense, order] });
        state.loads = Some(wire::LoadSet { nodes: vec![load("far", now_ms), load("slow", 0)], gateways: 1 });
    });
    let mut reach = world.book.reach();
    let both = reach.wait_for(|reach| reach.has("here") && reach.has("far"));
    tokio::time::timeout(Duration::from_secs(10), both).await.unwrap().unwrap();
    let shown = world.get("/v1/posture").await;
    assert_eq!(shown["order"]["reason"], "elsewhere");
    assert_eq!((&shown["effective"]["nodes"], &shown["effective"]["of"]), (&json!(2), &json!(3)));
    assert_eq!(shown["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(world.actions(), [] as [&str; 0], "it is in the audit of the node that it was given at");
    // Back to what is measured, for those that it came from too.
    let ended = world.order(json!({"kind": "automatic", "reason": "over", "author": "kim"})).await;
    assert_eq!((&ended["effective"]["nodes"], &ended["effective"]["of"]), (&json!(2), &json!(3)));
    assert_eq!(world.get("/v1/posture").await["source"], "measured");
    world.end().await;
}

fn wish() -> Wish {
    Wish {
        kind: Kind::Emergency,
        reason: "x".into(),
        author: "kim".into(),
        from_ms: None,
        duration_ms: Some(1_000),
    }
}

#[tokio::test]
async fn an_order_that_cannot_be_kept_is_obeyed_until_a_restart() {
    let world = World::begin().await;
    fs::create_dir(world.dir.path().join("orders.json")).unwrap();
    let given = world.book.give(wish()).await.unwrap();
    assert!(given.not_kept.is_some());
    assert_eq!(world.actions(), ["order.emergency"]);
    assert_eq!(world.get("/v1/posture").await["posture"], "emergency");
    world.end().await;
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = Audit::open_with(dir.path(), 1).unwrap();
    let book = Book::open(dir.path(), audit);
    book.give(wish()).await.unwrap();
    // The next entry closes this file first, and cannot.
    fs::remove_file(dir.path().join("audit.jsonl")).unwrap();
    let before = book.watch().borrow().clone();
    assert!(matches!(book.give(wish()).await, Err(GiveError::Audit(_))));
    assert_eq!(*book.watch().borrow(), before);
}

#[test]
fn a_damaged_book_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("orders.json"), b"{\"orders\":[").unwrap();
    let (audit, _) = Audit::open(dir.path()).unwrap();
    let book = Book::open(dir.path(), audit);
    assert_eq!(book.watch().borrow().iter().count(), 0);
    assert!(dir.path().join("orders.json.damaged").exists());
}
