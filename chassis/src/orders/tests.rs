//! The book and its routes on a real disk and over real HTTP, with a node that obeys.

use std::fs;

use buslane_shared::overload::orders::Kind;
use buslane_shared::wire::{Posture, RoleKind};

use super::*;
use crate::admin::{Admin, Role, Token, TokenWish, Tokens};
use crate::api::Backend;
use crate::oversee::{
    DrainFacts, DrainWish, LanesView, NodeFacts, PostureView, RefusalFacts, SessionFacts, Traffic,
    WouldRefuse,
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
    tokens: Arc<Tokens>,
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
        let tokens = Tokens::open(dir.path(), Arc::clone(book.audit()));
        let bound = Admin::new(token, Readiness::new(), telemetry::install_metrics().unwrap())
            .keeping(Arc::clone(&tokens))
            .merge(routes(desk))
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let addr = bound.local_addr();
        let ending = shutdown.clone();
        shutdown.tracker().spawn(async move { bound.run(&ending).await });
        let token = fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
        Self { dir, book, backend, shutdown, addr, token, tokens }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_as(&self.token, method, path, body).await
    }

    /// The token of somebody who has one of his own.
    async fn person(&self, name: &str, role: Role) -> String {
        let wish =
            TokenWish { name: name.into(), role, expires_in_s: None, reason: "x".into(), author: "".into() };
        let made = self.tokens.make(wish, "root".into()).await.unwrap();
        made.token
    }

    async fn ask_as(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
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
        (json!({"kind": "emergency", "author": "k\nim", "reason": "x", "duration_ms": 1}), "order_text"),
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

#[tokio::test]
async fn an_order_has_the_name_of_whoever_has_shown_who_he_is() {
    let world = World::begin().await;
    let given = world.order(json!({"kind": "emergency", "reason": "x", "duration_ms": 60_000})).await;
    assert_eq!(given["order"]["author"], "root");
    assert_eq!(
        world.order(emergency(60_000)).await["order"]["author"],
        "kim",
        "the machine speaks for a person"
    );

    let lee = world.person("lee", Role::Operator).await;
    let (_, answer) = world.ask_as(&lee, "POST", "/v1/orders", emergency(60_000)).await;
    assert_eq!(answer["result"]["order"]["author"], "lee", "{answer}");
    let dry = json!({"kind": "normal", "reason": "x", "author": "kim", "duration_ms": 1, "dry_run": true});
    let (_, answer) = world.ask_as(&lee, "POST", "/v1/orders", dry).await;
    assert_eq!(answer["result"]["order"]["author"], "lee");
    assert_eq!(world.book.audit().last(1).unwrap()[0].author, "lee");
    world.end().await;
}

#[tokio::test]
async fn a_viewer_sees_orders_and_gives_none() {
    let world = World::begin().await;
    let eve = world.person("eve", Role::Viewer).await;
    for path in ["/v1/posture", "/v1/lanes", "/v1/orders", "/v1/audit"] {
        assert_eq!(world.ask_as(&eve, "GET", path, Value::Null).await.0, 200, "{path}");
    }
    for path in ["/v1/orders", "/v1/orders/merge"] {
        let (status, answer) = world.ask_as(&eve, "POST", path, emergency(1_000)).await;
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("forbidden")));
        assert!(answer["error"]["message"].as_str().unwrap().contains("role operator"), "{answer}");
    }
    assert_eq!(world.actions(), ["token.make"]);
    world.end().await;
}

#[tokio::test]
async fn orders_that_are_handed_over_hold_are_kept_and_are_recorded_once() {
    let (there, here) = (World::begin().await, World::begin().await);
    there.order(emergency(60_000)).await;
    let orders = there.get("/v1/orders").await["orders"].clone();
    let peer = here.person("there", Role::Operator).await;
    let mut handed = json!({ "orders": orders });
    let (status, answer) = here.ask_as(&peer, "POST", "/v1/orders/merge", handed.clone()).await;
    assert_eq!((status, &answer["result"]["new"]), (200, &json!([orders[0]["id"]])), "{answer}");
    assert_eq!(here.get("/v1/posture").await["posture"], "emergency");
    assert!(fs::read_to_string(here.dir.path().join("orders.json")).unwrap().contains("drill"));
    let (_, again) = here.ask_as(&peer, "POST", "/v1/orders/merge", handed.clone()).await;
    assert_eq!(again["result"], json!({"new": [], "refused": null}));
    assert_eq!(here.actions(), ["token.make", "order.handed_over"]);
    assert_eq!(here.book.audit().last(1).unwrap()[0].author, "there");

    handed["orders"][0]["reason"] = json!("");
    handed["orders"][0]["id"] = json!(7);
    let (_, refused) = here.ask_as(&peer, "POST", "/v1/orders/merge", handed).await;
    assert_eq!(refused["result"]["refused"]["code"], "order_without_reason");
    there.end().await;
    here.end().await;
}
